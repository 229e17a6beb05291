//! The process around one run of a hook: it is the parent of everything that the hook starts, so
//! that nothing of it lives on after its end, whatever it forked and whichever session that has.
//!
//! Guards the rule that nothing of a hook lives after its cut-off, also when the agent is killed:
//! the keeper holds a pipe of the agent's, and when that closes the hook is over.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::process::{self, Collected, Family};

/// How often it is looked whether the hook has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long processes are ended again and again: only one that sits in the kernel lives longer.
const SWEEP_FOR: Duration = Duration::from_secs(5);

/// What the shell exits with when it cannot start a program.
const CANNOT_START: u8 = 127;

/// What the keeper is asked for.
#[derive(Args, Clone, Debug)]
pub struct Asked {
    /// It is over after so many milliseconds, whatever the agent does.
    #[arg(long, value_name = "MS")]
    limit_ms: u64,
    /// The user's number that the hook runs as.
    #[arg(long, value_name = "UID", requires = "group")]
    user: Option<u32>,
    /// Its group's number.
    #[arg(long, value_name = "GID")]
    group: Option<u32>,
    /// The control group that holds it.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The hook's program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs one hook to its end; the exit status is the hook's, and so is a signal that ended it.
pub fn run(asked: &Asked) -> Result<u8, String> {
    let failed =
        |what: &'static str| move |error| format!("a hook's keeper cannot {what}: {error}");
    process::lead_session().map_err(failed("get a session"))?;
    process::adopt_orphans().map_err(failed("adopt orphans"))?;
    if let Some(cgroup) = asked.cgroup.as_deref().and_then(Cgroup::existing) {
        cgroup.enter(std::process::id()).map_err(failed("enter its control group"))?;
    }
    let own = process::identify(std::process::id()).ok_or("`/proc` does not list the keeper")?;
    let is_over = Arc::new(AtomicBool::new(false));
    watch_agent(Arc::clone(&is_over));
    let started = Instant::now();
    let (program, arguments) = asked.command.split_first().ok_or("no command was given")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if let Some((user, group)) = asked.user.zip(asked.group) {
        use std::os::unix::process::CommandExt;
        command.uid(user).gid(group);
    }
    let hook = match command.spawn() {
        Ok(child) => child.id(),
        Err(error) => {
            eprintln!("cannot start `{program}`: {error}");
            return Ok(CANNOT_START);
        }
    };
    let limit = Duration::from_millis(asked.limit_ms);
    let ended = loop {
        if let Some(ended) = collect(hook) {
            break Some(ended);
        }
        if is_over.load(Ordering::Relaxed) || started.elapsed() >= limit {
            break None;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let ended = sweep(own, hook).or(ended);
    match ended.map(|ended| (ended.code, ended.signal)) {
        Some((Some(code), _)) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Some((None, Some(signal))) => end_by(own, signal),
        Some((None, None)) | None => end_by(own, Signal::KILL.as_raw()),
    }
}

/// The agent has closed the pipe, or is gone: the hook is over.
fn watch_agent(is_over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut byte = [0; 1];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Collects whatever has ended; the hook's own end, if that was among it.
fn collect(hook: u32) -> Option<Collected> {
    let mut own = None;
    while let Some(ended) = process::collect() {
        if ended.pid == hook {
            own = Some(ended);
        }
    }
    own
}

/// Ends everything below the keeper, again and again until nothing is left: what forks meanwhile
/// has the keeper for a parent too.
fn sweep(keeper: process::ProcessId, hook: u32) -> Option<Collected> {
    let family = Family { guard: keeper, mark: String::new() };
    let (began, mut own) = (Instant::now(), None);
    loop {
        own = own.or(collect(hook));
        let left = family.members().unwrap_or_default();
        if left.is_empty() || began.elapsed() > SWEEP_FOR {
            return own;
        }
        for process in left {
            // One that has ended meanwhile is what is wanted.
            drop(process::signal(process.id, Signal::KILL));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends like the hook, so that the agent sees the same signal.
fn end_by(keeper: process::ProcessId, signal: i32) -> Result<u8, String> {
    if let Some(signal) = Signal::from_named_raw(signal) {
        drop(process::signal(keeper, signal));
    }
    // A signal that does not end a process.
    Ok(u8::MAX)
}
