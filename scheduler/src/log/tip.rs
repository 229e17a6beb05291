//! How far records were acknowledged, kept outside the database.
//!
//! SQLite drops a write-ahead log silently from its first damaged frame on: records that clients
//! were told of would be gone without a word. This file makes that visible. It is written after
//! each commit and never synced: it may say too little after a power cut, never too much.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Digits of the largest position, so that each write has the same length.
const WIDTH: usize = 20;

/// The file beside the log that ends with `.what`.
pub fn beside(log: &Path, what: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// The open file.
pub struct TipFile {
    file: File,
    path: PathBuf,
}

impl TipFile {
    /// Opens the file beside `log`, making it if there is none, and reads what it says.
    pub fn open(log: &Path) -> Result<(Self, u64), Error> {
        let path = beside(log, "tip");
        let failed = |source| Error::File { doing: "read", path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(&path).map_err(failed)?;
        let mut text = [0; WIDTH];
        let acknowledged = match file.read_exact_at(&mut text, 0) {
            Ok(()) => std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()),
            // Never written, or torn by a power cut: it says nothing.
            Err(_) => None,
        };
        Ok((Self { file, path }, acknowledged.unwrap_or(0)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that records up to `position` are durable. A failure only loses this witness.
    pub fn note(&self, position: u64) {
        let text = format!("{position:0width$}\n", width = WIDTH);
        if let Err(error) = self.file.write_all_at(text.as_bytes(), 0) {
            tracing::debug!(%error, path = %self.path.display(), "cannot note the log's end");
        }
    }
}
