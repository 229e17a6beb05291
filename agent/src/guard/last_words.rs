//! What the end of an engine means: read from the last of its output, written into the record.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use wharfage_shared::replica::Ended;

use super::record::{Folder, Params};
use crate::engines::failures::{self, Failure};

/// Where an engine's output is kept: errors are written last and read last.
const LOGS: [&str; 2] = ["engine.log", "engine.err.log"];

/// The end of each log is looked at this far back.
const LAST_BYTES: u64 = 32 * 1024;

/// Reads an engine's end.
pub fn read(folder: &Folder, params: &Params, ended: &Ended) -> Failure {
    let output = LOGS.map(|name| tail(&folder.path().join(name)));
    failures::classify(&params.wire.failures, ended, &output.concat())
}

/// Puts the logs of a try aside: what they say must not be read as the next one's end.
pub fn put_aside(folder: &Folder) {
    for name in LOGS {
        let path = folder.path().join(name);
        // An engine that printed nothing there has no such log.
        drop(std::fs::rename(&path, path.with_extension("log.1")));
    }
}

fn tail(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A log that cannot be read says nothing; the exit still does.
    drop(read_tail(path, &mut bytes));
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.push('\n');
    text
}

fn read_tail(path: &Path, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    file.take(LAST_BYTES).read_to_end(bytes)
}
