//! What a heartbeat carries of the node's decisions. The hands add what only they know: clocks,
//! readings, the inventory and the report's number.

use std::sync::Arc;

use wharfage_shared::drill::Evacuated;
use wharfage_shared::health::Health;
use wharfage_shared::notice::Notice;
use wharfage_shared::replica::{Gone, ReplicaReport};
use wharfage_shared::segment::OpenSegment;
use wharfage_shared::version::{DesiredVersion, Epoch};

/// The core's part of a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The epoch, once the scheduler has issued it.
    pub epoch: Option<Epoch>,
    /// The highest desired state that a `Persist` was asked for.
    pub persisted: DesiredVersion,
    /// The desired state that is carried out.
    pub applied: DesiredVersion,
    /// Every replica on the host, ordered or not, and every order that waits to be begun.
    pub replicas: Vec<ReplicaReport>,
    /// Proofs of release, repeated until the order disappears.
    pub gone: Vec<Gone>,
    /// The open segment, proven up to the last step.
    pub open_segment: Option<OpenSegment>,
    /// The last closed segment's number in the current log (0 = none).
    pub last_segment: u64,
    /// Notices that the node's own sources have heard and that are in force. A reclaim is not
    /// among them: the scheduler said it and need not be told.
    pub notices: Vec<Notice>,
    /// The evacuation under way, or the last one.
    pub evacuated: Option<Evacuated>,
    /// What may be used on the node, and what it asks for.
    pub health: Arc<Health>,
}
