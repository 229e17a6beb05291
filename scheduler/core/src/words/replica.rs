//! A replica's life as the scheduler holds it.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GpuUuid, NodeId};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Timestamp;

/// The GPUs of one node that a replica holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// The GPUs, in the node's order.
    pub gpus: Vec<GpuUuid>,
}

/// The words of `design.md` section 4, for rows, pages and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseWord {
    /// Wanted, but nowhere yet.
    Pending,
    /// The seat is kept while a victim leaves.
    Promised,
    /// Placed; the host brings the model.
    Fetching,
    /// The engine reads the weights.
    Loading,
    /// The engine answers; the proof is under way.
    Warming,
    /// A real generation answered.
    Ready,
    /// It was ready; its proof fails now.
    Degraded,
    /// It leaves.
    Draining,
    /// Its node is lost; it may still run there.
    Unreachable,
    /// It is gone, with proof.
    Stopped,
}

/// Why and until when a replica leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Why.
    pub because: StopCause,
    /// Since when.
    pub since: Timestamp,
    /// When it is killed whatever still runs.
    pub deadline: Timestamp,
    /// No gateway sends to it and nothing is in flight.
    pub quiet: bool,
}
