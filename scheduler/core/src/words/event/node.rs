//! Facts about nodes and pools.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{
    BootId, GpuUuid, JoinId, NodeId, NoticeId, OrganizationId, PoolId, ReplicaId,
};
use wharfage_shared::order::HeldFor;
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Epoch;

use crate::words::node::{Doubt, Hardware, Health, Intent, NoticeFact, Pool, PoolSize, Reach};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A pool was made.
    PoolCreated {
        /// The pool.
        pool: Pool,
    },
    /// How many nodes a pool is to have.
    PoolSized {
        /// Which.
        pool: PoolId,
        /// How many.
        size: PoolSize,
        /// When.
        at: Timestamp,
    },
    /// A pool has other nodes than it is to have, or has them again: whoever provides nodes can see
    /// how many are wanted.
    PoolCounted {
        /// Which.
        pool: PoolId,
        /// Nodes that are there.
        current: u32,
        /// Nodes that are wanted beyond these.
        queued: u32,
        /// Since when.
        at: Timestamp,
    },
    /// A node was admitted, or admitted anew under a name that an operator gave back.
    Enrolled {
        /// Its name.
        node: NodeId,
        /// Its pool.
        pool: PoolId,
        /// The join that it presented.
        join: JoinId,
        /// SHA-256 of its public key.
        key: String,
        /// When.
        at: Timestamp,
    },
    /// An operator gave the name back.
    RejoinAllowed {
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A start of its agent was numbered.
    EpochIssued {
        /// Which.
        node: NodeId,
        /// The boot that the agent runs in.
        boot: BootId,
        /// What names the start.
        nonce: String,
        /// Its number.
        epoch: Epoch,
        /// When.
        at: Timestamp,
    },
    /// It is heard, or not.
    ReachChanged {
        /// Which.
        node: NodeId,
        /// How.
        reach: Reach,
        /// Since when.
        at: Timestamp,
    },
    /// What it has.
    InventoryReported {
        /// Which.
        node: NodeId,
        /// The inventory's hash.
        hash: String,
        /// GPUs, engines, hooks.
        inventory: Box<Inventory>,
    },
    /// Its gates pass, or not.
    HealthChanged {
        /// Which.
        node: NodeId,
        /// How.
        health: Health,
        /// Since when.
        at: Timestamp,
    },
    /// Which of its GPUs may be used and what it asks for.
    HardwareJudged {
        /// Which.
        node: NodeId,
        /// What its agent says.
        hardware: Hardware,
        /// Since when.
        at: Timestamp,
    },
    /// What the scheduler itself holds against it.
    Doubted {
        /// Which.
        node: NodeId,
        /// What.
        doubt: Doubt,
        /// When.
        at: Timestamp,
    },
    /// A rule hits so many nodes that nothing is drained or reset because of it by itself any more.
    BrakePulled {
        /// The rule: `XID 79`, `G8`.
        rule: String,
        /// The nodes that it hit lately.
        nodes: u32,
        /// Of so many.
        of: u32,
        /// Since when.
        at: Timestamp,
    },
    /// The brake of a rule is released.
    BrakeReleased {
        /// The rule.
        rule: String,
        /// Why, one sentence.
        because: String,
        /// When.
        at: Timestamp,
    },
    /// An operator's word.
    IntentChanged {
        /// Which.
        node: NodeId,
        /// What is wanted of it.
        intent: Intent,
        /// Since when.
        at: Timestamp,
    },
    /// Somebody will take it away, or says something else about a notice that is known.
    Noticed {
        /// Which.
        node: NodeId,
        /// The notice.
        notice: NoticeFact,
    },
    /// It was lent as spot and is called back for somebody; its notice says by when.
    Called {
        /// Which.
        node: NodeId,
        /// For whom.
        organization: OrganizationId,
        /// When.
        at: Timestamp,
    },
    /// Nobody waits any more for what is called back, and its drain has begun: it is anybody's who
    /// has a right to it.
    CallEnded {
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// It was called back long enough ago: it may be lent again.
    Lendable {
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A notice was withdrawn, or is over and the node stays.
    NoticeEnded {
        /// Which.
        node: NodeId,
        /// The notice.
        notice: NoticeId,
        /// When.
        at: Timestamp,
    },
    /// The deadline of a notice that takes the whole node has passed: everything on it is closed.
    Departed {
        /// Which.
        node: NodeId,
        /// The notice.
        notice: NoticeId,
        /// When.
        at: Timestamp,
    },
    /// It serves somebody, or nobody any more.
    Held {
        /// Which.
        node: NodeId,
        /// Whom.
        held_for: Option<HeldFor>,
        /// Since when.
        at: Timestamp,
    },
    /// It runs a replica that the log does not know there.
    OrphanFound {
        /// Which.
        node: NodeId,
        /// The replica that it reports.
        replica: ReplicaId,
        /// What it holds.
        gpus: Vec<GpuUuid>,
        /// When.
        at: Timestamp,
    },
    /// Such a replica is gone, with proof.
    OrphanGone {
        /// Which.
        node: NodeId,
        /// The replica.
        replica: ReplicaId,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// The node, unless the fact is about a pool or about a rule.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Event::PoolCreated { .. }
            | Event::PoolSized { .. }
            | Event::PoolCounted { .. }
            | Event::BrakePulled { .. }
            | Event::BrakeReleased { .. } => None,
            Event::Enrolled { node, .. }
            | Event::RejoinAllowed { node, .. }
            | Event::EpochIssued { node, .. }
            | Event::ReachChanged { node, .. }
            | Event::InventoryReported { node, .. }
            | Event::HealthChanged { node, .. }
            | Event::HardwareJudged { node, .. }
            | Event::Doubted { node, .. }
            | Event::IntentChanged { node, .. }
            | Event::Noticed { node, .. }
            | Event::Called { node, .. }
            | Event::CallEnded { node, .. }
            | Event::Lendable { node, .. }
            | Event::NoticeEnded { node, .. }
            | Event::Departed { node, .. }
            | Event::Held { node, .. }
            | Event::OrphanFound { node, .. }
            | Event::OrphanGone { node, .. } => Some(node),
        }
    }
}
