//! Snapshots: the fleet as of one record, so that a start replays only what came after it.
//!
//! A snapshot is never trusted for its own sake: it counts only if the log holds the record whose
//! hash it names, and if its own bytes are what was written. Without one the whole log is replayed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharfage_billing::chain::Hash;

use super::Error;

/// Snapshots that are kept: the newest, and one more should it be damaged.
const KEPT: usize = 2;

/// The layout of the files; others are passed over.
const LAYOUT: u16 = 1;

/// The folder of snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

/// One snapshot, read and seen to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record that is in it.
    pub position: u64,
    /// That record's hash.
    pub record: Hash,
    /// The fleet, as the driver wrote it.
    pub body: String,
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    layout: u16,
    position: u64,
    record: Hash,
    body: Hash,
}

impl Snapshots {
    /// The folder at `dir`; it is made with the first snapshot.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Positions of which there is a file, newest first.
    pub fn positions(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut positions: Vec<u64> =
            names.filter_map(|name| name.strip_suffix(".snapshot")?.parse().ok()).collect();
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions
    }

    /// The snapshot as of `position`, if its file is whole.
    pub fn read(&self, position: u64) -> Option<Snapshot> {
        let text = fs::read_to_string(self.path(position)).ok()?;
        let (head, body) = text.split_once('\n')?;
        let head: Head = serde_json::from_str(head).ok()?;
        let is_whole = head.layout == LAYOUT
            && head.position == position
            && head.body == Hash::of(body.as_bytes());
        is_whole.then(|| Snapshot { position, record: head.record, body: body.to_owned() })
    }

    /// Writes a snapshot durably and removes all but the newest few.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let path = self.path(snapshot.position);
        let failed = |source| Error::File { doing: "write", path: path.clone(), source };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let head = Head {
            layout: LAYOUT,
            position: snapshot.position,
            record: snapshot.record,
            body: Hash::of(snapshot.body.as_bytes()),
        };
        let head = serde_json::to_string(&head).expect("a head of numbers and texts is JSON");
        write_durably(&path, &[head.as_bytes(), b"\n", snapshot.body.as_bytes()])
            .map_err(failed)?;
        for position in self.positions().into_iter().skip(KEPT) {
            // One that stays costs room only.
            let _ = fs::remove_file(self.path(position));
        }
        Ok(())
    }

    fn path(&self, position: u64) -> PathBuf {
        self.dir.join(format!("{position}.snapshot"))
    }
}

fn write_durably(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
