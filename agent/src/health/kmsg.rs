//! The kernel's log: records of the kernel itself, joined where a line was split, and of these the
//! XIDs.
//!
//! What a process writes there comes back with the user facility and is refused: nobody can make a
//! GPU look broken by writing to a log.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_shared::time::Boottime;

use super::line::{XidLine, begins, is_own, parse};

/// The kernel gives a record at a time, at most 8 KiB with its dictionary.
const RECORD_BYTES: usize = 16 * 1024;

/// A line of a file that is longer is no record.
const LINE_BYTES: usize = 64 * 1024;

/// A line about an XID may still go on for this long; its fragments come within moments.
const REST_AFTER: Duration = Duration::from_millis(50);

/// So many lines of others may come between a line about an XID and the rest of it.
const MOST_BETWEEN: usize = 8;

/// A file that is not the device is looked at so often.
const FILE_PAUSE: Duration = Duration::from_millis(50);

/// How often the reader looks whether it shall end. Nothing waits for it: a record wakes it, and the
/// process takes it along.
const STOP_PAUSE: Duration = Duration::from_secs(5);

/// Records of the kernel have no other facility.
const KERNEL_FACILITY: u32 = 0;

/// An XID record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The record's number in this boot.
    pub sequence: u64,
    /// When the kernel wrote it.
    pub at: Boottime,
    /// What it says.
    pub line: XidLine,
}

/// One record's head and message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    facility: u32,
    sequence: u64,
    micros: u64,
    part: Part,
    /// The task or CPU that wrote it, where the kernel is built to tell.
    caller: Option<String>,
    message: String,
}

/// What a record is of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `-`: a line, or the beginning of one that was cut: a kernel since 4.10 does not tell which.
    Line,
    /// `c`: a kernel since 4.10 could not put it behind the record that it goes on from, as another
    /// one came between. An older kernel marks the first fragment of a line so.
    Fragment,
    /// `+`: a kernel before 4.10 goes on with the record before.
    Next,
}

/// Takes bytes in, gives XIDs.
#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
    /// The line is too long: everything up to its end is dropped.
    drops_line: bool,
    held: Option<Held>,
}

/// A line about an XID that may still go on.
#[derive(Debug)]
struct Held {
    record: Record,
    /// So many lines of others came since.
    others: usize,
}

impl Parser {
    /// Takes what was read.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if !self.drops_line {
                self.rest.extend_from_slice(part);
            }
            if self.rest.len() > LINE_BYTES {
                self.rest.clear();
                self.drops_line = true;
            }
            if !ends {
                continue;
            }
            let line = std::mem::take(&mut self.rest);
            if !std::mem::take(&mut self.drops_line) {
                let text = String::from_utf8_lossy(&line);
                // A line that begins with a space is of the record's dictionary.
                if let Some(record) = record(text.trim_end_matches('\n')) {
                    heard.extend(self.take(record));
                }
            }
        }
        heard
    }

    /// Whether a line may still go on.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Nothing follows: a line that may go on is taken as it is.
    pub fn settle(&mut self) -> Option<Heard> {
        self.held.take().and_then(|held| heard(&held.record))
    }

    /// Only lines about XIDs are held; one is taken as it is when another one begins, so that XIDs
    /// come in the order of their records.
    fn take(&mut self, record: Record) -> Option<Heard> {
        if record.facility != KERNEL_FACILITY {
            return None;
        }
        match (&mut self.held, record.part) {
            // An older kernel marks a line's own beginning as a fragment.
            (Some(held), Part::Fragment | Part::Next) if !is_own(&record.message) => {
                held.go_on(record);
                None
            }
            (None, Part::Next) => None,
            (_, _) if begins(&record.message) => {
                let before = self.settle();
                self.held = Some(Held { record, others: 0 });
                before
            }
            (Some(held), Part::Line) => {
                held.others += 1;
                let is_over = held.others > MOST_BETWEEN || held.is_callers_own(&record);
                if is_over { self.settle() } else { None }
            }
            (None | Some(_), Part::Line | Part::Fragment | Part::Next) => None,
        }
    }
}

impl Held {
    /// A fragment: where the kernel tells who wrote it, another's is left out.
    fn go_on(&mut self, fragment: Record) {
        let callers = self.record.caller.as_ref().zip(fragment.caller.as_ref());
        let is_others = callers.is_some_and(|(ours, theirs)| ours != theirs);
        let fits = self.record.message.len() + fragment.message.len() <= LINE_BYTES;
        if !is_others && fits {
            self.record.message.push_str(&fragment.message);
            self.record.sequence = fragment.sequence;
        }
    }

    /// Whether whoever began this line has begun another one: then it does not go on.
    fn is_callers_own(&self, record: &Record) -> bool {
        self.record.caller.is_some() && self.record.caller == record.caller
    }
}

/// `6,339,5140900,-,caller=T12;NVRM: loading`: priority and facility, number, microseconds, flags,
/// and what newer kernels put behind them.
fn record(line: &str) -> Option<Record> {
    let (head, message) = line.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    let part = match fields.next().and_then(|flags| flags.chars().next()) {
        Some('c') => Part::Fragment,
        Some('+') => Part::Next,
        Some(_) | None => Part::Line,
    };
    let caller = fields.find_map(|field| field.strip_prefix("caller="));
    Some(Record {
        facility: priority >> 3,
        sequence,
        micros,
        part,
        caller: caller.map(str::to_owned),
        message: unescaped(message),
    })
}

fn heard(record: &Record) -> Option<Heard> {
    let line = parse(&record.message)?;
    Some(Heard { sequence: record.sequence, at: Boottime(record.micros / 1000), line })
}

/// The kernel writes bytes that cannot be printed as `\x1b`.
fn unescaped(message: &str) -> String {
    let mut bytes = Vec::with_capacity(message.len());
    let mut rest = message.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|code| *first == b'\\' && code[0] == b'x');
        let code = code.and_then(|code| std::str::from_utf8(&code[1..]).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the reader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An XID.
    Xid(Heard),
    /// Records were overwritten before they were read: so often by now.
    Overrun(u64),
    /// Reading has ended, and why.
    Ended(String),
}

/// Reads from `path` all that is there and what comes, until `stop`; answers at once whether it can be
/// opened. What was heard before is the listener's to know.
pub fn start(path: &Path, stop: CancellationToken) -> io::Result<mpsc::Receiver<Said>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // A burst waits here while a step is carried out; nothing is lost before the kernel overwrites.
    let (sender, receiver) = mpsc::channel(256);
    std::thread::Builder::new().name("kmsg".to_owned()).spawn(move || {
        let parser = Parser::default();
        let mut reader = Reader { file, overruns: 0, parser, held_until: None, sender };
        if let Err(error) = reader.run(&stop) {
            // Nobody listens any more only when the agent ends.
            drop(reader.sender.blocking_send(Said::Ended(error.to_string())));
        }
    })?;
    Ok(receiver)
}

struct Reader {
    file: File,
    overruns: u64,
    parser: Parser,
    /// When a line that may still go on is taken as it is.
    held_until: Option<Instant>,
    sender: mpsc::Sender<Said>,
}

impl Reader {
    fn run(&mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut buffer = vec![0; RECORD_BYTES];
        while !stop.is_cancelled() && !self.sender.is_closed() {
            self.settle_in_time();
            match self.file.read(&mut buffer) {
                Ok(0) => std::thread::sleep(FILE_PAUSE),
                Ok(count) => {
                    let heard = self.parser.feed(&buffer[..count]);
                    self.tell(heard);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel has overwritten what was not read yet: the next read goes on after it.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) =>
                {
                    self.overruns += 1;
                    drop(self.sender.blocking_send(Said::Overrun(self.overruns)));
                }
                // A record that does not fit the buffer is left out.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a line as it is whose rest has had its time.
    fn settle_in_time(&mut self) {
        if !self.parser.is_holding() {
            self.held_until = None;
        } else if *self.held_until.get_or_insert_with(|| Instant::now() + REST_AFTER)
            <= Instant::now()
        {
            self.held_until = None;
            let rest = self.parser.settle();
            self.tell(rest);
        }
    }

    /// Waits for the next record, and no longer than a line may be held.
    fn wait(&self) -> io::Result<()> {
        let left = self.held_until.map(|until| until.saturating_duration_since(Instant::now()));
        // A wait of nothing would turn round until the time is over.
        let longest = left.unwrap_or(STOP_PAUSE).max(Duration::from_millis(1));
        let longest = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        let mut waits = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut waits, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self, heard: impl IntoIterator<Item = Heard>) {
        for heard in heard {
            drop(self.sender.blocking_send(Said::Xid(heard)));
        }
    }
}

#[cfg(test)]
mod tests;
