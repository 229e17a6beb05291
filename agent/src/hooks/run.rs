//! Runs one hook: a cleared environment, a process group of its own, a time limit after which
//! nothing of it lives, bounded output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::replica::HookOutcome;
use wharfage_shared::time::{Boottime, Millis};

use super::definition::Definition;
use crate::users::User;

/// So much of what a hook prints is kept for people.
const KEPT_OUTPUT: usize = 64 * 1024;

/// A line that is longer is cut: it is no progress.
const LONGEST_LINE: u64 = 4096;

/// So many characters of its last line are reported.
const LONGEST_DETAIL: usize = 200;

/// "Try again": sysexits' EX_TEMPFAIL.
const TRY_AGAIN: i32 = 75;

/// How long output is still read after the end: somebody may have left the group with the pipes.
const REST_OF_OUTPUT: Duration = Duration::from_secs(1);

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One run as it was asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is run.
    pub definition: Definition,
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
    let mut child = match spawn(run, limit) {
        Ok(child) => child,
        Err(why) => return Tried::Impossible(why),
    };
    let group = child.id();
    // A few lines of slack: a hook that prints faster than it is read only waits.
    let (sender, mut lines) = mpsc::channel(64);
    read_lines(child.stdout.take(), Stream::Output, sender.clone());
    read_lines(child.stderr.take(), Stream::Errors, sender);
    let left = limit.since(clock::boottime());
    let time_is_up = tokio::time::sleep(Duration::from_millis(left.0));
    tokio::pin!(time_is_up);
    let tried = loop {
        tokio::select! {
            Some((stream, line)) = lines.recv() => said.hear(stream, &line, progress),
            status = child.wait() => break match status {
                Ok(status) => Tried::Exited(status.code()),
                Err(error) => Tried::Impossible(format!("it cannot be waited for: {error}")),
            },
            () = cut.cancelled() => break Tried::CutOff,
            () = &mut time_is_up => break Tried::CutOff,
        }
    };
    // Its children must not outlive it, however it ended.
    if let Some(group) = group {
        drop(process::signal_group(group, Signal::KILL));
    }
    if matches!(tried, Tried::CutOff) {
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

fn spawn(run: &Run, limit: Boottime) -> Result<Child, String> {
    let definition = &run.definition;
    let (program, arguments) =
        definition.command.split_first().ok_or("its command is empty".to_owned())?;
    let left = limit.since(clock::boottime());
    let deadline = clock::wall() + left;
    let deadline = jiff::Timestamp::from_millisecond(deadline.0).unwrap_or(jiff::Timestamp::MAX);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&run.env)
        .env("WHARFAGE_DEADLINE", deadline.to_string())
        .env("WHARFAGE_SECONDS_LEFT", (left.0 / 1000).to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = &definition.user {
        let user = User::named(user)?;
        command.uid(user.id).gid(user.group);
    }
    command.spawn().map_err(|error| format!("cannot start `{program}`: {error}"))
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
}

impl Said {
    fn hear(&mut self, from: Stream, line: &str, progress: &mut (dyn FnMut(u16) + Send)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn hook(folder: &Folder, script: &str, timeout_seconds: u32) -> Run {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Run {
            definition: Definition { command, timeout_seconds, expected_seconds: None, user: None },
            env: BTreeMap::from([("WHARFAGE_HOOK".to_owned(), "drain".to_owned())]),
            log: folder.path().join("hook.log"),
            deadline: clock::boottime() + Millis::from_seconds(60),
        }
    }

    async fn ended(run: &Run) -> (Ending, Vec<u16>) {
        let mut heard = Vec::new();
        let ending =
            super::run(run, &CancellationToken::new(), &mut |permille| heard.push(permille)).await;
        (ending, heard)
    }

    #[tokio::test]
    async fn a_hook_sees_only_its_own_environment_and_its_progress_is_heard() {
        let folder = Folder::new("hook-run");
        let script = "echo progress 0.4; env | grep -v WHARFAGE | grep -v -e PWD -e SHLVL -e _=; \
                      echo progress 2; echo saved $WHARFAGE_HOOK for $WHARFAGE_SECONDS_LEFT s";
        let (ending, heard) = ended(&hook(&folder, script, 9)).await;
        assert_eq!(ending.outcome, HookOutcome::Done);
        assert_eq!(heard, [400]);
        let last = ending.detail.expect("it said something");
        assert!(last.starts_with("saved drain for "), "{last}");
        let kept = std::fs::read_to_string(folder.path().join("hook.log")).expect("kept");
        assert_eq!(kept.lines().count(), 3, "{kept}");
    }

    #[tokio::test]
    async fn a_hook_is_cut_off_with_everything_that_it_started() {
        let folder = Folder::new("hook-cut");
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", pid_file.display());
        let (ending, _) = ended(&hook(&folder, &script, 3)).await;
        assert_eq!(ending.outcome, HookOutcome::CutOff);
        let pid = std::fs::read_to_string(&pid_file).expect("it started");
        let pid: u32 = pid.trim().parse().expect("a pid");
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while process::find(pid).is_some_and(|p| !p.is_zombie) {
            assert!(std::time::Instant::now() < deadline, "its child still lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn exit_75_is_tried_again_and_other_ends_are_failures() {
        let folder = Folder::new("hook-again");
        let marker = folder.path().join("tried");
        let script = format!("test -e {0} && exit 0; touch {0}; exit 75", marker.display());
        assert_eq!(ended(&hook(&folder, &script, 30)).await.0.outcome, HookOutcome::Done);
        let (failed, _) = ended(&hook(&folder, "echo no space >&2; exit 3", 30)).await;
        assert_eq!(failed.outcome, HookOutcome::Failed);
        assert_eq!(failed.detail.as_deref(), Some("it exited with 3: no space"));
    }
}
