//! Sends the end of replicas' output to the scheduler, for people who look for what went wrong.
//! Output is no fact: what cannot be sent is in the replica's folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_link::client::MachineClient;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::logs::LogLines;

use crate::guard::record::Folder;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two looks while nothing is here that could print: a replica that begins rings.
const LOOK_WHILE_EMPTY: Duration = Duration::from_secs(30);

/// So much of one file at a look: the scheduler keeps a thousand lines.
const MOST_BYTES: u64 = 64 * 1024;

/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Ended replicas whose last words wait to be sent; beyond them they are only on the node.
const MOST_LAST_WORDS: usize = 256;

/// What replicas print, on its way to the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Output {
    state_dir: PathBuf,
    tails: Arc<Mutex<Tails>>,
    last_words: mpsc::Sender<LogLines>,
    /// Rings when a replica begins.
    begun: Arc<Notify>,
}

/// The last words of ended replicas, to be sent.
pub type LastWords = mpsc::Receiver<LogLines>;

impl Output {
    /// Of the replicas of this state folder.
    pub fn new(state_dir: PathBuf) -> (Self, LastWords) {
        let (last_words, heard) = mpsc::channel(MOST_LAST_WORDS);
        (Self { state_dir, tails: Arc::default(), last_words, begun: Arc::default() }, heard)
    }

    /// Takes what an ended replica said since the last look, before its folder is removed: of one
    /// that failed at once it is all there is.
    pub fn take_last_words(&self, replica: ReplicaId) {
        let Some(lines) = self.tails().of(&self.state_dir, replica, Rest::Whole) else { return };
        if self.last_words.try_send(lines).is_err() {
            tracing::debug!(replica.id = %replica, "the last words of a replica were not sent");
        }
    }

    /// A replica has begun: from now on there is something to look at.
    pub fn begin(&self) {
        self.begun.notify_one();
    }

    /// Waits for the next look, which comes soon where a replica begins.
    async fn due(&self, next: &mut Instant) {
        loop {
            tokio::select! {
                () = self.begun.notified() => *next = (*next).min(Instant::now() + LOOK_EVERY),
                () = tokio::time::sleep_until(*next) => return,
            }
        }
    }

    /// Until the next look, after this one.
    fn pause(&self) -> Duration {
        if self.tails().is_empty { LOOK_WHILE_EMPTY } else { LOOK_EVERY }
    }

    fn look(&self) -> Vec<LogLines> {
        self.tails().look(&self.state_dir)
    }

    fn tails(&self) -> MutexGuard<'_, Tails> {
        // A look that panicked has noted whole steps: each file is noted after it was read.
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends until `stop`.
pub async fn send_output(
    output: Output,
    mut last_words: LastWords,
    client: Result<MachineClient, String>,
    stop: CancellationToken,
) {
    // The heartbeat's line says what is wrong with TLS; without it there is nobody to send to.
    let Ok(client) = client else { return };
    let mut next = Instant::now() + LOOK_EVERY;
    loop {
        let new = tokio::select! {
            () = stop.cancelled() => return,
            Some(last) = last_words.recv() => vec![last],
            () = output.due(&mut next) => {
                let (begun, looking) = (Instant::now(), output.clone());
                let looked = tokio::task::spawn_blocking(move || looking.look()).await;
                next = begun + output.pause();
                match looked {
                    Ok(new) => new,
                    Err(_) => return,
                }
            }
        };
        for lines in new {
            let sent = client.post_json::<_, IgnoredAny>("/agent/v1/logs", &lines, TIMEOUT);
            if let Err(error) = sent.await {
                tracing::debug!(replica.id = %lines.replica, "output was not taken: {error}");
            }
        }
    }
}

/// What becomes of the line that has no end yet.
#[derive(Clone, Copy, PartialEq)]
enum Rest {
    /// It waits.
    Waits,
    /// It is whole: nobody writes on.
    Whole,
}

/// How far each file was read.
#[derive(Default)]
struct Tails {
    read: BTreeMap<PathBuf, u64>,
    /// No replica was here at the last look.
    is_empty: bool,
}

impl Tails {
    fn look(&mut self, state_dir: &Path) -> Vec<LogLines> {
        let listed = Folder::list(state_dir);
        self.is_empty = listed.as_ref().is_ok_and(Vec::is_empty);
        let replicas = listed.unwrap_or_default();
        let new = replicas.iter().filter_map(|id| self.of(state_dir, *id, Rest::Waits)).collect();
        self.read.retain(|path, _| path.exists());
        new
    }

    fn of(&mut self, state_dir: &Path, replica: ReplicaId, rest: Rest) -> Option<LogLines> {
        let folder = Folder::of(state_dir, replica);
        let mut lines = Vec::new();
        for name in ["engine.log", "engine.err.log"] {
            let path = folder.path().join(name);
            let from = self.read.get(&path).copied().unwrap_or(0);
            // A file that is not there yet or not any more has nothing new.
            let Ok((text, read)) = new_lines(&path, from, rest) else { continue };
            lines.extend(text.lines().map(str::to_owned));
            self.read.insert(path, read);
        }
        (!lines.is_empty()).then_some(LogLines { replica, lines })
    }
}

/// The lines after `from`, and up to where they were read.
fn new_lines(path: &Path, from: u64, rest: Rest) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    // Smaller than before: it was put aside and begun anew. Far behind: the newest matters.
    let from = if size < from { 0 } else { from.max(size.saturating_sub(MOST_BYTES)) };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    if rest == Rest::Waits {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(end);
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), from + bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn each_line_is_sent_once_and_half_a_line_waits() {
        let state = testing::Folder::new("output");
        let folder = Folder::of(state.path(), ReplicaId(3));
        folder.create().expect("made");
        let log = folder.path().join("engine.log");
        let mut tails = Tails::default();
        assert!(tails.look(state.path()).is_empty());
        assert!(!tails.is_empty, "it may print at any moment");
        std::fs::write(&log, "one\ntwo\nthr").expect("written");
        let first = tails.look(state.path());
        assert_eq!(first[0].lines, ["one", "two"]);
        assert!(tails.look(state.path()).is_empty());
        std::fs::write(&log, "one\ntwo\nthree\n").expect("written");
        assert_eq!(tails.look(state.path())[0].lines, ["three"]);
        std::fs::write(&log, "new\n").expect("written");
        assert_eq!(tails.look(state.path())[0].lines, ["new"]);
    }

    #[test]
    fn a_node_without_replicas_is_looked_at_seldom_until_one_begins() {
        let state = testing::Folder::new("output-empty");
        let (output, _last_words) = Output::new(state.path().to_owned());
        assert!(output.look().is_empty());
        assert_eq!(output.pause(), LOOK_WHILE_EMPTY);
        Folder::of(state.path(), ReplicaId(3)).create().expect("made");
        assert!(output.look().is_empty());
        assert_eq!(output.pause(), LOOK_EVERY);
    }

    #[tokio::test]
    async fn the_first_lines_of_a_replica_do_not_wait_for_the_look_at_an_empty_node() {
        let (output, _last_words) = Output::new(PathBuf::from("/nowhere"));
        let mut next = Instant::now() + LOOK_WHILE_EMPTY;
        output.begin();
        let looked = tokio::time::timeout(LOOK_WHILE_EMPTY / 2, output.due(&mut next));
        looked.await.expect("long before it would have been looked at");
    }

    #[test]
    fn last_words_are_what_was_not_sent_yet_half_a_line_too() {
        let state = testing::Folder::new("last-words");
        let folder = Folder::of(state.path(), ReplicaId(3));
        folder.create().expect("made");
        let (output, mut last_words) = Output::new(state.path().to_owned());
        std::fs::write(folder.path().join("engine.log"), "one\ntw").expect("written");
        assert_eq!(output.look()[0].lines, ["one"]);
        std::fs::write(folder.path().join("engine.err.log"), "no weights\n").expect("written");
        output.take_last_words(ReplicaId(3));
        assert_eq!(last_words.try_recv().expect("words").lines, ["tw", "no weights"]);
        output.take_last_words(ReplicaId(3));
        last_words.try_recv().expect_err("each line is sent once");
        output.take_last_words(ReplicaId(4));
        last_words.try_recv().expect_err("it never said anything");
    }
}
