//! The segment log: the evidence behind every billed millisecond, synced before it is sent.
//!
//! One file. A torn tail is cut off; a damaged file is put aside whole, said aloud, and a new log
//! begins, so that no number of the old one can ever name something else. On a full disk it is gone
//! on with as it is: an agent that could not start would take its replicas out of service.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{BootId, SegmentLogId};
use wharfage_shared::segment::{OpenSegment, Segment};
use wharfage_shared::version::Epoch;

use super::frames::{self, End};

/// Rewritten when it has grown beyond this: acknowledged segments and old notes fall away.
const REWRITE_ABOVE: u64 = 256 * 1024;

/// The first record, which names the log, is longer: what is shorter never named one.
const SHORTEST_LOG: usize = 64;

/// One record of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
enum Record {
    /// The first: which log this is, and up to where it was acknowledged.
    Log { id: SegmentLogId, acknowledged: u64, last: u64 },
    /// A closed segment.
    Closed(Segment),
    /// The open segment, as far as it was proven.
    Open { epoch: Epoch, segment: OpenSegment },
    /// No later number than this needs to be sent again.
    Acknowledged { up_to: u64 },
}

/// What was in the log when the agent started.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: SegmentLog,
    /// The segment that was open, if this is still the same boot.
    pub open: Option<OpenSegment>,
    /// The segment that an earlier boot left open, closed, where the disk did not take it yet.
    pub unsaved: Option<Segment>,
    /// What was wrong with the file, as sentences for an operator.
    pub troubles: Vec<String>,
}

/// The segment log.
#[derive(Debug)]
pub struct SegmentLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    id: SegmentLogId,
    acknowledged: u64,
    last: u64,
    unacknowledged: Vec<Segment>,
    open: Option<(Epoch, OpenSegment)>,
}

impl SegmentLog {
    /// Opens the log of this state folder or begins one; `fresh` names it then.
    pub fn open(state_dir: &Path, boot: &BootId, fresh: SegmentLogId) -> io::Result<Opened> {
        let path = state_dir.join("segments.log");
        let mut troubles = Vec::new();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let aside = put_aside(&path)?;
                troubles.push(format!(
                    "the segment log is a folder: kept as `{}`, a new log begins, the gap stays \
                     visible",
                    aside.display()
                ));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let read = frames::decode(&bytes);
        let records: Option<Vec<Record>> =
            read.records.iter().map(|r| serde_json::from_slice(r).ok()).collect();
        let log = match (records, read.end) {
            (Some(records), End::Clean | End::Torn) if is_log(&records) => {
                if read.end == End::Torn {
                    troubles.push("the segment log's last record was cut off: dropped".to_owned());
                }
                let (log, full) = Self::replay(&path, records, read.good_bytes as u64)?;
                troubles.extend(full);
                log
            }
            (_, End::Clean | End::Torn) if bytes.len() < SHORTEST_LOG => Self::begin(&path, fresh)?,
            _ => {
                let aside = put_aside(&path)?;
                troubles.push(format!(
                    "the segment log is damaged after {} of {} bytes: kept as `{}`, a new log \
                     begins, the gap stays visible",
                    read.good_bytes,
                    bytes.len(),
                    aside.display()
                ));
                Self::begin(&path, fresh)?
            }
        };
        let mut opened = Opened { log, open: None, unsaved: None, troubles };
        opened.settle_open_segment(boot)?;
        Ok(opened)
    }

    /// What an agent that starts would say of the log of this state folder; nothing is changed.
    pub fn inspect(state_dir: &Path) -> io::Result<Option<String>> {
        let bytes = match fs::read(state_dir.join("segments.log")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let said =
                    "the segment log is a folder: the agent will put it aside and begin a new one";
                return Ok(Some(said.to_owned()));
            }
            Err(error) => return Err(error),
        };
        let read = frames::decode(&bytes);
        let records: Option<Vec<Record>> =
            read.records.iter().map(|r| serde_json::from_slice(r).ok()).collect();
        let is_good = records.is_some_and(|records| is_log(&records));
        Ok(match read.end {
            End::Clean | End::Torn if is_good || bytes.len() < SHORTEST_LOG => None,
            _ => Some(format!(
                "the segment log is damaged after {} of {} bytes: the agent will put it aside and \
                 begin a new one",
                read.good_bytes,
                bytes.len()
            )),
        })
    }

    fn begin(path: &Path, id: SegmentLogId) -> io::Result<Self> {
        Self::written(path, id, 0, 0, Vec::new(), None)
    }

    /// The log of these records, which take so many bytes of the file; with a sentence where there is
    /// no room to write it anew.
    fn replay(
        path: &Path,
        records: Vec<Record>,
        good_bytes: u64,
    ) -> io::Result<(Self, Option<String>)> {
        let mut records = records.into_iter();
        let Some(Record::Log { id, mut acknowledged, mut last }) = records.next() else {
            return Err(io::Error::other("the segment log does not begin with its name"));
        };
        let mut closed: Vec<Segment> = Vec::new();
        let mut open = None;
        for record in records {
            match record {
                Record::Log { .. } => {}
                Record::Closed(segment) => {
                    last = last.max(segment.key.number);
                    closed.push(segment);
                }
                Record::Open { epoch, segment } => open = Some((epoch, segment)),
                Record::Acknowledged { up_to } => acknowledged = acknowledged.max(up_to),
            }
        }
        // The open segment's number is above the last closed one; otherwise it was closed since.
        open = open.filter(|(_, segment)| segment.key.number > last);
        closed.retain(|segment| segment.key.number > acknowledged);
        match Self::written(path, id.clone(), acknowledged, last, closed.clone(), open.clone()) {
            Ok(log) => Ok((log, None)),
            Err(error) if super::is_full(&error) => {
                let file = OpenOptions::new().append(true).open(path)?;
                let (path, unacknowledged, bytes) = (path.to_owned(), closed, good_bytes);
                let log = Self { path, file, bytes, id, acknowledged, last, unacknowledged, open };
                let full = format!("the segment log cannot be written ({error}): make room");
                Ok((log, Some(full)))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the whole log anew and opens it for appending.
    fn written(
        path: &Path,
        id: SegmentLogId,
        acknowledged: u64,
        last: u64,
        unacknowledged: Vec<Segment>,
        open: Option<(Epoch, OpenSegment)>,
    ) -> io::Result<Self> {
        let mut all = encoded(&Record::Log { id: id.clone(), acknowledged, last })?;
        for segment in &unacknowledged {
            all.extend(encoded(&Record::Closed(segment.clone()))?);
        }
        if let Some((epoch, segment)) = &open {
            all.extend(encoded(&Record::Open { epoch: *epoch, segment: segment.clone() })?);
        }
        super::replace(path, &all)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let bytes = all.len() as u64;
        let path = path.to_owned();
        Ok(Self { path, file, bytes, id, acknowledged, last, unacknowledged, open })
    }

    /// Appends a closed segment; when this returns it is on disk.
    pub fn append(&mut self, segment: Segment) -> io::Result<()> {
        let before = self.bytes;
        self.write(&Record::Closed(segment.clone()))?;
        if let Err(error) = self.file.sync_data() {
            // Whether it is on disk is not known: it is cut off and written again.
            self.bytes = before;
            return Err(error);
        }
        self.last = self.last.max(segment.key.number);
        self.open = self.open.take().filter(|(_, open)| open.key.number > segment.key.number);
        self.unacknowledged.push(segment);
        Ok(())
    }

    /// Notes the open segment, not synced: a power cut may lose the last notes, a crash of the
    /// agent does not.
    pub fn note_open(&mut self, epoch: Epoch, segment: OpenSegment) -> io::Result<()> {
        self.write(&Record::Open { epoch, segment: segment.clone() })?;
        self.open = Some((epoch, segment));
        self.rewrite_if_large()
    }

    /// The scheduler has everything up to this number in its log.
    pub fn acknowledge(&mut self, up_to: u64) -> io::Result<()> {
        if up_to <= self.acknowledged || up_to > self.last {
            return Ok(());
        }
        self.write(&Record::Acknowledged { up_to })?;
        self.acknowledged = up_to;
        self.unacknowledged.retain(|segment| segment.key.number > up_to);
        self.rewrite_if_large()
    }

    /// Its name.
    pub fn id(&self) -> &SegmentLogId {
        &self.id
    }

    /// The last closed segment's number.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Closed segments that were not acknowledged, in order.
    pub fn unacknowledged(&self) -> &[Segment] {
        &self.unacknowledged
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let frame = encoded(record)?;
        // A full disk cuts a record off in the middle: left there, it would spoil all that follow.
        if self.file.metadata()?.len() != self.bytes {
            self.file.set_len(self.bytes)?;
        }
        self.file.write_all(&frame)?;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    fn rewrite_if_large(&mut self) -> io::Result<()> {
        if self.bytes <= REWRITE_ABOVE {
            return Ok(());
        }
        let unsent: u64 = self.unacknowledged.len() as u64 * 512;
        if unsent > self.bytes / 2 {
            // Most of it is still needed: rewriting would win nothing.
            return Ok(());
        }
        *self = Self::written(
            &self.path,
            self.id.clone(),
            self.acknowledged,
            self.last,
            self.unacknowledged.clone(),
            self.open.clone(),
        )?;
        Ok(())
    }
}

impl Opened {
    /// What was open in an earlier boot ends at what was proven: its clock is gone. What was open
    /// in this boot is the core's to go on with.
    fn settle_open_segment(&mut self, boot: &BootId) -> io::Result<()> {
        match self.log.open.clone() {
            Some((_, segment)) if segment.key.boot == *boot => self.open = Some(segment),
            Some((epoch, segment)) => {
                let closed = Segment {
                    key: segment.key,
                    epoch,
                    held_for: segment.held_for,
                    activity: segment.activity,
                    replicas: segment.replicas,
                    start: segment.start,
                    end: segment.proven_until,
                };
                match self.log.append(closed.clone()) {
                    Err(error) if super::is_full(&error) => self.unsaved = Some(closed),
                    done => done?,
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// Whether these are a log's records: the first one names it.
fn is_log(records: &[Record]) -> bool {
    matches!(records.first(), Some(Record::Log { .. }))
}

fn encoded(record: &Record) -> io::Result<Vec<u8>> {
    Ok(frames::encode(&serde_json::to_vec(record)?))
}

fn put_aside(path: &Path) -> io::Result<PathBuf> {
    // Bounded: a disk that damages a file at every start must not be filled by it.
    const KEPT: u32 = 100;
    for number in 1..=KEPT {
        let aside = path.with_extension(format!("damaged-{number}"));
        if !aside.exists() || number == KEPT {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    unreachable!("the loop ends at its last number")
}

#[cfg(test)]
mod tests {
    use wharfage_shared::segment::{Activity, SegmentKey};
    use wharfage_shared::time::Boottime;

    use super::*;
    use crate::testing::Folder;

    fn key(number: u64, boot: &str) -> SegmentKey {
        SegmentKey { node: "node-1".into(), boot: boot.into(), log: "log-1".into(), number }
    }

    fn segment(number: u64) -> Segment {
        Segment {
            key: key(number, "boot-1"),
            epoch: Epoch(1),
            held_for: None,
            activity: Activity::Serving,
            replicas: Vec::new(),
            start: Boottime(number * 10),
            end: Boottime(number * 10 + 10),
        }
    }

    fn open_segment(number: u64, boot: &str) -> OpenSegment {
        OpenSegment {
            key: key(number, boot),
            held_for: None,
            activity: Activity::Serving,
            replicas: Vec::new(),
            start: Boottime(number * 10),
            proven_until: Boottime(number * 10 + 7),
        }
    }

    fn open(folder: &Folder, boot: &str, fresh: &str) -> Opened {
        SegmentLog::open(folder.path(), &boot.into(), fresh.into()).expect("opened")
    }

    #[test]
    fn a_log_that_is_cut_at_any_byte_keeps_its_name_and_every_whole_segment() {
        let folder = Folder::new("segments-torn");
        let mut log = open(&folder, "boot-1", "log-1").log;
        let named = log.bytes as usize;
        log.append(segment(1)).expect("synced");
        let first = log.bytes as usize;
        log.append(segment(2)).expect("synced");
        let whole = fs::read(&log.path).expect("read");
        for cut in named..=whole.len() {
            fs::write(&log.path, &whole[..cut]).expect("cut");
            let again = open(&folder, "boot-1", "log-2").log;
            assert_eq!(again.id().as_str(), "log-1", "cut at {cut}");
            let kept = usize::from(cut >= first) + usize::from(cut == whole.len());
            assert_eq!(again.unacknowledged().len(), kept, "cut at {cut}");
        }
    }

    #[test]
    fn what_a_full_disk_left_of_a_record_spoils_none_that_follow() {
        use std::io::Write;

        let folder = Folder::new("segments-full");
        let mut log = open(&folder, "boot-1", "log-1").log;
        log.append(segment(1)).expect("synced");
        let half = encoded(&Record::Closed(segment(2))).expect("encoded");
        let mut beside = OpenOptions::new().append(true).open(&log.path).expect("opened");
        beside.write_all(&half[..half.len() / 2]).expect("as a full disk leaves it");
        log.append(segment(2)).expect("there is room again");
        log.note_open(Epoch(1), open_segment(3, "boot-1")).expect("noted");
        let again = open(&folder, "boot-1", "log-2");
        assert_eq!(again.troubles, Vec::<String>::new());
        assert_eq!(again.log.id().as_str(), "log-1");
        assert_eq!(again.log.unacknowledged(), [segment(1), segment(2)]);
        assert_eq!(again.open, Some(open_segment(3, "boot-1")));
    }

    #[test]
    fn a_flipped_bit_begins_a_new_log_and_keeps_the_old_file() {
        let folder = Folder::new("segments-flip");
        let mut log = open(&folder, "boot-1", "log-1").log;
        log.append(segment(1)).expect("synced");
        let mut bytes = fs::read(&log.path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&log.path, bytes).expect("flipped");
        let again = open(&folder, "boot-1", "log-2");
        assert_eq!(again.log.id().as_str(), "log-2");
        assert_eq!(again.log.last(), 0);
        assert!(again.troubles[0].contains("the segment log is damaged"));
        assert!(folder.path().join("segments.damaged-1").exists());
    }

    #[test]
    fn a_folder_in_its_place_is_put_aside_and_a_new_log_begins() {
        let folder = Folder::new("segments-folder");
        fs::create_dir(folder.path().join("segments.log")).expect("made");
        assert!(SegmentLog::inspect(folder.path()).expect("seen").is_some());
        let mut opened = open(&folder, "boot-1", "log-1");
        assert!(opened.troubles[0].contains("is a folder: kept as"), "{:?}", opened.troubles);
        opened.log.append(segment(1)).expect("synced");
        assert!(folder.path().join("segments.damaged-1").is_dir());
    }

    #[test]
    fn what_was_acknowledged_is_not_sent_again_and_numbers_never_repeat() {
        let folder = Folder::new("segments-acknowledged");
        let mut log = open(&folder, "boot-1", "log-1").log;
        for number in 1..=3 {
            log.append(segment(number)).expect("synced");
        }
        log.acknowledge(2).expect("noted");
        log.acknowledge(99).expect("a number that was never given out changes nothing");
        let again = open(&folder, "boot-1", "log-2").log;
        let left: Vec<u64> = again.unacknowledged().iter().map(|s| s.key.number).collect();
        assert_eq!((left, again.last()), (vec![3], 3));
    }

    #[test]
    fn the_open_segment_goes_on_in_its_boot_and_ends_at_its_proof_in_another() {
        let folder = Folder::new("segments-open");
        let mut log = open(&folder, "boot-1", "log-1").log;
        log.append(segment(1)).expect("synced");
        log.note_open(Epoch(4), open_segment(2, "boot-1")).expect("noted");
        let same = open(&folder, "boot-1", "x");
        assert_eq!(same.open, Some(open_segment(2, "boot-1")));
        let other = open(&folder, "boot-2", "x");
        assert_eq!(other.open, None);
        let closed = other.log.unacknowledged().last().expect("closed").clone();
        assert_eq!((closed.key.number, closed.end, closed.epoch), (2, Boottime(27), Epoch(4)));
        assert_eq!(other.log.last(), 2);
    }

    #[test]
    fn notes_do_not_make_the_file_grow_for_ever() {
        let folder = Folder::new("segments-rewrite");
        let mut log = open(&folder, "boot-1", "log-1").log;
        for _ in 0..3000 {
            log.note_open(Epoch(1), open_segment(1, "boot-1")).expect("noted");
        }
        let size = fs::metadata(&log.path).expect("there").len();
        assert!(size <= REWRITE_ABOVE + 1024, "{size}");
    }
}
