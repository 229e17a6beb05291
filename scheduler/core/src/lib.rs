//! Decides for the fleet: what is placed where, what leaves, what each node is told, and why.
//!
//! Pure: it is told the time and what was seen, and answers what should be, with reasons. Floors:
//! words, fleet, capacity, policies, reconcile, controller; a file imports from lower floors only.

pub mod capacity;
pub mod controller;
pub mod explain;
pub mod fleet;
pub mod meter;
pub mod policies;
pub mod reconcile;
pub mod words;

pub use capacity::ledger;
pub use controller::{
    Controller, Cost, CostLine, Decided, Drilled, Heard, Moved, Parting, Predicted, Priced,
    Reclaimed, Reply, ScalingNow, WhatIf,
};
pub use fleet::Fleet;
pub use fleet::check as invariants;
pub use fleet::routes;
pub use words::command::{Action, Answer, Command};
pub use words::event::Event;
pub use words::policy::{Policy, PriorityScope};
pub use words::principal::Caller;
pub use words::refusal::Refusal;
