//! What the agent asks of the kernel, of NVML and of CUDA's driver, behind safe functions.
//!
//! Everything here may block or fail; nothing here decides.

pub mod cgroup;
pub mod clock;
pub mod cuda;
pub mod lock;
pub mod nvml;
pub mod process;
pub mod trusted;
