//! What the agent must still know after it was ended at any instant: the desired state, the
//! segment log and incidents.

pub mod desired;
pub mod frames;
pub mod health;
pub mod history;
pub mod segments;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Whether a write failed because there is no room: nothing is wrong with what is there already.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Replaces a file so that a crash leaves either the old or the new contents, never a mixture.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // Half a file would take the room that is missing.
        drop(fs::remove_file(&temporary));
    }
    written?;
    File::open(folder)?.sync_all()
}
