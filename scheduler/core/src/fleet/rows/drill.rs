//! A drill as the fleet holds it: each node of its scope with what it went through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::gateway::Served;
use wharfage_shared::ids::{DeploymentId, DrillId, GatewayName, NodeId, NoticeId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::words::drill::{Drill, Fired, HookRun, Outcome, Schedule, Stood, Told};

/// A drill. It stays for a while after its end: later ones are compared with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRow {
    /// As it was asked for.
    pub drill: Drill,
    /// When.
    pub created_at: Timestamp,
    /// The nodes of its scope.
    pub runs: BTreeMap<NodeId, Run>,
    /// It was given up.
    pub aborted: Option<GivenUp>,
    /// Every node is done or left out.
    pub finished_at: Option<Timestamp>,
    /// It went worse than an earlier one.
    pub worse: Option<Worse>,
}

/// In what a drill went worse than an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worse {
    /// Than which.
    pub than: DrillId,
    /// One sentence.
    pub because: String,
}

/// A drill that is begun again and again. It stays for a while after its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// The pattern; its id is the schedule's.
    pub drill: Drill,
    /// When it is begun.
    pub schedule: Schedule,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The time that has come last.
    pub due: Option<Timestamp>,
    /// What came of it.
    pub fired: Option<Fired>,
    /// No drill begins any more.
    pub ended_at: Option<Timestamp>,
}

/// Why and when a drill was given up, or a node of it left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// One sentence.
    pub because: String,
    /// When.
    pub at: Timestamp,
}

/// How far the drill is on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// Its turn has not come.
    Waiting,
    /// It is left out.
    Skipped(GivenUp),
    /// It has begun.
    Begun(Box<Begun>),
}

/// A drill on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The notice that the node is to hear.
    pub notice: NoticeId,
    /// When the node was told.
    pub at: Timestamp,
    /// The deadline.
    pub gone_at: Timestamp,
    /// What stood there.
    pub stood: Vec<Stood>,
    /// How many replicas of each of their deployments were ready then.
    pub ready: BTreeMap<DeploymentId, u32>,
    /// When its notice came into force.
    pub heard_at: Option<Timestamp>,
    /// What the node told.
    pub told: Option<Told>,
    /// Hooks in the order in which they were first heard of.
    pub hooks: Vec<HookRun>,
    /// What gateways told of requests at the replicas that stood there.
    pub requests: BTreeMap<ReplicaId, BTreeMap<GatewayName, Served>>,
    /// How many more GPUs these deployments held than they wanted when it began.
    pub held: i64,
    /// From when on the drill makes them hold so many more; fewer, below zero.
    pub holds: Vec<(Timestamp, i64)>,
    /// When as many replicas were ready as before.
    pub back_at: Option<Timestamp>,
    /// Whether it is under way.
    pub course: Course,
}

/// Whether a node's drill is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// The node is told to leave.
    Running,
    /// It is not told so any more, and its notice may still be in force.
    Withdrawn {
        /// Why.
        outcome: Outcome,
        /// Since when.
        at: Timestamp,
    },
    /// No notice of the drill is in force.
    Ended {
        /// How it went.
        outcome: Outcome,
        /// Since when.
        at: Timestamp,
    },
}

impl Run {
    /// The drill on the node, if it has begun.
    pub fn begun(&self) -> Option<&Begun> {
        match self {
            Run::Begun(begun) => Some(begun),
            Run::Waiting | Run::Skipped(_) => None,
        }
    }

    /// Whether it counts in the budget: begun and not ended.
    pub fn is_on(&self) -> bool {
        self.begun().is_some_and(|begun| match begun.course {
            Course::Running | Course::Withdrawn { .. } => true,
            Course::Ended { .. } => false,
        })
    }

    /// Whether nothing is to come any more.
    pub fn is_over(&self) -> bool {
        match self {
            Run::Waiting => false,
            Run::Skipped(_) => true,
            Run::Begun(_) => !self.is_on(),
        }
    }
}

impl Begun {
    /// Whether the node is told to leave.
    pub fn is_running(&self) -> bool {
        self.course == Course::Running
    }
}
