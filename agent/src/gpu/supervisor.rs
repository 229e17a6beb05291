//! Watches the helper: a GPU that falls silent is marked, its helper is abandoned and another one
//! tried, at most three alive; the agent itself never waits for the driver.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::health::{XidSeen, XidSource};
use wharfage_agent_sys::clock;
use wharfage_agent_sys::process::{self, ProcessId};
use wharfage_shared::time::{Boottime, Millis};

use super::census::{self, Roots, Sightings};
pub use super::state::DOES_NOT_ANSWER;
use super::state::Gpus;
use super::words::Word;

/// NVML must initialise within this long, or no GPU is trusted.
const INIT_DEADLINE: Millis = Millis::from_seconds(8);

/// A driver that was not loaded may take this long; another helper would only start from the
/// beginning.
const INIT_HANGS_AFTER: Millis = Millis::from_seconds(30);

/// So many helpers may live at once: each abandoned one sits in a call of its own.
const MOST_ALIVE: usize = 3;

/// The first pause before another helper is tried; doubled up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause before another helper is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A helper that worked for so long was no failed attempt.
const WORKED_FOR: Millis = Millis::from_seconds(60);

/// A helper that nobody listens to ends within this long, its wait for XIDs included, unless it
/// hangs.
const ENDS_WITHIN: Millis = Millis::from_seconds(5);

/// How often it is looked whether it has.
const EARLIER_LOOK: Duration = Duration::from_millis(100);

/// How often silence is looked for, at the latest.
const SILENCE_LOOK: Millis = Millis(1250);

/// A word that comes so long after the last look is a moment to look as well: helpers speak every
/// second at least, and nobody wakes up for the look alone then.
const LOOK_AT_WORD: Millis = Millis(600);

/// A lost GPU is looked for by initialising NVML anew after this long; doubled up to
/// `LONGEST_RENEWAL`.
const FIRST_RENEWAL: Millis = Millis::from_seconds(5);

/// The longest time between two such attempts.
const LONGEST_RENEWAL: Millis = Millis::from_seconds(300);

/// How long the last words of a helper that has ended may take, and between two looks for them.
const LAST_LINE: Duration = Duration::from_millis(500);
const LAST_LINE_LOOK: Duration = Duration::from_millis(10);

/// More of one line is of no use in a sentence.
const LONGEST_LINE: u64 = 512;

/// XIDs that wait to be heard; more at once would be one incident anyway.
const MOST_XIDS: usize = 256;

/// How helpers are started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's own program.
    pub program: PathBuf,
    /// NVML's path (default: the system's).
    pub library: Option<PathBuf>,
    /// Extra environment of the helper.
    pub env: BTreeMap<String, String>,
    /// Where others tell which GPUs they see.
    pub roots: Roots,
    /// Whose helpers count together: those of every agent of this state folder.
    pub state_dir: PathBuf,
}

/// The name in a helper's environment that says whose it is.
pub const HELPER_OF: &str = "WHARFAGE_HELPER_OF";

/// What comes out of watching.
pub struct Watched {
    /// Always the newest state.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// XIDs as NVML tells them.
    pub xids: mpsc::Receiver<XidSeen>,
}

/// Starts watching.
pub fn start(settings: Settings, stop: CancellationToken) -> Watched {
    let (sender, gpus) = watch::channel(Arc::new(Gpus::default()));
    let (heard, xids) = mpsc::channel(MOST_XIDS);
    tokio::spawn(async move {
        let sightings = census::watch(settings.roots.clone());
        let renewal = Renewal::default();
        let mut supervisor = Supervisor {
            settings,
            gpus: Gpus::default(),
            sender,
            heard,
            sightings,
            renewal,
            abandoned: Vec::new(),
            said: Arc::default(),
        };
        supervisor.find_earlier().await;
        supervisor.run(stop).await;
    });
    Watched { gpus, xids }
}

struct Supervisor {
    settings: Settings,
    gpus: Gpus,
    sender: watch::Sender<Arc<Gpus>>,
    heard: mpsc::Sender<XidSeen>,
    sightings: watch::Receiver<Sightings>,
    renewal: Renewal,
    /// Helpers that nobody listens to any more and that have not ended yet.
    abandoned: Vec<Abandoned>,
    /// The last line that the present helper wrote to its standard error.
    said: Arc<Mutex<String>>,
}

/// A helper that nobody listens to.
enum Abandoned {
    /// This agent's.
    Own(Child),
    /// An earlier agent's: what hung then may hang still.
    Earlier(ProcessId),
}

/// When NVML is initialised anew for the sake of a lost GPU.
#[derive(Default)]
struct Renewal {
    /// The wait before the next attempt, once there was one.
    wait: Option<Millis>,
    /// Since when one is due.
    lost_since: Option<Boottime>,
}

impl Renewal {
    /// Whether it is time to try.
    fn is_due(&mut self, has_lost_one: bool, now: Boottime) -> bool {
        if !has_lost_one {
            *self = Self::default();
            return false;
        }
        let since = *self.lost_since.get_or_insert(now);
        let wait = self.wait.unwrap_or(FIRST_RENEWAL);
        if now.since(since) < wait {
            return false;
        }
        self.wait = Some(Millis(wait.0.saturating_mul(2)).min(LONGEST_RENEWAL));
        self.lost_since = Some(now);
        true
    }
}

/// Why a helper is no longer listened to.
enum Parted {
    /// It ended.
    Ended,
    /// It hangs in a call, or can do nothing more, and is left to itself.
    Hangs(Child),
    /// It works, but NVML must be initialised anew: it ends when its calls have returned.
    Renewed(Child),
    /// The agent ends.
    Stopped,
}

/// What a look at a helper and its GPUs comes to.
enum Outlook {
    /// All answer, or nothing more can be tried.
    Well,
    /// A call hangs: another helper is tried.
    Hangs,
    /// A GPU is lost: NVML is initialised anew.
    Lost,
}

/// What words say about their helper, the worst last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    /// NVML works.
    Works,
    /// NVML works, but its list is old.
    Outdated,
    /// NVML does not work.
    Useless,
}

impl Supervisor {
    async fn run(&mut self, stop: CancellationToken) {
        self.let_earlier_end().await;
        let mut pause = FIRST_PAUSE;
        loop {
            if self.others() < MOST_ALIVE {
                let listened_since = clock::boottime();
                match self.listen(&stop).await {
                    Parted::Stopped => return,
                    Parted::Ended => {}
                    Parted::Hangs(child) => self.abandoned.push(Abandoned::Own(child)),
                    Parted::Renewed(child) => {
                        // The other GPUs shall not wait for their readings.
                        self.abandoned.push(Abandoned::Own(child));
                        continue;
                    }
                }
                if clock::boottime().since(listened_since) > WORKED_FOR {
                    pause = FIRST_PAUSE;
                }
            } else {
                self.no_helper(format!(
                    "{DOES_NOT_ANSWER}: {MOST_ALIVE} helpers of earlier agents sit in calls that \
                     do not return"
                ));
            }
            self.gpus.helpers_alive = self.others();
            self.publish();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Starts one helper and takes its words until it ends, hangs or the agent ends.
    async fn listen(&mut self, stop: &CancellationToken) -> Parted {
        // Dropped with this function: the closed stream asks the helper to end.
        let (mut child, _input) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                self.no_helper(format!("the GPU helper cannot be started: {error}"));
                return Parted::Ended;
            }
        };
        self.gpus.helpers_alive = self.abandoned.len() + 1;
        let mut lines = child.stdout.take().map(|output| BufReader::new(output).lines());
        let started = clock::boottime();
        let mut answered = false;
        let mut looked_at = started;
        loop {
            let left = SILENCE_LOOK.0.saturating_sub(clock::boottime().since(looked_at).0);
            let mut may_wait = LOOK_AT_WORD;
            tokio::select! {
                () = stop.cancelled() => return Parted::Stopped,
                words = next_words(&mut lines) => match words.map(|words| self.hear(words)) {
                    Some(Heard::Works) => answered = true,
                    // It may hang in a call of another GPU and never come to its end.
                    Some(Heard::Useless) => return Parted::Hangs(child),
                    Some(Heard::Outdated) if self.others() + 1 < MOST_ALIVE => {
                        return Parted::Renewed(child);
                    }
                    Some(Heard::Outdated) => {}
                    None => {
                        let ended = child.wait().await;
                        // What NVML has said of the matter itself is worth more.
                        if answered || self.gpus.trouble.is_none() {
                            let last = self.last_line().await;
                            let how = ended.map_or_else(|error| error.to_string(), |how| how.to_string());
                            self.no_helper(format!("the GPU helper ended ({how}){last}; another one starts"));
                        }
                        return Parted::Ended;
                    }
                },
                () = tokio::time::sleep(Duration::from_millis(left)) => may_wait = Millis(0),
            }
            let now = clock::boottime();
            if now.since(looked_at) < may_wait {
                continue;
            }
            looked_at = now;
            match self.look(answered, started, now) {
                Outlook::Well => {}
                Outlook::Hangs => return Parted::Hangs(child),
                Outlook::Lost => return Parted::Renewed(child),
            }
        }
    }

    /// Looks for silence, of the helper and of each GPU.
    fn look(&mut self, answered: bool, started: Boottime, now: Boottime) -> Outlook {
        self.compare();
        // The last helper allowed is kept: the other GPUs still answer.
        let alive = self.others() + 1;
        let may_go = alive < MOST_ALIVE;
        if alive != std::mem::replace(&mut self.gpus.helpers_alive, alive) {
            self.publish();
        }
        if !answered {
            let waited = now.since(started);
            if waited > INIT_DEADLINE {
                self.no_helper(format!("{DOES_NOT_ANSWER}: NVML does not initialise"));
            }
            return if waited > INIT_HANGS_AFTER { Outlook::Hangs } else { Outlook::Well };
        }
        let is_silent = self.mark_silent(now, started);
        if is_silent && may_go {
            return Outlook::Hangs;
        }
        let is_due = !is_silent && self.renewal.is_due(self.gpus.has_lost_one(), now);
        if is_due && may_go { Outlook::Lost } else { Outlook::Well }
    }

    /// Abandoned helpers that still live.
    fn others(&mut self) -> usize {
        self.abandoned.retain_mut(|helper| match helper {
            Abandoned::Own(child) => matches!(child.try_wait(), Ok(None)),
            Abandoned::Earlier(id) => process::is_alive(*id),
        });
        self.abandoned.len()
    }

    /// Gives helpers of earlier agents the time in which one that does not hang ends.
    async fn let_earlier_end(&mut self) {
        let begun = clock::boottime();
        while self.others() >= MOST_ALIVE && clock::boottime().since(begun) < ENDS_WITHIN {
            tokio::time::sleep(EARLIER_LOOK).await;
        }
    }

    /// Finds helpers that earlier agents left: an agent that is started again beside a driver that
    /// hangs must not add to them for ever.
    async fn find_earlier(&mut self) {
        let mark = self.mark();
        let found = tokio::task::spawn_blocking(move || process::marked(&mark)).await;
        match found {
            Ok(Ok(found)) => self.abandoned.extend(found.into_iter().map(Abandoned::Earlier)),
            Ok(Err(error)) => tracing::warn!("helpers of earlier agents are not counted: {error}"),
            Err(error) => tracing::warn!("helpers of earlier agents are not counted: {error}"),
        }
    }

    fn mark(&self) -> String {
        format!("{HELPER_OF}={}", self.settings.state_dir.display())
    }

    fn spawn(&mut self) -> std::io::Result<(Child, Option<ChildStdin>)> {
        let mut command = Command::new(&self.settings.program);
        command.arg("nvml-helper");
        if let Some(library) = &self.settings.library {
            command.arg("--library").arg(library);
        }
        // A group of its own: a Ctrl-C at the agent's terminal must not end it inside a call.
        command.envs(&self.settings.env).env(HELPER_OF, &self.settings.state_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(false);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        self.said = Arc::default();
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(keep_last_line(errors, Arc::clone(&self.said)));
        }
        Ok((child, input))
    }

    /// Takes what was seen at one moment and tells everybody.
    fn hear(&mut self, words: Vec<Word>) -> Heard {
        let heard = words.into_iter().map(|word| self.take(word)).max();
        self.publish();
        heard.unwrap_or(Heard::Works)
    }

    fn take(&mut self, word: Word) -> Heard {
        match word {
            Word::Gpus { boards, absent, versions } => {
                self.gpus.list(boards, absent, versions);
                let sightings = self.sightings.borrow_and_update().clone();
                self.gpus.compare(&sightings);
            }
            Word::Unusable { because } => {
                self.no_helper(because);
                return Heard::Useless;
            }
            Word::Recounted => return Heard::Outdated,
            // Another helper may come through where this one sits.
            Word::Hanging(calls) => {
                if self.gpus.hanging(&calls) {
                    return Heard::Outdated;
                }
            }
            Word::Reading { at, slots } => {
                self.gpus.read(at, slots);
            }
            Word::Section { at, gpu, number, section, trouble } => {
                self.gpus.section(at, gpu, number, section.map(|section| *section), trouble);
            }
            Word::Xid { at, gpu, xid, place } => {
                let board = self.gpus.boards.iter().find(|board| board.uuid == gpu);
                let pci = board.and_then(|board| board.pci.known().cloned());
                let parts = board.zip(place).map(|(board, place)| board.slots_at(place));
                self.gpus.xid(at, gpu.clone(), xid);
                let text = format!("NVML reports XID {xid}");
                let source = XidSource::Nvml;
                // Full when nobody listens: the count above still tells of it.
                drop(self.heard.try_send(XidSeen {
                    at,
                    gpu: Some(gpu),
                    parts: parts.unwrap_or_default(),
                    pci,
                    xid,
                    text,
                    source,
                    sequence: None,
                }));
            }
        }
        Heard::Works
    }

    fn compare(&mut self) {
        if !self.sightings.has_changed().unwrap_or(false) {
            return;
        }
        let sightings = self.sightings.borrow_and_update().clone();
        if self.gpus.compare(&sightings) {
            self.publish();
        }
    }

    /// Marks GPUs that were not read for too long; whether there are any.
    fn mark_silent(&mut self, now: Boottime, started: Boottime) -> bool {
        let (any, changed) = self.gpus.mark_silent(now, started);
        if changed {
            self.publish();
        }
        any
    }

    /// What the helper last wrote to its standard error, as the rest of a sentence.
    async fn last_line(&self) -> String {
        // It has ended: its last words are on their way, unless a child of its holds the stream.
        let all_read = async {
            while Arc::strong_count(&self.said) > 1 {
                tokio::time::sleep(LAST_LINE_LOOK).await;
            }
        };
        drop(tokio::time::timeout(LAST_LINE, all_read).await);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { String::new() } else { format!(": {said}") }
    }

    fn no_helper(&mut self, because: String) {
        if self.gpus.is_settled && self.gpus.trouble.as_ref() == Some(&because) {
            return;
        }
        self.gpus.trouble = Some(because);
        self.gpus.is_settled = true;
        self.publish();
    }

    fn publish(&self) {
        self.sender.send_replace(Arc::new(self.gpus.clone()));
    }
}

/// What the helper says next; nothing when it has ended. Loses nothing when it is not waited for to
/// the end.
async fn next_words(lines: &mut Option<Lines<BufReader<ChildStdout>>>) -> Option<Vec<Word>> {
    while let Ok(Some(text)) = lines.as_mut()?.next_line().await {
        // A line of another version of the helper is skipped, not trusted.
        if let Ok(words) = serde_json::from_str(&text) {
            return Some(words);
        }
    }
    None
}

/// Keeps the last line of a helper's standard error, and reads on so that it never waits for us.
async fn keep_last_line(errors: ChildStderr, said: Arc<Mutex<String>>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut one = (&mut errors).take(LONGEST_LINE);
        if !matches!(one.read_until(b'\n', &mut line).await, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            *said.lock().unwrap_or_else(PoisonError::into_inner) = text.trim().to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_helper_that_ends_without_a_word_is_explained_by_how_it_ended_and_its_last_line() {
        let folder = Folder::new("helper-words");
        let program = folder.path().join("helper");
        let script =
            "#!/bin/sh\necho first >&2; echo 'libnvidia-ml.so.1: bad symbol' >&2; exit 127\n";
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let settings = Settings {
            program,
            library: None,
            env: BTreeMap::new(),
            roots: Roots { driver: folder.path().join("driver"), pci: folder.path().join("pci") },
            state_dir: folder.path().to_owned(),
        };
        let stop = CancellationToken::new();
        let mut watched = start(settings, stop.clone());
        let seen = watched.gpus.wait_for(|gpus| gpus.trouble.is_some()).await.expect("a word");
        let said = seen.trouble.clone().expect("a sentence");
        drop(seen);
        stop.cancel();
        assert_eq!(
            said,
            "the GPU helper ended (exit status: 127): libnvidia-ml.so.1: bad symbol; another one \
             starts"
        );
    }
}
