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

pub use state::Gpus;
pub use supervisor::Settings;
