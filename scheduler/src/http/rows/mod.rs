//! Rows as clients and the dashboard read them: facts from the view, numbers from the telemetry.
//!
//! What a caller may know is decided here, once: a tenant learns of others' GPUs that they are in
//! use, and nothing else.

pub mod deployment;
pub mod drill;
pub mod health;
pub mod hearing;
pub mod node;
pub mod replica;
pub mod scaling;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use wharfage_billing::timestamp::to_rfc3339;
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::DeploymentId;
use wharfage_shared::time::Timestamp;

use crate::telemetry::Telemetry;

/// What rows are made from, and for whom.
pub struct Shown<'a> {
    /// The facts.
    pub fleet: &'a Fleet,
    /// The numbers.
    pub telemetry: &'a Telemetry,
    /// The scheduler's clock.
    pub now: Timestamp,
    /// Who asks.
    pub caller: &'a Caller,
    /// Starved replicas by deployment, counted when the first row asks.
    pub starved: OnceCell<BTreeMap<DeploymentId, u32>>,
}

/// An instant as rows show it.
pub fn instant(at: Timestamp) -> String {
    to_rfc3339(at)
}
