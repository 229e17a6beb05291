//! Processes by the name that is never used twice in a boot: pid and start time.
//!
//! A pid alone is no name: the kernel gives it out again. Every question asked here about one
//! process takes both, and a zombie counts as gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// One process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: when it started, in clock ticks after the boot.
    pub started: u64,
}

/// One line of the process table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Who.
    pub id: ProcessId,
    /// Its parent's pid.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// It has ended and waits to be collected.
    pub is_zombie: bool,
    /// It sits in the kernel and cannot be ended now.
    pub is_uninterruptible: bool,
    /// The program's short name.
    pub name: String,
}

/// The process with this pid now, if there is one. A host that does not say is an error: what was
/// not seen is not gone.
pub fn look(pid: u32) -> io::Result<Option<Process>> {
    understood(read_line(&format!("/proc/{pid}/stat")))
}

/// A short file of `/proc`. Its size is told as zero, so `fs::read` would come back for a few bytes
/// at a time: nine calls for each process of a host that has thousands.
fn read_line(path: &str) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(1024);
    // Through `take`, which asks nobody for the size: one call fills it, the next sees the end.
    fs::File::open(path)?.take(u64::MAX).read_to_end(&mut line)?;
    Ok(line)
}

/// The process with this pid now, where the host tells.
pub fn find(pid: u32) -> Option<Process> {
    look(pid).ok().flatten()
}

/// The name of the process with this pid.
pub fn identify(pid: u32) -> Option<ProcessId> {
    find(pid).map(|process| process.id)
}

/// Whether exactly this process still lives; a zombie does not. One of which the host says nothing
/// now (no descriptor is free) may live, so it does.
pub fn is_alive(id: ProcessId) -> bool {
    look(id.pid).map_or(true, |found| is_living(found, id))
}

/// Every process of the host.
pub fn table() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the reading: it is simply not there.
        all.extend(look(pid)?);
    }
    Ok(all)
}

/// Every live process that has this `NAME=value` in its environment.
pub fn marked(mark: &str) -> io::Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    for process in table()? {
        if !process.is_zombie && has_mark(process.id.pid, mark)? {
            found.push(process.id);
        }
    }
    Ok(found)
}

/// What a replica's processes are known by: its guard, the guard's session, a mark in their
/// environment. A process that left its session is found by its ancestor or its mark.
#[derive(Clone, Debug)]
pub struct Family {
    /// The guard, which is also the leader of the session.
    pub guard: ProcessId,
    /// `NAME=value` that every process of the replica inherits; empty where it is not known.
    pub mark: String,
}

impl Family {
    /// Whether the process with this pid now is one of the replica's: by its session or its mark.
    /// Only [`Self::members`] finds one that has left both.
    pub fn has(&self, pid: u32) -> bool {
        let guard_is_other = find(self.guard.pid).is_some_and(|process| process.id != self.guard);
        let by_session = || find(pid).is_some_and(|process| process.session == self.guard.pid);
        (!guard_is_other && by_session()) || has_mark(pid, &self.mark).unwrap_or(false)
    }

    /// The replica's live processes without the guard itself.
    pub fn members(&self) -> io::Result<Vec<Process>> {
        let table = table()?;
        let mut inside = BTreeSet::from([self.guard.pid]);
        // A session id stays in use as long as a member lives, so the pid of a dead guard can
        // not come back as another session's id before the last member is gone.
        loop {
            let before = inside.len();
            for process in &table {
                if process.session == self.guard.pid || inside.contains(&process.parent) {
                    inside.insert(process.id.pid);
                }
            }
            if inside.len() == before {
                break;
            }
        }
        let guard_is_other = look(self.guard.pid)?.is_some_and(|process| process.id != self.guard);
        let mut members = Vec::new();
        for process in table {
            let pid = process.id.pid;
            if process.is_zombie || pid == self.guard.pid {
                continue;
            }
            let by_kin = inside.contains(&pid) && !guard_is_other;
            if by_kin || has_mark(pid, &self.mark)? {
                members.push(process);
            }
        }
        Ok(members)
    }
}

/// Bytes that a process has read so far, from the page cache or not; zero where it may not be
/// known.
pub fn bytes_read(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Memory of a process that is in the host's memory now, mapped files included.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The number of the user that a process acts as, where the host tells.
pub fn user_of(pid: u32) -> Option<u32> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The real, the effective, the saved one and that of files.
    let users = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal to exactly this process; one that is gone already is no error.
pub fn signal(id: ProcessId, signal: Signal) -> io::Result<()> {
    if !is_living(look(id.pid)?, id) {
        return Ok(());
    }
    ended_is_fine(pid(id.pid).map(|pid| rustix::process::kill_process(pid, signal)))
}

/// Sends a signal to every process of the group that this process leads (or led).
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    ended_is_fine(pid(leader).map(|pid| rustix::process::kill_process_group(pid, signal)))
}

/// Makes this process the parent of every orphan below it, so that none escapes.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Into::into)
}

/// Leads a session of its own: a new one, unless whoever started this process gave it one.
pub fn lead_session() -> io::Result<()> {
    // The process table says it and not `getsid`: a session that was made outside this process's
    // PID namespace has the number 0 here, which the binding takes for impossible.
    let own = std::process::id();
    if find(own).is_some_and(|process| process.session == own) {
        return Ok(());
    }
    rustix::process::setsid().map(|_| ()).map_err(Into::into)
}

/// A child that ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Which.
    pub pid: u32,
    /// Its exit status, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// Collects one child that has ended, if there is one.
pub fn collect() -> Option<Collected> {
    let (pid, status) = rustix::process::wait(rustix::process::WaitOptions::NOHANG).ok()??;
    Some(Collected {
        pid: pid.as_raw_nonzero().get().unsigned_abs(),
        code: status.exit_status(),
        signal: status.terminating_signal(),
    })
}

/// The user that this process acts as.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn pid(raw: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(raw).ok()?)
}

fn ended_is_fine(sent: Option<rustix::io::Result<()>>) -> io::Result<()> {
    match sent {
        None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(errno)) => Err(errno.into()),
    }
}

fn is_living(found: Option<Process>, id: ProcessId) -> bool {
    found.is_some_and(|process| process.id == id && !process.is_zombie)
}

fn has_mark(pid: u32, mark: &str) -> io::Result<bool> {
    if mark.is_empty() {
        return Ok(false);
    }
    match fs::read(format!("/proc/{pid}/environ")) {
        Ok(all) => Ok(all.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())),
        Err(error) if is_nobodys(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file of `/proc` cannot be read because the process is gone, or is another user's that
/// hides it: then it is none that this one started.
fn is_nobodys(error: &io::Error) -> bool {
    const GONE: i32 = rustix::io::Errno::SRCH.raw_os_error();
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(GONE)
}

fn understood(line: io::Result<Vec<u8>>) -> io::Result<Option<Process>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "a strange line of `/proc`");
    match line {
        // A process may call itself what it likes, text or not.
        Ok(line) => {
            let line = String::from_utf8_lossy(&line);
            match parse_stat(&line) {
                Some(process) => Ok(Some(process)),
                None if is_released(&line) => Ok(None),
                None => Err(strange()),
            }
        }
        Err(error) if is_nobodys(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the kernel was just forgetting the process when the line was read: it has ended, was
/// waited for, and belongs to no group and no session any more.
fn is_released(line: &str) -> bool {
    let tail = line.rsplit_once(')').map_or("", |(_, tail)| tail);
    let mut fields = tail.split_whitespace().skip(2);
    (fields.next(), fields.next()) == (Some("-1"), Some("-1"))
}

fn parse_stat(line: &str) -> Option<Process> {
    // The name is in brackets and may itself hold spaces and brackets: split at the last one.
    let (head, tail) = line.rsplit_once(')')?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let state = *fields.first()?;
    Some(Process {
        id: ProcessId { pid: pid.trim().parse().ok()?, started: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        is_zombie: matches!(state, "Z" | "X"),
        is_uninterruptible: state == "D",
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 0 0";
        let process = parse_stat(line).expect("it is a stat line");
        assert_eq!(process.id, ProcessId { pid: 42, started: 777 });
        assert_eq!((process.parent, process.session), (7, 41));
        assert_eq!(process.name, "a) b (c");
    }

    #[test]
    fn a_process_that_the_host_does_not_show_is_not_gone() {
        let failed = |errno: i32| understood(Err(io::Error::from_raw_os_error(errno)));
        for gone in [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH] {
            assert!(matches!(failed(gone.raw_os_error()), Ok(None)), "{gone}");
        }
        for unsaid in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::IO] {
            assert!(failed(unsaid.raw_os_error()).is_err(), "{unsaid}");
        }
        let line = b"42 (\xff\xfe) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 0 0";
        let named = understood(Ok(line.to_vec())).expect("a name need not be text");
        assert_eq!(named.map(|process| process.id.pid), Some(42));
        assert!(understood(Ok(b"42 (half".to_vec())).is_err());
        let released = b"42 (a) X 0 -1 -1 0 -1 4227084 1 2 3 4 5 6 7 8 20 0 0 0 777 0 0";
        assert!(matches!(understood(Ok(released.to_vec())), Ok(None)), "it was waited for");
        let no_session = b"42 (a) S 7 42 -1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 0 0";
        assert!(understood(Ok(no_session.to_vec())).is_err(), "that is no process that has ended");
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(4), failure_persistence: None, ..Config::default()
        })]

        #[test]
        fn no_line_of_the_process_table_is_too_strange(
            line: Vec<u8>, almost in "[0-9]{0,3} ?\\(?[ -~]{0,9}\\)?( [SZXD0-9-]{0,4}){0,24}",
        ) {
            for line in [line, almost.into_bytes()] {
                let read = understood(Ok(line.clone()));
                let is_gone = matches!(read, Ok(None));
                prop_assert!(!is_gone || is_released(&String::from_utf8_lossy(&line)));
            }
        }

        #[test]
        fn a_line_says_who_a_process_is_whatever_it_calls_itself(
            pid: u32, parent: u32, session: u32, started: u64, name in "\\PC{0,20}",
            state in "[RSDZXTt]",
        ) {
            let line = format!(
                "{pid} ({name}) {state} {parent} 1 {session} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 \
                 {started} 0 0"
            );
            let expected = Process {
                id: ProcessId { pid, started },
                parent,
                session,
                is_zombie: matches!(state.as_str(), "Z" | "X"),
                is_uninterruptible: state == "D",
                name,
            };
            prop_assert_eq!(parse_stat(&line), Some(expected));
        }
    }

    #[test]
    fn this_process_is_alive_and_one_with_its_pid_but_another_start_is_not() {
        let me = identify(std::process::id()).expect("this process is in the table");
        assert!(is_alive(me));
        assert_eq!(user_of(me.pid), Some(effective_user()));
        assert!(!is_alive(ProcessId { started: me.started + 1, ..me }));
    }
}
