//! Segments: proven intervals of a node's activity, the evidence behind every billed
//! millisecond (`docs/metering.md`).

use serde::{Deserialize, Serialize};

use crate::ids::{BootId, GpuUuid, NodeId, ReplicaId, SegmentLogId};
use crate::order::HeldFor;
use crate::time::Boottime;
use crate::version::Epoch;

/// Names one segment for ever: counted once by this key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentKey {
    /// The host.
    pub node: NodeId,
    /// The boot whose clock its instants are on.
    pub boot: BootId,
    /// The life of the agent's log.
    pub log: SegmentLogId,
    /// Dense from 1 within the log: a gap is visible.
    pub number: u64,
}

/// What a node did during a segment: who pays for the time depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Replicas are fetched, loaded or warmed; none is ready.
    Starting,
    /// At least one replica is ready or degraded.
    Serving,
    /// Every replica that is left is leaving.
    Draining,
    /// Held for the organization with no replica on it.
    IdleHeld,
    /// A released slot is not proven free.
    Quarantined,
    /// The node cannot be used through no fault of its user.
    Unusable,
    /// Only replicas that the log does not know.
    Orphaned,
}

/// One replica during a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentReplica {
    /// Which.
    pub replica: ReplicaId,
    /// The slots it held.
    pub gpus: Vec<GpuUuid>,
}

/// A closed segment. Instants are on the boot-time clock of `key.boot`, half-open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name.
    pub key: SegmentKey,
    /// The start of the agent that wrote it.
    pub epoch: Epoch,
    /// For whom; absent = nobody's (provider's account).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<HeldFor>,
    /// What the node did.
    pub activity: Activity,
    /// The replicas that stood on it.
    pub replicas: Vec<SegmentReplica>,
    /// Its beginning.
    pub start: Boottime,
    /// Its end: never later than it was proven.
    pub end: Boottime,
}

/// The segment that is open when a heartbeat is sent, proven up to `proven_until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSegment {
    /// Its name.
    pub key: SegmentKey,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<HeldFor>,
    /// What the node does.
    pub activity: Activity,
    /// The replicas that stand on it.
    pub replicas: Vec<SegmentReplica>,
    /// Its beginning.
    pub start: Boottime,
    /// Up to here the agent has seen it go on.
    pub proven_until: Boottime,
}

/// How far the scheduler has an agent's closed segments in its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsAcknowledged {
    /// Of which life of the agent's log.
    pub log: SegmentLogId,
    /// Every segment up to this number is durable at the scheduler.
    pub up_to: u64,
}

/// `POST /agent/v1/segments`: closed segments in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentBatch {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// The segments.
    pub segments: Vec<Segment>,
}

/// The most segments in one batch: keeps a body within 4 MiB.
pub const SEGMENTS_PER_BATCH: usize = 1000;
