//! Questions that several policies ask: what is asked for, where it fits, who counts, what is
//! guaranteed.

pub mod ask;
pub mod bands;
pub mod claims;
pub mod expected;
pub mod finder;
pub mod fit;
pub mod ledger;
pub mod lending;
pub mod memory;
pub mod pick;
pub mod standing;
