//! What the agent asks of the kernel and of NVML, behind safe functions.
//!
//! Everything here may block or fail; nothing here decides.

pub mod cgroup;
pub mod clock;
pub mod lock;
pub mod nvml;
pub mod process;
pub mod trusted;
