//! One agent per state folder: a lock that the kernel drops with its holder.
//!
//! Within a process it is given back by name: an engine that is just being started shares the open
//! file for a moment, and closing ours alone would leave the lock with it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("another process holds `{path}`")]
    Held {
        /// The lock's file.
        path: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("cannot lock `{path}`")]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Held until it is dropped, or until its process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at once or says that it is held.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(at)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Held { path: path.to_owned() }),
            Err(errno) => Err(at(errno.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file, which follows, gives the lock back as well unless a child shares it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_that_it_is_held() {
        let path = std::env::temp_dir().join(format!("wharfage-lock-test-{}", std::process::id()));
        let first = Lock::take(&path).expect("nobody holds it");
        assert!(matches!(Lock::take(&path), Err(Error::Held { .. })));
        let inherited = first.file.try_clone().expect("a child has the same open file");
        drop(first);
        assert!(Lock::take(&path).is_ok(), "given back although the file is still open");
        drop(inherited);
        std::fs::remove_file(&path).expect("it exists");
    }
}
