//! Drill sheets: a drill written down, one statement a line (`docs/drills.md`).

mod act;
mod drill;
mod expect;
mod names;
pub mod parse;
mod run;
mod show;
pub mod statement;
mod words;

pub(crate) use act::furnish;
pub use parse::BadSheet;
pub use run::{Failure, Outcome, run};
pub(crate) use run::{clock, told};
