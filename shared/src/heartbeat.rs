//! The heartbeat: what an agent tells and what it is told, over a connection that it dials.

use serde::{Deserialize, Serialize};

use crate::drill::Evacuated;
use crate::health::Health;
use crate::ids::{BootId, NodeId};
use crate::notice::{Notice, SourceHeard};
use crate::order::Desired;
use crate::replica::{Gone, ReplicaReport};
use crate::segment::{OpenSegment, SegmentsAcknowledged};
use crate::telemetry::{GpuReading, Inventory};
use crate::time::{Boottime, Millis, Timestamp};
use crate::version::{DesiredVersion, Epoch, Term};

/// The control lease: without an acknowledged heartbeat sent within it, nothing new starts.
pub const CONTROL_LEASE: Millis = Millis::from_seconds(30);

/// The usual distance between heartbeats, before jitter.
pub const HEARTBEAT_INTERVAL: Millis = Millis::from_seconds(5);

/// `POST /agent/v1/heartbeat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The version of these words.
    pub protocol: u16,
    /// Who sends it; must be the name in the client's certificate.
    pub node: NodeId,
    /// Which boot the boot-time instants belong to.
    pub boot: BootId,
    /// Chosen at random when the agent started: names this start until it has an epoch.
    pub nonce: String,
    /// The epoch, once the scheduler has issued one for the nonce. Without it the heartbeat only
    /// asks for one and nothing else in it is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Counts up within an epoch; a report that is not above the last is dropped.
    pub number: u64,
    /// The highest desired state that is on the agent's disk.
    pub persisted: DesiredVersion,
    /// The desired state that is carried out.
    pub applied: DesiredVersion,
    /// The host's boot-time clock at sending: the lease counts from here.
    pub sent_at: Boottime,
    /// The host's wall clock at sending: a witness only, nothing is computed from it.
    pub wall: Timestamp,
    /// Hash of the inventory.
    pub inventory_hash: String,
    /// The inventory, when its hash is not the one that the scheduler last acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// Hash of the health report; empty from an agent that does not judge its health.
    #[serde(default)]
    pub health_hash: String,
    /// The health report, when its hash is not the one that the scheduler last acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// GPU readings.
    #[serde(default)]
    pub readings: Vec<GpuReading>,
    /// Every replica on the host, ordered or not.
    #[serde(default)]
    pub replicas: Vec<ReplicaReport>,
    /// Proofs of release, repeated until the stop order disappears.
    #[serde(default)]
    pub gone: Vec<Gone>,
    /// The open segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_segment: Option<OpenSegment>,
    /// The last closed segment's number in the current log (0 = none).
    #[serde(default)]
    pub last_segment: u64,
    /// Notices in force; one that is absent here and was there before is withdrawn.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// When each source of notices that the node asks was last heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hearing: Vec<SourceHeard>,
    /// The evacuation under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuated: Option<Evacuated>,
    /// Ask for the answer at once instead of holding the request open (a first report, a change).
    #[serde(default)]
    pub answer_at_once: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// The scheduler's term.
    pub term: Term,
    /// The epoch of the sender's nonce. Another one than the agent's own means: a newer start of
    /// this node exists and the sender must end without touching replicas.
    pub epoch: Epoch,
    /// How long the control lease is, counted from `sent_at`.
    pub lease: Millis,
    /// When to send the next heartbeat.
    pub next_in: Millis,
    /// The scheduler's clock when it answered: maps its instants to the host's clock.
    pub now: Timestamp,
    /// How long the heartbeat lay at the scheduler before that: none of the way between the two.
    #[serde(default)]
    pub held: Millis,
    /// Which closed segments are durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentsAcknowledged>,
    /// The desired state, when it is newer than the one that the heartbeat named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// The scheduler does not have the inventory of the hash that was sent.
    #[serde(default)]
    pub send_inventory: bool,
    /// The scheduler does not have the health report of the hash that was sent.
    #[serde(default)]
    pub send_health: bool,
}
