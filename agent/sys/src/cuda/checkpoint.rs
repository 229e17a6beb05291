//! The calls that put another process's GPU memory into the host's memory and back (R570 and later).
//!
//! The rule it guards: each function gets what `cuda.h` names, reserved parts zero. What state a
//! process is in is asked, never believed.

#![expect(unsafe_code, reason = "C symbols cannot be called otherwise")]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::time::Duration;

use super::Error;
use super::raw::{Answer, Calls};

/// `CUcheckpointLockArgs`.
#[repr(C)]
struct LockArgs {
    timeout_ms: c_uint,
    reserved0: c_uint,
    reserved1: [u64; 7],
}

type GetState = unsafe extern "C" fn(c_int, *mut c_uint) -> Answer;
type Lock = unsafe extern "C" fn(c_int, *mut LockArgs) -> Answer;
/// The other calls' arguments are optional, and none are given.
type Plain = unsafe extern "C" fn(c_int, *mut c_void) -> Answer;

/// What the driver says of a process that uses CUDA (`CUprocessState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs.
    Running,
    /// Its calls wait.
    Locked,
    /// Its GPU memory lies in the host's memory and its GPUs are given back.
    Checkpointed,
    /// It can neither go on nor be brought back.
    Failed,
    /// One that only a newer driver knows.
    Other(u32),
}

impl ProcessState {
    /// As it stands in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Locked => "locked",
            Self::Checkpointed => "checkpointed",
            Self::Failed => "failed",
            Self::Other(_) => "in a state that is not known here",
        }
    }
}

/// The calls, found in a loaded library. Each may block as long as the driver likes.
pub struct Checkpoints {
    calls: Calls,
    state: GetState,
    lock: Lock,
    checkpoint: Plain,
    restore: Plain,
    unlock: Plain,
}

impl Checkpoints {
    pub(super) fn of(calls: Calls) -> Result<Self, Error> {
        let missing = |symbol| Error::CannotCheckpoint { symbol };
        let plain = |name: &'static CStr| {
            // SAFETY: `cuda.h` gives all names that are asked for below this type.
            let found = unsafe { calls.symbol::<Plain>(name) };
            found.ok_or_else(|| missing(name.to_str().unwrap_or_default()))
        };
        // SAFETY: `cuda.h` gives this name this type.
        let state = unsafe { calls.symbol::<GetState>(c"cuCheckpointProcessGetState") };
        // SAFETY: as above.
        let lock = unsafe { calls.symbol::<Lock>(c"cuCheckpointProcessLock") };
        Ok(Self {
            state: state.ok_or_else(|| missing("cuCheckpointProcessGetState"))?,
            lock: lock.ok_or_else(|| missing("cuCheckpointProcessLock"))?,
            checkpoint: plain(c"cuCheckpointProcessCheckpoint")?,
            restore: plain(c"cuCheckpointProcessRestore")?,
            unlock: plain(c"cuCheckpointProcessUnlock")?,
            calls,
        })
    }

    /// The state of a process; an error for one that does not use CUDA.
    pub fn state(&self, pid: u32) -> Result<ProcessState, Error> {
        let mut state = 0;
        // SAFETY: it writes one number; a process that is none of CUDA's is an answer.
        let answer = unsafe { (self.state)(number(pid), &mut state) };
        self.calls.answered("cuCheckpointProcessGetState", answer)?;
        Ok(match state {
            0 => ProcessState::Running,
            1 => ProcessState::Locked,
            2 => ProcessState::Checkpointed,
            3 => ProcessState::Failed,
            other => ProcessState::Other(other),
        })
    }

    /// Lets its calls wait, once those under way are done; gives up after `patience`.
    pub fn lock(&self, pid: u32, patience: Duration) -> Result<(), Error> {
        // Zero would be no limit.
        let timeout_ms = c_uint::try_from(patience.as_millis()).unwrap_or(c_uint::MAX).max(1);
        let mut args = LockArgs { timeout_ms, reserved0: 0, reserved1: [0; 7] };
        // SAFETY: the arguments live as long as the call.
        let answer = unsafe { (self.lock)(number(pid), &mut args) };
        self.calls.answered("cuCheckpointProcessLock", answer)
    }

    /// Puts the GPU memory of a locked process into the host's memory.
    pub fn checkpoint(&self, pid: u32) -> Result<(), Error> {
        self.plainly("cuCheckpointProcessCheckpoint", self.checkpoint, pid)
    }

    /// Puts it back; the process is locked then.
    pub fn restore(&self, pid: u32) -> Result<(), Error> {
        self.plainly("cuCheckpointProcessRestore", self.restore, pid)
    }

    /// Lets a locked process go on.
    pub fn unlock(&self, pid: u32) -> Result<(), Error> {
        self.plainly("cuCheckpointProcessUnlock", self.unlock, pid)
    }

    fn plainly(&self, name: &'static str, call: Plain, pid: u32) -> Result<(), Error> {
        // SAFETY: a pid and no arguments, which `cuda.h` allows.
        let answer = unsafe { call(number(pid), std::ptr::null_mut()) };
        self.calls.answered(name, answer)
    }
}

/// A pid beyond what the kernel gives is nobody's.
fn number(pid: u32) -> c_int {
    c_int::try_from(pid).unwrap_or(-1)
}
