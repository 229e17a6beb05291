//! The kernel's log: records of the kernel itself, joined where a line was split, and of these the
//! XIDs.
//!
//! What a process writes there comes back with the user facility and is refused: nobody can make a
//! GPU look broken by writing to a log.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_shared::time::Boottime;

use super::line::{XidLine, parse};

/// The kernel gives a record at a time, at most 8 KiB with its dictionary.
const RECORD_BYTES: usize = 16 * 1024;

/// A line of a file that is longer is no record.
const LINE_BYTES: usize = 64 * 1024;

/// A split line that nothing follows for this long is taken as it is.
const REST_AFTER: Duration = Duration::from_millis(100);

/// A file that is not the device is looked at so often.
const FILE_PAUSE: Duration = Duration::from_millis(50);

/// How often the reader looks whether it shall end.
const STOP_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

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
    /// A fragment that further ones belong to.
    goes_on: bool,
    /// A fragment of the record before.
    continues: bool,
    message: String,
}

/// Takes bytes in, gives XIDs.
#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
    /// The line is too long: everything up to its end is dropped.
    drops_line: bool,
    open: Option<Record>,
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

    /// Nothing follows: a split line is taken as it is.
    pub fn settle(&mut self) -> Option<Heard> {
        self.open.take().and_then(|record| heard(&record))
    }

    fn take(&mut self, record: Record) -> Vec<Heard> {
        let mut done = Vec::new();
        if record.facility != KERNEL_FACILITY {
            return done;
        }
        match &mut self.open {
            Some(open) if record.continues => {
                if open.message.len() + record.message.len() <= LINE_BYTES {
                    open.message.push_str(&record.message);
                }
                open.sequence = record.sequence;
                if !record.goes_on {
                    done.extend(self.settle());
                }
            }
            _ => {
                done.extend(self.settle());
                if record.goes_on {
                    self.open = Some(record);
                } else {
                    done.extend(heard(&record));
                }
            }
        }
        done
    }
}

/// `6,339,5140900,-;NVRM: loading`: priority and facility, number, microseconds, flags.
fn record(line: &str) -> Option<Record> {
    let (head, message) = line.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    let flags = fields.next().unwrap_or("-");
    Some(Record {
        facility: priority >> 3,
        sequence,
        micros,
        goes_on: flags.starts_with('c') || flags == "+c",
        continues: flags.starts_with('+'),
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

/// Reads from `path` what comes after record `after`, until `stop`; answers at once whether it can
/// be opened.
pub fn start(path: &Path, after: u64, stop: CancellationToken) -> io::Result<mpsc::Receiver<Said>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // A burst waits here while a step is carried out; nothing is lost before the kernel overwrites.
    let (sender, receiver) = mpsc::channel(256);
    std::thread::Builder::new().name("kmsg".to_owned()).spawn(move || {
        let mut reader = Reader { file, after, overruns: 0, parser: Parser::default(), sender };
        if let Err(error) = reader.run(&stop) {
            // Nobody listens any more only when the agent ends.
            drop(reader.sender.blocking_send(Said::Ended(error.to_string())));
        }
    })?;
    Ok(receiver)
}

struct Reader {
    file: File,
    after: u64,
    overruns: u64,
    parser: Parser,
    sender: mpsc::Sender<Said>,
}

impl Reader {
    fn run(&mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut buffer = vec![0; RECORD_BYTES];
        while !stop.is_cancelled() && !self.sender.is_closed() {
            match self.file.read(&mut buffer) {
                Ok(0) => {
                    let rest = self.parser.settle();
                    self.tell(rest);
                    std::thread::sleep(FILE_PAUSE);
                }
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

    /// Waits for the next record; a split line is not kept waiting.
    fn wait(&mut self) -> io::Result<()> {
        if self.parser.open.is_some() {
            std::thread::sleep(REST_AFTER);
            let rest = self.parser.settle();
            self.tell(rest);
        }
        let mut waits = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut waits, Some(&STOP_PAUSE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self, heard: impl IntoIterator<Item = Heard>) {
        for heard in heard.into_iter().filter(|heard| heard.sequence > self.after) {
            drop(self.sender.blocking_send(Said::Xid(heard)));
        }
    }
}

#[cfg(test)]
mod tests;
