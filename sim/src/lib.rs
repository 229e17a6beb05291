//! The simulator: both production cores under one virtual clock, with a hostile network and the
//! truth kept on simulated hosts.
//!
//! Everything is decided by a seed. The rules of `ARCHITECTURE.md` are checked after every step,
//! against the truth of the world and against the facts (`checks`).

mod checks;
mod gateway;
mod host;
mod network;
mod queue;
mod rng;
mod scheduler;
mod shelf;
mod stage;
mod story;
mod table;
mod trace;
mod world;

pub mod autoscaling;
pub mod churn;
pub mod drills;
pub mod measure;
pub mod queueing;
pub mod random;
pub mod replay;
pub mod sheet;
pub mod spot;

pub use shelf::Choice;
pub use stage::Violation;
pub use table::BadTrace;
