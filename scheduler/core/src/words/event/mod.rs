//! Facts of the log, grouped by entity. Replaying them gives the same fleet, byte for byte (S7).
//!
//! Integers only. Each entity's words carry a version of their own, so that one can change without
//! the others.

pub mod access;
pub mod claim;
pub mod deployment;
pub mod drill;
pub mod gateway;
pub mod meter;
pub mod money;
pub mod node;
pub mod replica;
pub mod request;

use serde::{Deserialize, Serialize};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

/// The version of the records' envelope: the list of entities.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A scheduler began to lead.
    Term {
        /// Its term.
        term: Term,
        /// When.
        at: Timestamp,
    },
    /// Nodes and pools.
    Node(node::Event),
    /// Replicas.
    Replica(replica::Event),
    /// Deployments.
    Deployment(deployment::Event),
    /// Gateway resources and processes.
    Gateway(gateway::Event),
    /// Contracts, prices, invoices.
    Money(money::Event),
    /// Organizations, tokens, joins.
    Access(access::Event),
    /// Capacity claims and quotas.
    Claim(claim::Event),
    /// Drills.
    Drill(drill::Event),
    /// Segments, clocks, ticks.
    Meter(meter::Event),
    /// An idempotency key's answer.
    Request(request::Event),
}
