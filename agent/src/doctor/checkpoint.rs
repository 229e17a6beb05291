//! Whether the driver could checkpoint a process's GPU memory. The library is searched, not loaded:
//! a driver that hangs must not hang this page, and nothing of it runs here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::Config;

/// What a driver exports that can checkpoint processes (CUDA 12.8 and later).
const SYMBOL: &[u8] = b"cuCheckpointProcessCheckpoint";

/// Where distributions and container runtimes put the driver's library.
const FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/opt/nvidia/lib64",
];

/// Read at once while searching.
const CHUNK: usize = 1024 * 1024;

pub(super) fn look(config: &Config) -> Finding {
    let own = config.env.get("LD_LIBRARY_PATH").map(String::as_str).unwrap_or_default();
    let folders = own.split(':').filter(|folder| !folder.is_empty()).chain(FOLDERS);
    of(folders.map(PathBuf::from))
}

fn of(folders: impl Iterator<Item = PathBuf>) -> Finding {
    let hooks = "checkpoint hooks of the engines' own making work without it";
    let mut libraries = folders.map(|folder| folder.join("libcuda.so.1"));
    let Some(library) = libraries.find(|path| path.exists()) else {
        let detail = format!("no libcuda.so.1 on this host; {hooks}");
        return Finding::limited("checkpoint", detail, "install the NVIDIA driver");
    };
    let at = library.display();
    match holds(&library, SYMBOL) {
        Ok(true) => {
            Finding::works("checkpoint", format!("`{at}` can checkpoint processes with their GPUs"))
        }
        Ok(false) => Finding::limited(
            "checkpoint",
            format!("`{at}` cannot checkpoint processes; {hooks}"),
            "a driver of branch 570 or later can",
        ),
        Err(error) => Finding::limited(
            "checkpoint",
            format!("`{at}` cannot be read: {error}"),
            "let the agent's user read it",
        ),
    }
}

/// Whether these bytes stand anywhere in a file.
fn holds(path: &Path, wanted: &[u8]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut seen = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(false);
        }
        // What is wanted may begin in one chunk and end in the next.
        let kept = seen.len().saturating_sub(wanted.len());
        seen.drain(..kept);
        seen.extend_from_slice(&chunk[..count]);
        if seen.windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_library_that_exports_the_calls_is_found_wherever_they_stand_in_it() {
        let folder = Folder::new("doctor-checkpoint");
        let at = || std::iter::once(folder.path().to_owned());
        assert_eq!(of(at()).state, State::Limited, "no library");
        let library = folder.path().join("libcuda.so.1");
        std::fs::write(&library, vec![7; CHUNK + 5]).expect("written");
        assert!(of(at()).detail.contains("cannot checkpoint"), "an old library");
        for before in [0, CHUNK - 3, CHUNK - SYMBOL.len(), CHUNK, 2 * CHUNK - 1] {
            let text = [vec![7; before].as_slice(), SYMBOL, &[7; 9]].concat();
            std::fs::write(&library, text).expect("written");
            assert_eq!(of(at()).state, State::Works, "after {before} bytes");
        }
    }
}
