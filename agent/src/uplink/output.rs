//! Sends the end of replicas' output to the scheduler, for people who look for what went wrong.
//! Output is no fact: what cannot be sent is in the replica's folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharfage_link::client::MachineClient;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::logs::LogLines;

use crate::guard::record::Folder;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// So much of one file at a look: the scheduler keeps a thousand lines.
const MOST_BYTES: u64 = 64 * 1024;

/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends until `stop`.
pub async fn send_output(
    state_dir: PathBuf,
    client: Result<MachineClient, String>,
    stop: CancellationToken,
) {
    // The heartbeat's line says what is wrong with TLS; without it there is nobody to send to.
    let Ok(client) = client else { return };
    let mut tails = Tails::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = {
            let (state_dir, mut tails) = (state_dir.clone(), std::mem::take(&mut tails));
            tokio::task::spawn_blocking(move || (tails.look(&state_dir), tails)).await
        };
        let Ok((new, kept)) = looked else { return };
        tails = kept;
        for lines in new {
            let sent = client.post_json::<_, serde_json::Value>("/agent/v1/logs", &lines, TIMEOUT);
            if let Err(error) = sent.await {
                tracing::debug!(replica.id = %lines.replica, "output was not taken: {error}");
            }
        }
    }
}

/// How far each file was read.
#[derive(Default)]
struct Tails {
    read: BTreeMap<PathBuf, u64>,
}

impl Tails {
    fn look(&mut self, state_dir: &Path) -> Vec<LogLines> {
        let replicas = Folder::list(state_dir).unwrap_or_default();
        let new: Vec<LogLines> =
            replicas.iter().filter_map(|replica| self.of(state_dir, *replica)).collect();
        self.read.retain(|path, _| path.exists());
        new
    }

    fn of(&mut self, state_dir: &Path, replica: ReplicaId) -> Option<LogLines> {
        let folder = Folder::of(state_dir, replica);
        let mut lines = Vec::new();
        for name in ["engine.log", "engine.err.log"] {
            let path = folder.path().join(name);
            let from = self.read.get(&path).copied().unwrap_or(0);
            // A file that is not there yet or not any more has nothing new.
            let Ok((text, read)) = whole_lines(&path, from) else { continue };
            lines.extend(text.lines().map(str::to_owned));
            self.read.insert(path, read);
        }
        (!lines.is_empty()).then_some(LogLines { replica, lines })
    }
}

/// The whole lines after `from`, and up to where they were read.
fn whole_lines(path: &Path, from: u64) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    // Smaller than before: it was put aside and begun anew. Far behind: the newest matters.
    let from = if size < from { 0 } else { from.max(size.saturating_sub(MOST_BYTES)) };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(end);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), from + end as u64))
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
        std::fs::write(&log, "one\ntwo\nthr").expect("written");
        let first = tails.look(state.path());
        assert_eq!(first[0].lines, ["one", "two"]);
        assert!(tails.look(state.path()).is_empty());
        std::fs::write(&log, "one\ntwo\nthree\n").expect("written");
        assert_eq!(tails.look(state.path())[0].lines, ["three"]);
        std::fs::write(&log, "new\n").expect("written");
        assert_eq!(tails.look(state.path())[0].lines, ["new"]);
    }
}
