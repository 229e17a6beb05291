//! Questions that several policies ask: what is asked for, where it fits, what is guaranteed.

pub mod ledger;
