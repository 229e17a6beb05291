//! The notice file: appears by rename, is withdrawn by removal.
//!
//! A look costs one `stat` while nothing changed. Only a plain file is opened and only the length
//! of a notice is read: a device or a pipe under that name must neither fill memory nor hold the
//! agent.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

use crate::plain;

/// A notice is a line of JSON.
const LARGEST: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    kind: NoticeKind,
    gone_at: String,
    #[serde(default)]
    leaves: Leaves,
}

/// What one look saw.
#[derive(Debug, PartialEq)]
pub enum Look {
    /// The same as before.
    Same,
    /// A notice, new or with other words; the one before it is withdrawn.
    Heard {
        /// What it says now.
        notice: Box<Notice>,
        /// The notice that the file said before, if another.
        instead_of: Option<NoticeId>,
    },
    /// The file is gone.
    Withdrawn(NoticeId),
    /// The file cannot be understood: one sentence. What was heard before stays in force.
    Alarm(String),
    /// What could not be understood is gone; nothing was in force.
    Quiet,
}

/// The file and what it said last.
pub struct NoticeFile {
    path: PathBuf,
    seen: Option<Stamp>,
    said: Option<Said>,
    heard: Option<NoticeId>,
}

/// Number, time of the last change (seconds, nanoseconds) and length of a file.
type Stamp = (u64, i64, i64, u64);

/// What the file was at the last look that did not find it the same.
#[derive(PartialEq)]
enum Said {
    /// It could be read.
    Text(String),
    /// It could not, and why.
    Trouble(String),
}

impl NoticeFile {
    /// Nothing was seen yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, said: None, heard: None }
    }

    /// Looks once. `now` and `wall` are the same instant on both clocks.
    pub fn look(&mut self, now: Boottime, wall: Timestamp) -> Look {
        let meta = match std::fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.gone(),
            Err(error) => {
                self.seen = None;
                return self.trouble(error.to_string());
            }
        };
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len());
        if self.seen.replace(stamp) == Some(stamp) {
            return Look::Same;
        }
        if meta.len() > LARGEST {
            return self.trouble(format!("{} bytes are no notice", meta.len()));
        }
        if !meta.is_file() {
            return self.trouble("it is no plain file".to_owned());
        }
        let text = match plain::read(&self.path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.gone(),
            Err(error) => {
                // What keeps it from being read need not change the file itself.
                self.seen = None;
                return self.trouble(error.to_string());
            }
        };
        self.hear(text, now, wall)
    }

    /// Looks once, also into a file that seems to be the same: its times are coarse, and two
    /// changes may lie within one step of them.
    pub fn look_again(&mut self, now: Boottime, wall: Timestamp) -> Look {
        self.seen = None;
        self.look(now, wall)
    }

    fn hear(&mut self, text: String, now: Boottime, wall: Timestamp) -> Look {
        let parsed = parse(&text, now, wall);
        let said = Some(Said::Text(text));
        if self.said == said {
            return Look::Same;
        }
        self.said = said;
        match parsed {
            Ok(notice) => {
                let before = self.heard.replace(notice.id.clone());
                let instead_of = before.filter(|before| *before != notice.id);
                Look::Heard { notice: Box::new(notice), instead_of }
            }
            Err(why) => Look::Alarm(self.sentence(&why)),
        }
    }

    fn gone(&mut self) -> Look {
        self.seen = None;
        match (self.said.take(), self.heard.take()) {
            (_, Some(heard)) => Look::Withdrawn(heard),
            (Some(_), None) => Look::Quiet,
            (None, None) => Look::Same,
        }
    }

    fn trouble(&mut self, why: String) -> Look {
        let sentence = self.sentence(&why);
        let said = Some(Said::Trouble(why));
        if self.said == said {
            return Look::Same;
        }
        self.said = said;
        Look::Alarm(sentence)
    }

    fn sentence(&self, why: &str) -> String {
        format!(
            "the notice file `{}` is not understood: {why}; accepted: {{\"kind\":\"preempt\",\
             \"gone_at\":\"<RFC 3339>\"}} with optional \"leaves\":\"node\" or \"replicas\"",
            self.path.display()
        )
    }
}

fn parse(text: &str, now: Boottime, wall: Timestamp) -> Result<Notice, String> {
    let words: Words = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let gone_at: jiff::Timestamp =
        words.gone_at.parse().map_err(|error| format!("gone_at: {error}"))?;
    let gone_at = Timestamp(gone_at.as_millisecond());
    Ok(Notice {
        id: NoticeId::from(format!("file-{}", gone_at.0).as_str()),
        kind: words.kind,
        source: NoticeSource::File,
        leaves: words.leaves,
        gone_at: ClockOffset::between(wall, now).boottime(gone_at),
        heard_at: now,
        certainty: Certainty::Certain,
        can_acknowledge: false,
        can_be_withdrawn: true,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::testing::{Folder, fifo};

    const NOW: Boottime = Boottime(50_000);
    /// 2026-01-01T00:00:00Z
    const WALL: Timestamp = Timestamp(1_767_225_600_000);

    fn say(folder: &Folder, text: &str) {
        let temporary = folder.path().join("new");
        std::fs::write(&temporary, text).expect("written");
        std::fs::rename(&temporary, folder.path().join("notice")).expect("renamed");
    }

    fn heard(look: Look) -> (Notice, Option<NoticeId>) {
        match look {
            Look::Heard { notice, instead_of } => (*notice, instead_of),
            other => panic!("not heard: {other:?}"),
        }
    }

    #[test]
    fn a_notice_is_heard_once_moved_and_withdrawn() {
        let folder = Folder::new("notice-life");
        let mut file = NoticeFile::new(&folder.path().join("notice"));
        assert_eq!(file.look(NOW, WALL), Look::Same);
        say(&folder, r#"{"kind":"preempt","gone_at":"2026-01-01T00:02:00Z"}"#);
        let (notice, before) = heard(file.look(NOW, WALL));
        assert_eq!((notice.gone_at, before), (Boottime(170_000), None));
        assert_eq!(notice.leaves, Leaves::Node);
        assert_eq!(file.look(NOW, WALL), Look::Same);

        say(
            &folder,
            r#"{"kind":"preempt","gone_at":"2026-01-01T01:01:00+01:00","leaves":"replicas"}"#,
        );
        let (moved, before) = heard(file.look(NOW, WALL));
        assert_eq!((moved.gone_at, before), (Boottime(110_000), Some(notice.id)));
        assert_eq!(moved.leaves, Leaves::Replicas);

        std::fs::remove_file(folder.path().join("notice")).expect("removed");
        assert_eq!(file.look(NOW, WALL), Look::Withdrawn(moved.id));
        assert_eq!(file.look(NOW, WALL), Look::Same);
    }

    #[test]
    fn what_is_not_understood_is_said_once_and_what_was_heard_stays() {
        let folder = Folder::new("notice-bad");
        let mut file = NoticeFile::new(&folder.path().join("notice"));
        say(&folder, r#"{"kind":"preempt","gone_at":"2026-01-01T00:02:00Z"}"#);
        let (notice, _) = heard(file.look(NOW, WALL));
        for (bad, expected) in [
            ("soon", "expected value"),
            (r#"{"kind":"preempt"}"#, "missing field `gone_at`"),
            (r#"{"kind":"eviction","gone_at":"x"}"#, "unknown variant `eviction`"),
            (r#"{"kind":"preempt","gone_at":"tomorrow"}"#, "gone_at:"),
            (r#"{"kind":"preempt","gone_at":"2026-01-01T00:02:00Z","at":1}"#, "unknown field `at`"),
        ] {
            say(&folder, bad);
            let Look::Alarm(said) = file.look(NOW, WALL) else { panic!("no alarm for {bad}") };
            assert!(said.contains(expected), "{said}");
            assert_eq!(file.look(NOW, WALL), Look::Same, "{bad} is said once");
        }
        std::fs::remove_file(folder.path().join("notice")).expect("removed");
        assert_eq!(file.look(NOW, WALL), Look::Withdrawn(notice.id));
    }

    #[test]
    fn a_device_a_pipe_or_a_folder_is_no_notice_and_is_never_read() {
        let folder = Folder::new("notice-odd");
        let path = folder.path().join("notice");
        let mut file = NoticeFile::new(&path);
        for odd in ["device", "pipe", "folder"] {
            match odd {
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).expect("linked"),
                "pipe" => fifo(&path),
                _ => std::fs::create_dir(&path).expect("made"),
            }
            let Look::Alarm(said) = file.look(NOW, WALL) else { panic!("no alarm for a {odd}") };
            assert!(said.contains("it is no plain file"), "{odd}: {said}");
            assert_eq!(file.look(NOW, WALL), Look::Same, "a {odd} is said once");
            if odd == "folder" {
                std::fs::remove_dir(&path).expect("removed");
            } else {
                std::fs::remove_file(&path).expect("removed");
            }
            assert_eq!(file.look(NOW, WALL), Look::Quiet, "the {odd}'s alarm is over");
            assert_eq!(file.look(NOW, WALL), Look::Same);
        }
    }

    #[test]
    fn a_change_within_one_step_of_the_files_times_is_found_by_looking_again() {
        let folder = Folder::new("notice-times");
        let path = folder.path().join("notice");
        let write = |minute: u32| {
            let text = format!(r#"{{"kind":"preempt","gone_at":"2026-01-01T00:0{minute}:00Z"}}"#);
            std::fs::write(&path, text).expect("written");
            let then = std::time::SystemTime::UNIX_EPOCH;
            let file = OpenOptions::new().write(true).open(&path).expect("it is there");
            file.set_modified(then).expect("its owner may");
        };
        write(2);
        let mut file = NoticeFile::new(&path);
        let (first, _) = heard(file.look(NOW, WALL));
        write(3);
        assert_eq!(file.look(NOW, WALL), Look::Same, "it seems to be the same file");
        let (second, before) = heard(file.look_again(NOW, WALL));
        assert_eq!((second.gone_at, before), (Boottime(230_000), Some(first.id)));
        assert_eq!(file.look_again(NOW, WALL), Look::Same, "the same words are said once");
    }
}
