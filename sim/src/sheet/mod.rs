//! Drill sheets: a drill written down, one statement a line (`interfaces.md` section 6).

mod act;
mod expect;
mod names;
pub mod parse;
mod run;
mod show;
pub mod statement;
mod words;

pub use parse::BadSheet;
pub use run::{Failure, Outcome, run};
