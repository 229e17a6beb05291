//! A value read from files, read again when one of them has changed.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What tells one version of a file from another; the inode, because a rename may fall into the
/// same tick of the file system's clock as the file it replaces.
type Stamp = Vec<Option<(i64, i64, u64)>>;

/// A value with the files it came from and the way to read it again.
pub(crate) struct Reloaded<T, E> {
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    current: Mutex<(Stamp, Arc<T>)>,
}

impl<T, E: Error> Reloaded<T, E> {
    /// Reads the value for the first time.
    pub fn open(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let stamp = stamp(&files);
        let value = Arc::new(read()?);
        Ok(Self { files, read: Box::new(read), current: Mutex::new((stamp, value)) })
    }

    /// The value of now. When changed files cannot be used the old value goes on, and the reason
    /// is logged once per change.
    pub fn current(&self) -> Arc<T> {
        let now = stamp(&self.files);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != now {
            match (self.read)() {
                Ok(value) => current.1 = Arc::new(value),
                Err(error) => tracing::warn!(
                    files = ?self.files,
                    %error,
                    "cannot use the changed certificate, the old one stays"
                ),
            }
            current.0 = now;
        }
        Arc::clone(&current.1)
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    let one = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.ino()))
    };
    files.iter().map(one).collect()
}
