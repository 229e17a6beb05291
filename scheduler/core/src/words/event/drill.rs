//! Facts about drills: what was asked for, what each node went through, what it told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, NoticeId};
use wharfage_shared::time::Timestamp;

use crate::words::drill::{Drill, HookRun, Outcome, Stood, Told};

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
}

impl Event {
    /// Which drill.
    pub fn drill(&self) -> &DrillId {
        match self {
            Event::Created { drill, .. } => &drill.id,
            Event::Begun { drill, .. }
            | Event::Skipped { drill, .. }
            | Event::Heard { drill, .. }
            | Event::Told { drill, .. }
            | Event::HookRan { drill, .. }
            | Event::CapacityBack { drill, .. }
            | Event::Withdrawn { drill, .. }
            | Event::Ended { drill, .. }
            | Event::Aborted { drill, .. }
            | Event::Finished { drill, .. } => drill,
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
            | Event::CapacityBack { node, .. }
            | Event::Withdrawn { node, .. }
            | Event::Ended { node, .. } => Some(node),
            Event::Created { .. } | Event::Aborted { .. } | Event::Finished { .. } => None,
        }
    }
}
