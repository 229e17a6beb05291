//! Facts about replicas.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::gateway::RoutesVersion;
use wharfage_shared::ids::{DeploymentId, EngineVersion, NodeId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::{Millis, Timestamp};

use crate::words::because::placement::{Blocked, Placement};
use crate::words::replica::{Move, Seat, Seen};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A deployment wants one more.
    Created {
        /// Which: its id is used for one placement only.
        replica: ReplicaId,
        /// Of which deployment.
        deployment: DeploymentId,
        /// Which of the deployment's specs it runs.
        revision: u32,
        /// When.
        at: Timestamp,
    },
    /// Why it is nowhere yet, coarsely; the full reasons are asked for with `explain`.
    Blocked {
        /// Which.
        replica: ReplicaId,
        /// The kind of reason.
        because: Blocked,
    },
    /// Only spot stands in its way: a node is called back for it.
    Awaits {
        /// Which.
        replica: ReplicaId,
        /// The node.
        node: NodeId,
        /// When it has room there at the latest.
        until: Timestamp,
    },
    /// A seat is kept for it while others leave.
    Promised {
        /// Which.
        replica: ReplicaId,
        /// Where.
        seat: Seat,
        /// Who leaves for it.
        victims: Vec<ReplicaId>,
        /// When.
        at: Timestamp,
    },
    /// A seat is kept for it while others move elsewhere: each goes on in a successor there and
    /// leaves once that one serves.
    RoomMade {
        /// Which.
        replica: ReplicaId,
        /// Where.
        seat: Seat,
        /// Who moves, and where to: of all plans the one that loads least.
        moves: Vec<Move>,
        /// When.
        at: Timestamp,
    },
    /// It goes on elsewhere, on ground that its deployment names before that on which it stands:
    /// a successor starts there, and it leaves once that one serves.
    GoesBack {
        /// Which.
        replica: ReplicaId,
        /// What starts in its stead.
        successor: ReplicaId,
        /// Where that starts.
        to: NodeId,
        /// The ground there.
        class: CapacityClass,
        /// When.
        at: Timestamp,
    },
    /// Its successor will not serve: it stays where it is.
    Stays {
        /// Which.
        replica: ReplicaId,
        /// When.
        at: Timestamp,
    },
    /// The seat is not kept any more; it is pending again.
    PromiseWithdrawn {
        /// Which.
        replica: ReplicaId,
        /// When.
        at: Timestamp,
    },
    /// It has a seat and should start.
    Placed {
        /// Which.
        replica: ReplicaId,
        /// Where.
        seat: Seat,
        /// The engine's version as the node offers it.
        engine_version: EngineVersion,
        /// How long its start may take.
        start_deadline: Millis,
        /// Why there.
        because: Arc<Placement>,
        /// When.
        at: Timestamp,
    },
    /// Its host says where it is in its life.
    Seen {
        /// Which.
        replica: ReplicaId,
        /// What was seen.
        seen: Seen,
    },
    /// The host of a gang's member says where that one is in its life.
    MemberSeen {
        /// Which.
        replica: ReplicaId,
        /// Whose host.
        node: NodeId,
        /// Where it is.
        phase: ReportedPhase,
    },
    /// A gang's member is gone, with proof; others still stand.
    MemberGone {
        /// Which.
        replica: ReplicaId,
        /// Which one.
        node: NodeId,
        /// How its engine ended.
        ended: Ended,
        /// When.
        at: Timestamp,
    },
    /// It leaves: no traffic from now on.
    Leaving {
        /// Which.
        replica: ReplicaId,
        /// Why.
        because: StopCause,
        /// Until when.
        deadline: Timestamp,
        /// The first table that does not name it.
        routes: RoutesVersion,
        /// When.
        at: Timestamp,
    },
    /// It must leave earlier than was said.
    Hastened {
        /// Which.
        replica: ReplicaId,
        /// Why.
        because: StopCause,
        /// Until when now.
        deadline: Timestamp,
    },
    /// No gateway sends to it and nothing is in flight.
    Quiet {
        /// Which.
        replica: ReplicaId,
        /// When.
        at: Timestamp,
    },
    /// It is gone and what it held is free, with proof.
    Gone {
        /// Which.
        replica: ReplicaId,
        /// Why.
        because: StopCause,
        /// How its engine ended.
        ended: Ended,
        /// When.
        at: Timestamp,
    },
    /// Its node is gone: it has ended, and its slots wait for proof.
    Closed {
        /// Which.
        replica: ReplicaId,
        /// Why.
        because: StopCause,
        /// When.
        at: Timestamp,
    },
    /// It is not wanted any more before it was anywhere.
    Dropped {
        /// Which.
        replica: ReplicaId,
        /// Why.
        because: StopCause,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// The replica.
    pub fn replica(&self) -> ReplicaId {
        match self {
            Event::Created { replica, .. }
            | Event::Blocked { replica, .. }
            | Event::Awaits { replica, .. }
            | Event::Promised { replica, .. }
            | Event::RoomMade { replica, .. }
            | Event::GoesBack { replica, .. }
            | Event::Stays { replica, .. }
            | Event::PromiseWithdrawn { replica, .. }
            | Event::Placed { replica, .. }
            | Event::Seen { replica, .. }
            | Event::MemberSeen { replica, .. }
            | Event::MemberGone { replica, .. }
            | Event::Leaving { replica, .. }
            | Event::Hastened { replica, .. }
            | Event::Quiet { replica, .. }
            | Event::Gone { replica, .. }
            | Event::Closed { replica, .. }
            | Event::Dropped { replica, .. } => *replica,
        }
    }
}
