//! Reasons: decisions return them, facts carry them, people read them.

pub mod placement;
pub mod scaling;
pub mod sentence;
