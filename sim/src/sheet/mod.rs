//! Drill sheets: a drill written down, one statement a line (`interfaces.md` section 6).

pub mod parse;
pub mod statement;
mod words;
