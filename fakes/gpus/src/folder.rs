//! The folder that `WHARFAGE_FAKE_GPUS` names, read again when `gpus.json` has changed.
//!
//! A file that cannot be understood is reported once on stderr and leaves the last good contents in
//! force: a slip of the pen in a drill must not look like eight lost GPUs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::FOLDER_VARIABLE;
use crate::spec::Fleet;

static FOLDER: Mutex<Option<Folder>> = Mutex::new(None);

/// What the folder said when it was last readable.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Where the claims are.
    pub path: PathBuf,
    /// The last good `gpus.json`.
    pub fleet: Arc<Fleet>,
}

/// The newest good contents, or `None` if there has been none.
pub fn contents() -> Option<Contents> {
    let named = std::env::var_os(FOLDER_VARIABLE)?;
    let mut folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    match folder.as_mut() {
        Some(folder) if folder.named == named => folder.contents(),
        Some(_) | None => folder.insert(Folder::new(named)).contents(),
    }
}

struct Folder {
    named: OsString,
    path: PathBuf,
    stamp: Option<Result<Stamp, io::ErrorKind>>,
    fleet: Option<Arc<Fleet>>,
}

/// Differs whenever the file was written or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Folder {
    fn new(named: OsString) -> Self {
        let path = PathBuf::from(&named);
        Self { named, path, stamp: None, fleet: None }
    }

    fn contents(&mut self) -> Option<Contents> {
        self.refresh();
        let fleet = self.fleet.clone()?;
        Some(Contents { path: self.path.clone(), fleet })
    }

    fn refresh(&mut self) {
        let file = self.path.join("gpus.json");
        // The stamp is taken before the text: a write in between is then seen at the next call.
        let stamp = fs::metadata(&file)
            .map(|found| Stamp {
                modified: (found.mtime(), found.mtime_nsec()),
                size: found.size(),
                inode: found.ino(),
            })
            .map_err(|error| error.kind());
        if self.stamp.as_ref() == Some(&stamp) {
            return;
        }
        self.stamp = Some(stamp);
        let read = fs::read_to_string(&file).map_err(|error| error.to_string());
        match read.and_then(|text| Fleet::parse(&text)) {
            Ok(fleet) => self.fleet = Some(Arc::new(fleet)),
            Err(reason) => eprintln!(
                "fake GPUs: cannot read `{}`, the last good contents stay in force: {reason}",
                file.display()
            ),
        }
    }
}
