//! Checkpoints of other processes: their state, and their claims while those lie in the host's memory.
//!
//! The file `checkpoints/<pid>` of the folder begins with a process's state; below it stand the
//! claims that were taken from it, a uuid and the claim's first line each. No file: it runs, if it
//! holds anything.

use std::ffi::{c_int, c_uint, c_void};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::abi::{self, Code, ILLEGAL_STATE, INVALID_VALUE, NOT_READY, Out, UNKNOWN, shielded};
use crate::process::admitted;

const RUNNING: c_uint = 0;
const LOCKED: c_uint = 1;
const CHECKPOINTED: c_uint = 2;
const FAILED: c_uint = 3;

/// One process as the folder has it.
struct Process {
    folder: PathBuf,
    pid: c_int,
    state: c_uint,
    /// What was taken from it.
    kept: Vec<(String, String)>,
}

impl Process {
    /// The process of this number, if it uses CUDA.
    fn of(pid: c_int, call: &str) -> Result<Self, Code> {
        let folder = admitted(call, None)?.path;
        let Ok(text) = fs::read_to_string(file(&folder, pid)) else {
            let process = Self { folder, pid, state: RUNNING, kept: Vec::new() };
            return if process.claims().is_empty() { Err(INVALID_VALUE) } else { Ok(process) };
        };
        let mut lines = text.lines();
        let state = lines.next().and_then(|state| state.trim().parse().ok()).unwrap_or(FAILED);
        let kept = lines.filter_map(|line| line.split_once(' '));
        let kept = kept.map(|(uuid, bytes)| (uuid.to_owned(), bytes.to_owned())).collect();
        Ok(Self { folder, pid, state, kept })
    }

    /// The uuids of its claims with their text.
    fn claims(&self) -> Vec<(String, String)> {
        let gpus = fs::read_dir(self.folder.join("claims")).into_iter().flatten().flatten();
        let claimed = gpus.filter_map(|gpu| {
            let text = fs::read_to_string(gpu.path().join(self.pid.to_string())).ok()?;
            let bytes = text.lines().next()?.trim().to_owned();
            Some((gpu.file_name().to_string_lossy().into_owned(), bytes))
        });
        claimed.collect()
    }

    fn must_be(&self, state: c_uint) -> Result<(), Code> {
        if self.state == state { Ok(()) } else { Err(ILLEGAL_STATE) }
    }

    fn write(&self) -> io::Result<()> {
        let file = file(&self.folder, self.pid);
        if self.state == RUNNING {
            return fs::remove_file(file);
        }
        fs::create_dir_all(self.folder.join("checkpoints"))?;
        let kept = self.kept.iter().map(|(uuid, bytes)| format!("{uuid} {bytes}\n"));
        let text = format!("{}\n{}", self.state, kept.collect::<String>());
        let next = file.with_extension("next");
        fs::write(&next, text)?;
        fs::rename(next, file)
    }

    /// Into another state; a folder that cannot be written is a driver that fails.
    fn enter(mut self, state: c_uint) -> Result<Code, Code> {
        self.state = state;
        self.write().map(|()| abi::SUCCESS).map_err(|_| UNKNOWN)
    }
}

fn file(folder: &Path, pid: c_int) -> PathBuf {
    folder.join("checkpoints").join(pid.to_string())
}

#[unsafe(no_mangle)]
extern "C" fn cuCheckpointProcessGetState(pid: c_int, state: Out<c_uint>) -> Code {
    shielded(|| Ok(state.put(Process::of(pid, "cuCheckpointProcessGetState")?.state)))
}

/// The arguments are not looked at: a lock that somebody else's work keeps waiting is played by a
/// fault (600).
#[unsafe(no_mangle)]
extern "C" fn cuCheckpointProcessLock(pid: c_int, _: *mut c_void) -> Code {
    shielded(|| {
        let process = Process::of(pid, "cuCheckpointProcessLock")?;
        // As by a process that is being locked by somebody else and does not come to rest.
        if process.state == LOCKED {
            return Err(NOT_READY);
        }
        process.must_be(RUNNING)?;
        process.enter(LOCKED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCheckpointProcessCheckpoint(pid: c_int, _: *mut c_void) -> Code {
    shielded(|| {
        let mut process = Process::of(pid, "cuCheckpointProcessCheckpoint")?;
        process.must_be(LOCKED)?;
        process.kept = process.claims();
        for (uuid, _) in &process.kept {
            let claim = process.folder.join("claims").join(uuid).join(pid.to_string());
            fs::remove_file(claim).map_err(|_| UNKNOWN)?;
        }
        process.enter(CHECKPOINTED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCheckpointProcessRestore(pid: c_int, _: *mut c_void) -> Code {
    shielded(|| {
        let mut process = Process::of(pid, "cuCheckpointProcessRestore")?;
        process.must_be(CHECKPOINTED)?;
        for (uuid, bytes) in std::mem::take(&mut process.kept) {
            let claim = process.folder.join("claims").join(uuid).join(pid.to_string());
            fs::write(claim, format!("{bytes}\n")).map_err(|_| UNKNOWN)?;
        }
        process.enter(LOCKED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCheckpointProcessUnlock(pid: c_int, _: *mut c_void) -> Code {
    shielded(|| {
        let process = Process::of(pid, "cuCheckpointProcessUnlock")?;
        process.must_be(LOCKED)?;
        process.enter(RUNNING)
    })
}
