//! A replica's life as the scheduler holds it.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::gateway::RoutesVersion;
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::{Millis, Timestamp};

use super::gpus::Gpus;
use crate::words::because::placement::Blocked;
use crate::words::deployment::Priority;

/// The GPUs that a replica holds: of one node, or of several where it is a gang. A gang is one
/// replica: it is seated whole and its seat is freed whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// The node; of a gang its leader's.
    pub node: NodeId,
    /// The GPUs there, in the node's order.
    pub gpus: Gpus,
    /// The other members of a gang by their ranks, from 1.
    #[serde(default, skip_serializing_if = "<[Member]>::is_empty")]
    pub others: Box<[Member]>,
}

/// One member of a gang beside its leader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// The GPUs there, in the node's order.
    pub gpus: Gpus,
}

impl Seat {
    /// GPUs of one node.
    pub fn alone(node: NodeId, gpus: Gpus) -> Self {
        Self { node, gpus, others: Box::default() }
    }

    /// Each node with its GPUs, by rank.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &[GpuUuid])> {
        let leader = std::iter::once((&self.node, &*self.gpus));
        leader.chain(self.others.iter().map(|member| (&member.node, &*member.gpus)))
    }

    /// Its nodes, by rank.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.members().map(|(node, _)| node)
    }

    /// Its GPUs on one node.
    pub fn gpus_on(&self, node: &NodeId) -> &[GpuUuid] {
        self.members().find(|(on, _)| *on == node).map_or(&[], |(_, gpus)| gpus)
    }

    /// How many GPUs it has on all nodes.
    pub fn size(&self) -> usize {
        self.members().map(|(_, gpus)| gpus.len()).sum()
    }

    /// Whether it stands on several nodes.
    pub fn is_gang(&self) -> bool {
        !self.others.is_empty()
    }
}

/// What is known of one member of a gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberFact {
    /// What its host said last; the leader's word is the replica's.
    Seen(ReportedPhase),
    /// Its end is proven. What it held stays the replica's until the others have ended too.
    Gone,
}

/// Who takes a preempted replica's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taker {
    /// Which replica.
    pub replica: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Its name.
    pub name: String,
    /// Its priority then.
    pub priority: Priority,
}

impl std::fmt::Display for Taker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { replica, name, priority, .. } = self;
        let priority = priority.get();
        write!(f, "{replica} of {name} (priority {priority}) needs its place for its min")
    }
}

/// A replica that starts elsewhere and leaves once it serves there, so that another one fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which.
    pub replica: ReplicaId,
    /// What starts in its stead.
    pub successor: ReplicaId,
    /// Where that starts.
    pub to: NodeId,
    /// What the last start of its deployment took: the plan with the least of it was chosen.
    pub load: Millis,
}

/// Where a replica moves and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// What starts in its stead.
    pub successor: ReplicaId,
    /// Where that starts.
    pub to: NodeId,
    /// Why.
    #[serde(flatten)]
    pub why: MovesFor,
}

/// Why a replica moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MovesFor {
    /// So that another one fits.
    Room {
        /// Who gets the room.
        room_for: ReplicaId,
        /// The name of that one's deployment.
        name: String,
    },
    /// Its deployment likes the ground there better.
    Ground {
        /// That ground.
        class: CapacityClass,
    },
}

impl Moving {
    /// Who gets the room.
    pub fn room_for(&self) -> Option<ReplicaId> {
        match &self.why {
            MovesFor::Room { room_for, .. } => Some(*room_for),
            MovesFor::Ground { .. } => None,
        }
    }
}

impl std::fmt::Display for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { successor, to, why } = self;
        write!(f, "{successor} on {to} goes on in its stead, ")?;
        match why {
            MovesFor::Room { room_for, name } => {
                write!(f, "so that {room_for} of {name} fits here")
            }
            MovesFor::Ground { class } => {
                let ground = match class {
                    CapacityClass::Reserved => "a claim",
                    CapacityClass::OnDemand => "on-demand",
                    CapacityClass::Spot => "spot",
                };
                write!(f, "on {ground}, which its deployment likes better than where it stands")
            }
        }
    }
}

/// A node that is called back from spot, and that a pending replica waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaits {
    /// Which.
    pub node: NodeId,
    /// When the replica has room there at the latest.
    pub until: Timestamp,
}

/// A phase as one word, for rows, pages and tables.
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
    /// The first route table that does not name it: gateways must have reached it.
    pub routes: RoutesVersion,
}

/// What its host says of a replica; a fact only when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it is in its life.
    pub phase: ReportedPhase,
    /// Since when, on the scheduler's clock.
    pub since: Timestamp,
    /// Where its guard listens.
    pub address: Option<Box<str>>,
    /// Why, where that needs saying.
    pub because: Option<Box<str>>,
}

/// A replica's life as the scheduler holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Wanted, but nowhere yet.
    Pending {
        /// Why, coarsely.
        blocked: Blocked,
    },
    /// A seat is kept for it while others leave.
    Promised {
        /// Where.
        seat: Seat,
        /// Since when.
        since: Timestamp,
    },
    /// It has a seat; its host says how far it is.
    Placed {
        /// Where.
        seat: Seat,
        /// Since when.
        since: Timestamp,
        /// What its host said last; absent = nothing yet.
        seen: Option<Seen>,
        /// Since when it has been ready without a break, on the scheduler's clock.
        ready_since: Option<Timestamp>,
    },
    /// It leaves and takes no new requests.
    Leaving {
        /// Where.
        seat: Seat,
        /// What its host said last.
        seen: Option<Seen>,
        /// Why and until when: few leave at a time.
        leaving: Box<Leaving>,
    },
    /// It has ended.
    Stopped {
        /// Why.
        because: StopCause,
        /// When.
        at: Timestamp,
        /// What it held, if it was anywhere.
        seat: Option<Seat>,
        /// Whether its end is proven: until then its slots are nobody's.
        proven: bool,
    },
}

impl Phase {
    /// Where it stands or stood.
    pub fn seat(&self) -> Option<&Seat> {
        match self {
            Phase::Pending { .. } => None,
            Phase::Promised { seat, .. }
            | Phase::Placed { seat, .. }
            | Phase::Leaving { seat, .. } => Some(seat),
            Phase::Stopped { seat, .. } => seat.as_ref(),
        }
    }

    /// The seat whose slots it holds: from its placement until its end is proven.
    pub fn holds(&self) -> Option<&Seat> {
        match self {
            Phase::Pending { .. } | Phase::Promised { .. } => None,
            Phase::Placed { seat, .. } | Phase::Leaving { seat, .. } => Some(seat),
            Phase::Stopped { seat, proven, .. } => seat.as_ref().filter(|_| !proven),
        }
    }

    /// Whether it is over and proven so.
    pub fn is_over(&self) -> bool {
        match self {
            Phase::Stopped { seat, proven, .. } => *proven || seat.is_none(),
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. }
            | Phase::Leaving { .. } => false,
        }
    }

    /// What its host said last.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Phase::Placed { seen, .. } | Phase::Leaving { seen, .. } => seen.as_ref(),
            Phase::Pending { .. } | Phase::Promised { .. } | Phase::Stopped { .. } => None,
        }
    }

    /// Whether its proof stands and it does not leave.
    pub fn is_ready(&self) -> bool {
        match self {
            Phase::Placed { seen: Some(seen), .. } => seen.phase == ReportedPhase::Ready,
            Phase::Placed { seen: None, .. }
            | Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Leaving { .. }
            | Phase::Stopped { .. } => false,
        }
    }

    /// Why and until when it leaves.
    pub fn leaving(&self) -> Option<&Leaving> {
        match self {
            Phase::Leaving { leaving, .. } => Some(leaving),
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. }
            | Phase::Stopped { .. } => None,
        }
    }

    /// The word for rows; a lost node's replicas are unreachable, which only the fleet knows.
    pub fn word(&self) -> PhaseWord {
        match self {
            Phase::Pending { .. } => PhaseWord::Pending,
            Phase::Promised { .. } => PhaseWord::Promised,
            Phase::Placed { seen: None, .. } => PhaseWord::Fetching,
            Phase::Placed { seen: Some(seen), .. } => match seen.phase {
                ReportedPhase::Fetching => PhaseWord::Fetching,
                ReportedPhase::Loading => PhaseWord::Loading,
                ReportedPhase::Warming => PhaseWord::Warming,
                ReportedPhase::Ready => PhaseWord::Ready,
                ReportedPhase::Degraded => PhaseWord::Degraded,
                ReportedPhase::Draining | ReportedPhase::Stopping | ReportedPhase::Quarantined => {
                    PhaseWord::Draining
                }
            },
            Phase::Leaving { .. } => PhaseWord::Draining,
            Phase::Stopped { .. } => PhaseWord::Stopped,
        }
    }
}
