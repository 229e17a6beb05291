//! Billing: proven use and terms in, exact lines out.
//!
//! Pure: no clock, no files, no fleet. The same code rates a usage file (`wharfage rate`) and
//! drafts invoices from the scheduler's segments, so both agree to the millisecond.

mod currency;

pub mod canonical;
pub mod chain;
pub mod money;
pub mod terms;
pub mod timestamp;
