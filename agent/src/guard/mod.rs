//! The guard: one process per replica that outlives the agent. It starts the engine, carries its
//! traffic, enforces its serving lease and sees how it ends.

mod control;
mod engine;
mod last_words;
mod launch;
pub(crate) mod logs;
mod pump;
pub mod record;
mod run;

pub use run::run;
