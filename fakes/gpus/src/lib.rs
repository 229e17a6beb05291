//! The fake GPU folder: what the stand-ins for NVIDIA's libraries read their GPUs from.
//!
//! `WHARFAGE_FAKE_GPUS` names the folder: `gpus.json` says which GPUs exist and what is wrong with
//! them, `claims/<uuid>/<pid>` how much memory a process holds. Both are read at every call, so a
//! test or a drill changes the hardware by writing a file. The format is in `fakes/README.md`.

pub mod claims;
pub mod door;
pub mod features;
pub mod folder;
pub mod gpu;
pub mod spec;

/// The environment variable that names the fake GPU folder.
pub const FOLDER_VARIABLE: &str = "WHARFAGE_FAKE_GPUS";
