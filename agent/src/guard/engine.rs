//! The engine process below its guard: started in a group of its own, ended with everything that
//! it started.

use std::io::{self, Write};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::BufReader;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::process::{self, Family, ProcessId};
use wharfage_shared::replica::Ended;

use super::launch::Launch;
use super::logs::{self, Load};
use super::record::{Folder, Params};

/// How long an ended engine's children get to disappear after SIGKILL before the guard leaves
/// them to the agent's proof of release.
const CLEARING: Duration = Duration::from_secs(1);

/// How often it is looked whether they are gone.
const CLEARING_LOOK: Duration = Duration::from_millis(20);

/// How long what an ended engine has printed may take to reach its log.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A started engine.
pub struct Engine {
    /// The process.
    pub id: ProcessId,
    family: Family,
    cgroup: Option<Cgroup>,
    signal: Signal,
    logs: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts it. The guard is already in the replica's session and control group, and every
    /// child follows.
    pub fn start(params: &Params, folder: &Folder, load: watch::Sender<Load>) -> io::Result<Self> {
        let launch = Launch::of(params).map_err(io::Error::other)?;
        let mut child = launch.command(folder).spawn().map_err(|error| {
            io::Error::other(format!("cannot start `{}`: {error}", launch.program()))
        })?;
        let mut logs = Vec::new();
        if let Some(output) = child.stdout.take() {
            let output = tokio::process::ChildStdout::from_std(output)?;
            let path = folder.path().join("engine.log");
            let load = load.clone();
            logs.push(tokio::spawn(async move {
                logs::keep(BufReader::new(output), &path, load).await;
            }));
        }
        if let Some(output) = child.stderr.take() {
            let output = tokio::process::ChildStderr::from_std(output)?;
            let path = folder.path().join("engine.err.log");
            logs.push(tokio::spawn(async move {
                logs::keep(BufReader::new(output), &path, load).await;
            }));
        }
        let pid = child.id();
        // An engine that has ended already is still in the table: nobody has collected it.
        let id = process::identify(pid).ok_or_else(|| io::Error::other("the engine vanished"))?;
        let guard = process::identify(std::process::id())
            .ok_or_else(|| io::Error::other("the process table does not list the guard"))?;
        let cgroup = params.cgroup.as_deref().and_then(Cgroup::existing);
        let signal = params.wire.stop.signal.into();
        Ok(Self { id, family: params.family(guard), cgroup, signal, logs })
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        // A process that cannot be signalled is gone or shows in the proof of release.
        drop(process::signal(self.id, self.signal));
    }

    /// Ends everything of the replica but the guard, which must see how the engine ended.
    pub fn kill(&self) {
        drop(process::signal_group(self.id.pid, Signal::KILL));
        let own = std::process::id();
        let inside = match &self.cgroup {
            Some(cgroup) => listed("the replica's control group", cgroup.members()),
            None => Vec::new(),
        };
        for pid in inside.into_iter().filter(|pid| *pid != own) {
            if let Some(id) = process::identify(pid) {
                drop(process::signal(id, Signal::KILL));
            }
        }
        for member in listed("the replica's processes", self.family.members()) {
            drop(process::signal(member.id, Signal::KILL));
        }
    }

    /// Collects children that ended; how the engine ended, when it was among them.
    pub fn collect(&self) -> Option<Ended> {
        let mut ended = None;
        while let Some(child) = process::collect() {
            if child.pid == self.id.pid {
                ended = Some(match (child.code, child.signal) {
                    (Some(code), _) => Ended::Exited { code },
                    (None, Some(signal)) => Ended::Signaled { signal },
                    (None, None) => Ended::Unknown,
                });
            }
        }
        ended
    }

    /// The engine has ended: nothing that it started may stay.
    pub async fn clear_away(&mut self) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < CLEARING {
            self.collect();
            if self.family.members().is_ok_and(|left| left.is_empty()) {
                break;
            }
            self.kill();
            tokio::time::sleep(CLEARING_LOOK).await;
        }
        for log in self.logs.drain(..) {
            // Its last lines tell why it ended; a pipe that somebody still holds open must not
            // keep the end from being told.
            drop(tokio::time::timeout(LAST_LINES, log).await);
        }
    }

    /// Nothing is left: the guard leaves the replica's control group, which goes with it.
    pub fn leave_group(&self) {
        if let Some(cgroup) = &self.cgroup
            && self.family.members().is_ok_and(|left| left.is_empty())
        {
            cgroup.leave_and_remove();
        }
    }
}

/// What cannot be listed cannot be ended here: it is said, and the agent's proof of release still
/// holds the slot.
fn listed<T>(what: &str, found: io::Result<Vec<T>>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        // Who does not hear it meets the same in the proof.
        drop(writeln!(io::stderr(), "the guard cannot list {what}: {error}"));
        Vec::new()
    })
}
