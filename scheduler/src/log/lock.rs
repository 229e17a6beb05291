//! One process per log: an advisory lock on a file beside it, which names its holder.
//!
//! The kernel drops the lock with its process, however that ends, so nothing stale can stay. Within
//! a process it is given back by name: a child that is just being started shares the open file for
//! a moment, and closing ours alone would leave the lock with it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::Error;
use super::tip::beside;

/// Held as long as the log is open.
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the log at `log`, or says who has it.
    pub fn take(log: &Path) -> Result<Self, Error> {
        let path = beside(log, "lock");
        let failed = |doing| {
            let path = path.clone();
            move |source| Error::File { doing, path, source }
        };
        refuse_network(log)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Unreadable is as good as unknown: the refusal itself stands.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "unknown".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(Error::InUse { path: log.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        file.set_len(0).map_err(failed("write"))?;
        file.rewind().map_err(failed("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write"))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file, which follows, gives the lock back as well unless a child shares it.
        let _ = self.file.unlock();
    }
}

/// File systems whose locks and syncs are another machine's word, by their magic numbers.
const NETWORK: [(u64, &str); 3] = [(0x6969, "nfs"), (0xff53_4d42, "cifs"), (0xfe53_4d42, "smb")];

fn refuse_network(log: &Path) -> Result<(), Error> {
    let dir = log.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = rustix::fs::statfs(dir).map_err(|error| Error::File {
        doing: "look at",
        path: dir.to_owned(),
        source: error.into(),
    })?;
    let magic = u64::from(about.f_type as u32);
    match NETWORK.iter().find(|(known, _)| *known == magic) {
        Some((_, kind)) => Err(Error::Remote { path: log.to_owned(), kind }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_being_started_does_not_keep_the_lock() {
        let dir = std::env::temp_dir().join(format!("wharfage-log-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder can be made");
        let log = dir.join("log.sqlite");
        let first = Lock::take(&log).expect("nobody holds it");
        assert!(matches!(Lock::take(&log), Err(Error::InUse { .. })));
        let inherited = first.file.try_clone().expect("a child has the same open file");
        drop(first);
        assert!(Lock::take(&log).is_ok(), "given back although the file is still open");
        drop(inherited);
        std::fs::remove_dir_all(&dir).expect("it exists");
    }
}
