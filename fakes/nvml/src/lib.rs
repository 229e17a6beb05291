//! A stand-in for `libnvidia-ml.so.1` that reads its GPUs from the fake GPU folder.
//!
//! The rule it guards: whatever the folder holds, a call answers with an NVML return code; it never
//! panics over the C boundary and never answers from contents that it could not read.

mod abi;
mod cost;
mod gate;
mod nvml;

use wharfage_fake_gpus::{door, features, folder, gpu, spec};
