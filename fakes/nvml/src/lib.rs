//! A stand-in for `libnvidia-ml.so.1` that reads its GPUs from a folder.
//!
//! `WHARFAGE_FAKE_GPUS` names the folder: `gpus.json` says which GPUs exist and what is wrong with
//! them, `claims/<uuid>/<pid>` how much memory a process holds. Both are read at every call, so a
//! test or a drill changes the hardware by writing a file. The format is in `fakes/README.md`.
//!
//! The rule it guards: whatever the folder holds, a call answers with an NVML return code; it never
//! panics over the C boundary and never answers from contents that it could not read.

mod abi;
mod claims;
pub mod features;
mod folder;
mod gate;
mod gpu;
mod nvml;
pub mod spec;

/// The environment variable that names the fake GPU folder.
pub const FOLDER_VARIABLE: &str = "WHARFAGE_FAKE_GPUS";
