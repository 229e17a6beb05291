//! Decides for one node: what runs, what stops and when, what is reported and what is metered.
//!
//! Pure: it is told the time and what was seen ([`Input`]) and answers what to do ([`Effect`]).
//! The simulator runs the same code.

pub mod effect;
pub mod input;

pub use effect::Effect;
pub use input::Input;
