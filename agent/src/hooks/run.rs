//! Runs one hook: a cleared environment, a keeper and (where there is one) a control group of its
//! own, a time limit after which nothing of it lives, bounded output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::replica::HookOutcome;
use wharfage_shared::time::{Boottime, Millis};

use super::definition::Definition;
use crate::users::User;

/// So much of what a hook prints is kept for people.
const KEPT_OUTPUT: usize = 64 * 1024;

/// A hook that prints more than this is cut off: whatever it does, it keeps the agent busy.
const MOST_OUTPUT: u64 = 16 * 1024 * 1024;

/// A line that is longer is cut: it is no progress.
const LONGEST_LINE: u64 = 4096;

/// So many characters of its last line are reported.
const LONGEST_DETAIL: usize = 200;

/// "Try again": sysexits' EX_TEMPFAIL.
const TRY_AGAIN: i32 = 75;

/// How long output is still read after the end: somebody may have left the group with the pipes.
const REST_OF_OUTPUT: Duration = Duration::from_secs(1);

/// How long a keeper has to end everything before it is ended itself.
const SWEEPS_FOR: Duration = Duration::from_secs(2);

/// So much later than the agent the keeper looks at the limit: it cuts off where no agent does.
const KEEPER_LATER: Millis = Millis::from_seconds(1);

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One run as it was asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is run.
    pub definition: Definition,
    /// The agent's own program, which keeps it.
    pub keeper: PathBuf,
    /// The name of its control group.
    pub name: String,
    /// Who it runs as; absent = the agent's own user.
    pub user: Option<User>,
    /// Its whole environment, less the two values that depend on the moment.
    pub env: BTreeMap<String, String>,
    /// Where it runs and where its output is kept.
    pub log: PathBuf,
    /// It is cut off then, or after its own limit.
    pub deadline: Boottime,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: HookOutcome,
    /// One sentence.
    pub detail: Option<String>,
}

enum Tried {
    Exited(Option<i32>),
    CutOff,
    Flooded,
    Impossible(String),
}

/// Runs it, again while it asks for that and time allows.
pub async fn run(
    run: &Run,
    cut: &CancellationToken,
    progress: &mut (dyn FnMut(u16) + Send),
) -> Ending {
    let own_limit = Millis::from_seconds(u64::from(run.definition.timeout_seconds));
    let limit = run.deadline.min(clock::boottime() + own_limit);
    loop {
        let mut said = Said::default();
        let tried = once(run, limit, cut, progress, &mut said).await;
        // What a hook said is for people; a full disk must not change how it ended.
        drop(std::fs::write(&run.log, &said.kept));
        let last = said.last_line();
        let with_last = |text: &str| match &last {
            Some(last) => format!("{text}: {last}"),
            None => text.to_owned(),
        };
        let (outcome, detail) = match tried {
            Tried::Exited(Some(0)) => (HookOutcome::Done, last),
            Tried::Exited(Some(TRY_AGAIN)) => {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                }
                if clock::boottime() < limit && !cut.is_cancelled() {
                    continue;
                }
                (HookOutcome::Failed, Some(with_last("it asked to be tried again and time was up")))
            }
            Tried::Exited(Some(code)) => {
                (HookOutcome::Failed, Some(with_last(&format!("it exited with {code}"))))
            }
            Tried::Exited(None) => (HookOutcome::Failed, Some(with_last("a signal ended it"))),
            Tried::CutOff => (HookOutcome::CutOff, Some(with_last("it was cut off at its limit"))),
            Tried::Flooded => {
                let most = MOST_OUTPUT / (1024 * 1024);
                (HookOutcome::Failed, Some(format!("it printed more than {most} MiB")))
            }
            Tried::Impossible(why) => (HookOutcome::Failed, Some(why)),
        };
        return Ending { outcome, detail };
    }
}

async fn once(
    run: &Run,
    limit: Boottime,
    cut: &CancellationToken,
    progress: &mut (dyn FnMut(u16) + Send),
    said: &mut Said,
) -> Tried {
    let cgroup = Cgroup::create(&run.name);
    let mut child = match spawn(run, limit, cgroup.as_ref()) {
        Ok(child) => child,
        Err(why) => return Tried::Impossible(why),
    };
    let pipe = child.stdin.take();
    let session = child.id();
    // A few lines of slack: a hook that prints faster than it is read only waits.
    let (sender, mut lines) = mpsc::channel(64);
    read_lines(child.stdout.take(), Stream::Output, sender.clone());
    read_lines(child.stderr.take(), Stream::Errors, sender);
    let left = limit.since(clock::boottime());
    let time_is_up = tokio::time::sleep(Duration::from_millis(left.0));
    tokio::pin!(time_is_up);
    let tried = loop {
        tokio::select! {
            Some((stream, line)) = lines.recv() => {
                said.hear(stream, &line, progress);
                if said.bytes > MOST_OUTPUT {
                    break Tried::Flooded;
                }
            }
            status = child.wait() => break match status {
                Ok(status) => Tried::Exited(status.code()),
                Err(error) => Tried::Impossible(format!("it cannot be waited for: {error}")),
            },
            () = cut.cancelled() => break Tried::CutOff,
            () = &mut time_is_up => break Tried::CutOff,
        }
    };
    // Its keeper ends everything below it as soon as the pipe is closed.
    drop(pipe);
    if matches!(tried, Tried::CutOff | Tried::Flooded) {
        drop(tokio::time::timeout(SWEEPS_FOR, child.wait()).await);
    }
    // What a keeper that was killed has left.
    if let Some(session) = session {
        drop(process::signal_group(session, Signal::KILL));
    }
    if let Some(cgroup) = cgroup {
        drop(cgroup.kill());
        cgroup.remove();
    }
    if matches!(tried, Tried::CutOff | Tried::Flooded) {
        drop(child.wait().await);
    }
    let rest = async {
        while let Some((stream, line)) = lines.recv().await {
            said.hear(stream, &line, progress);
        }
    };
    drop(tokio::time::timeout(REST_OF_OUTPUT, rest).await);
    tried
}

fn spawn(run: &Run, limit: Boottime, cgroup: Option<&Cgroup>) -> Result<Child, String> {
    let left = limit.since(clock::boottime());
    let deadline = clock::wall() + left;
    let deadline = jiff::Timestamp::from_millisecond(deadline.0).unwrap_or(jiff::Timestamp::MAX);
    let mut command = Command::new(&run.keeper);
    command.arg("keep-hook").arg("--limit-ms").arg((left + KEEPER_LATER).0.to_string());
    if let Some(user) = &run.user {
        command.arg("--user").arg(user.id.to_string()).arg("--group").arg(user.group.to_string());
    }
    if let Some(cgroup) = cgroup {
        command.arg("--cgroup").arg(cgroup.path());
    }
    command
        .arg("--")
        .args(&run.definition.command)
        .env_clear()
        .envs(&run.env)
        .env("WHARFAGE_DEADLINE", deadline.to_string())
        .env("WHARFAGE_SECONDS_LEFT", (left.0 / 1000).to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let keeper = run.keeper.display();
    command.spawn().map_err(|error| format!("cannot start its keeper `{keeper}`: {error}"))
}

/// Where a line came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Errors,
}

/// Sends each line of a stream until it ends or nobody listens.
fn read_lines<R>(stream: Option<R>, from: Stream, lines: mpsc::Sender<(Stream, String)>)
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let Some(stream) = stream else { return };
    tokio::spawn(async move {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let read = (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send((from, text)).await.is_err() {
                return;
            }
        }
    });
}

fn progress_of(line: &str) -> Option<u16> {
    let share: f64 = line.strip_prefix("progress ")?.trim().parse().ok()?;
    // Clamped, so the value is a small whole number.
    (0.0..=1.0).contains(&share).then(|| (share * 1000.0).round() as u16)
}

/// What a hook printed: the first part, for people.
#[derive(Default)]
struct Said {
    kept: String,
    last: String,
    bytes: u64,
}

impl Said {
    fn hear(&mut self, from: Stream, line: &str, progress: &mut (dyn FnMut(u16) + Send)) {
        self.bytes = self.bytes.saturating_add(line.len() as u64 + 1);
        match progress_of(line) {
            Some(permille) if from == Stream::Output => progress(permille),
            _ if line.is_empty() => {}
            _ => line.clone_into(&mut self.last),
        }
        if self.kept.len() + line.len() < KEPT_OUTPUT {
            self.kept.push_str(line);
            self.kept.push('\n');
        }
    }

    fn last_line(&self) -> Option<String> {
        // One sentence in a report: the rest is in the log.
        let short: String = self.last.chars().take(LONGEST_DETAIL).collect();
        (!short.is_empty()).then_some(short)
    }
}
