//! GPUs as the agent knows them: read by a helper process, because a call into a broken driver
//! may never return and the agent must go on.

pub mod beside;
pub mod census;
pub mod held;
pub mod helper;
pub mod recent;
pub mod seen;
pub mod state;
pub mod supervisor;
mod topology;
pub mod words;

/// NVML counts bytes, the scheduler this many of them.
pub const MIB: u64 = 1024 * 1024;

pub use state::Gpus;
pub use supervisor::Settings;
