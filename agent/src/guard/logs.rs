//! Keeps what an engine prints, bounded, and reads its words about loading.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The log is put aside at this size and begun anew: with two files the last 64 KiB are always
/// there. Under systemd the journal has all of it.
const LARGEST_LOG: u64 = 64 * 1024;

/// A journal that takes nothing must not stop the engine: its line is lost then.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);

/// A line without an end is cut here.
const LONGEST_LINE: usize = 64 * 1024;

/// Bytes of weights read and in all.
pub type Load = Option<(u64, u64)>;

#[derive(Deserialize)]
struct Loading {
    stage: String,
    bytes: u64,
    total: u64,
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Log {
    fn open(path: PathBuf) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
        Self { path, file, size }
    }

    /// A full disk must not stop the engine: what cannot be written is lost.
    fn write(&mut self, line: &[u8]) {
        if self.size > LARGEST_LOG {
            drop(std::fs::rename(&self.path, self.path.with_extension("log.1")));
            *self = Self::open(self.path.clone());
        } else if self.file.is_none() {
            // A disk on which nothing could be begun may take it by now.
            *self = Self::open(self.path.clone());
        }
        if let Some(file) = &mut self.file
            && file.write_all(line).is_ok()
        {
            self.size += line.len() as u64;
        }
    }
}

/// Copies an engine's output to its log until the engine closes it.
pub async fn keep(mut output: impl AsyncBufRead + Unpin, path: &Path, load: watch::Sender<Load>) {
    // Set where the unit's output goes to the journal.
    let has_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let mut journal = tokio::io::stdout();
    let mut log = Log::open(path.to_owned());
    let mut line = Vec::new();
    loop {
        let chunk = match output.fill_buf().await {
            Ok([]) | Err(_) => {
                // Last words often have no end.
                return log.write(&line);
            }
            Ok(chunk) => chunk,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |at| at + 1);
        line.extend_from_slice(&chunk[..taken]);
        output.consume(taken);
        if end.is_some() || line.len() > LONGEST_LINE {
            if let Ok(said) = serde_json::from_slice::<Loading>(&line)
                && said.stage == "loading"
            {
                load.send_replace(Some((said.bytes, said.total)));
            }
            if has_journal {
                drop(tokio::time::timeout(JOURNAL_PATIENCE, journal.write_all(&line)).await);
            }
            log.write(&line);
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_log_that_could_not_be_begun_is_begun_when_the_disk_takes_it() {
        let folder = Folder::new("engine-log");
        let path = folder.path().join("not-there-yet/engine.log");
        let mut log = Log::open(path.clone());
        log.write(b"lost\n");
        std::fs::create_dir(path.parent().expect("a folder")).expect("made");
        log.write(b"kept\n");
        assert_eq!(std::fs::read_to_string(&path).expect("a log"), "kept\n");
    }
}
