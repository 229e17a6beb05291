//! Decides for one node: what runs, what stops and when, what is reported and what is metered.
//!
//! Pure: it is told the time and what was seen ([`Input`]) and answers what to do ([`Effect`]).
//! The simulator runs the same code.

pub mod agent;
mod asking;
mod clock;
pub mod config;
pub mod effect;
mod estimates;
mod evacuation;
pub mod health;
pub mod history;
pub mod input;
mod lease;
mod meter;
mod notices;
mod out;
mod replica;
pub mod report;
pub mod runs;
pub mod status;
pub mod timetable;

pub use agent::Agent;
pub use config::Config;
pub use effect::Effect;
pub use history::History;
pub use input::{Found, Input};
pub use report::Report;
pub use status::Status;
