//! GPUs as the agent knows them: read by a helper process, because a call into a broken driver
//! may never return and the agent must go on.

pub mod helper;
pub mod supervisor;
pub mod words;

pub use supervisor::{Gpus, Settings};
