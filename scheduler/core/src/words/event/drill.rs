//! Facts about drills: what was asked for, what each node went through, what it told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::gateway::Served;
use wharfage_shared::ids::{DeploymentId, DrillId, GatewayName, NodeId, NoticeId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::words::drill::{Drill, Fired, HookRun, Outcome, Schedule, Stood, Told};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A drill was asked for.
    Created {
        /// The drill.
        drill: Drill,
        /// The nodes of its scope at that moment.
        nodes: Vec<NodeId>,
        /// When.
        at: Timestamp,
    },
    /// A drill is to be begun again and again.
    Scheduled {
        /// The pattern; its id is the schedule's.
        drill: Drill,
        /// When it is begun.
        schedule: Schedule,
        /// When this was asked for.
        at: Timestamp,
    },
    /// A schedule is over.
    Unscheduled {
        /// Which.
        drill: DrillId,
        /// When.
        at: Timestamp,
    },
    /// A schedule's time has come.
    Fired {
        /// Which schedule.
        drill: DrillId,
        /// The time that has come.
        due: Timestamp,
        /// What came of it.
        what: Fired,
        /// When it was acted upon.
        at: Timestamp,
    },
    /// A drill went worse than the one before it with the same scope and profile.
    Worsened {
        /// Which drill.
        drill: DrillId,
        /// Worse than which.
        than: DrillId,
        /// In what, one sentence.
        because: String,
        /// When this was found.
        at: Timestamp,
    },
    /// A node is told to leave as if under a notice.
    Begun {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// The notice that the node is to hear.
        notice: NoticeId,
        /// What stands there.
        stood: Vec<Stood>,
        /// How many replicas of each of their deployments are ready, wherever they stand.
        ready: BTreeMap<DeploymentId, u32>,
        /// How many more GPUs these deployments hold than they want, wherever they stand.
        held: i64,
        /// When.
        at: Timestamp,
        /// The deadline.
        gone_at: Timestamp,
    },
    /// A node is left out.
    Skipped {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// Why, one sentence.
        because: String,
        /// When.
        at: Timestamp,
    },
    /// The node hears the notice: it is in force in the fleet.
    Heard {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// The node told more of its evacuation.
    Told {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// What.
        told: Told,
    },
    /// A hook began or ended there.
    HookRan {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// The run as it stands.
        run: HookRun,
    },
    /// A gateway tells what became of requests at a replica that stood there.
    Requests {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// Which replica.
        replica: ReplicaId,
        /// Which gateway.
        gateway: GatewayName,
        /// What it has counted so far.
        served: Served,
    },
    /// The drill makes the deployments that stood there hold more GPUs, or fewer.
    Holds {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// So many more; fewer, below zero.
        more: i64,
        /// From when on.
        at: Timestamp,
    },
    /// As many replicas are ready elsewhere as were before.
    CapacityBack {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// The node is not told to leave any more.
    Withdrawn {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// Why.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
    /// The node is under no notice of the drill any more.
    Ended {
        /// Which drill.
        drill: DrillId,
        /// Which node.
        node: NodeId,
        /// How it went.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
    /// The drill is given up.
    Aborted {
        /// Which.
        drill: DrillId,
        /// Why, one sentence.
        because: String,
        /// When.
        at: Timestamp,
    },
    /// Every node is done or left out.
    Finished {
        /// Which.
        drill: DrillId,
        /// When.
        at: Timestamp,
    },
    /// A finished drill, or a schedule that has ended, is kept no longer.
    Forgotten {
        /// Which.
        drill: DrillId,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// Which drill.
    pub fn drill(&self) -> &DrillId {
        match self {
            Event::Created { drill, .. } | Event::Scheduled { drill, .. } => &drill.id,
            Event::Begun { drill, .. }
            | Event::Skipped { drill, .. }
            | Event::Heard { drill, .. }
            | Event::Told { drill, .. }
            | Event::HookRan { drill, .. }
            | Event::Requests { drill, .. }
            | Event::Holds { drill, .. }
            | Event::CapacityBack { drill, .. }
            | Event::Withdrawn { drill, .. }
            | Event::Ended { drill, .. }
            | Event::Aborted { drill, .. }
            | Event::Unscheduled { drill, .. }
            | Event::Fired { drill, .. }
            | Event::Worsened { drill, .. }
            | Event::Finished { drill, .. }
            | Event::Forgotten { drill, .. } => drill,
        }
    }

    /// The node, unless the fact is about the whole drill.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Event::Begun { node, .. }
            | Event::Skipped { node, .. }
            | Event::Heard { node, .. }
            | Event::Told { node, .. }
            | Event::HookRan { node, .. }
            | Event::Requests { node, .. }
            | Event::Holds { node, .. }
            | Event::CapacityBack { node, .. }
            | Event::Withdrawn { node, .. }
            | Event::Ended { node, .. } => Some(node),
            Event::Created { .. }
            | Event::Scheduled { .. }
            | Event::Unscheduled { .. }
            | Event::Fired { .. }
            | Event::Worsened { .. }
            | Event::Aborted { .. }
            | Event::Finished { .. }
            | Event::Forgotten { .. } => None,
        }
    }
}
