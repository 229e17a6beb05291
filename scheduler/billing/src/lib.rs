//! Billing: proven use and terms in, exact lines out.
//!
//! Pure: no clock, no files, no fleet. The same code rates a usage file (`wharfage rate`) and
//! drafts invoices from the scheduler's segments, so both agree to the millisecond.

mod bill;
mod currency;
mod evidence;
mod label;
mod lines;
mod render;
mod sweep;

pub mod canonical;
pub mod chain;
pub mod invoice;
pub mod meter;
pub mod money;
pub mod series;
pub mod spans;
pub mod terms;
pub mod timestamp;
pub mod usage;

pub use bill::{Bill, LONGEST_PERIOD, RateError, rate};
pub use evidence::Evidence;
pub use lines::{Charge, Line, LineKind};
pub use render::TABLE_HEADER;
pub use sweep::Accounts;
