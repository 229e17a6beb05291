//! The only writer of the fleet: it is told what was asked for and what was seen, and answers what
//! should be, with the facts that say so.

mod durable;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::order::{Desired, StopCause};
use wharfage_shared::segment::{SegmentBatch, SegmentsAcknowledged};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

use crate::fleet::Fleet;
use crate::words::command::{Answer, Command};
use crate::words::event::Event;
use crate::words::policy::Policy;
use crate::words::refusal::Refusal;

/// Decides for the fleet. A copy is cheap: whoever fails to log a decision goes back to a copy that
/// was taken before it.
#[derive(Clone, Debug)]
pub struct Controller {
    fleet: Fleet,
    policy: Arc<Policy>,
    term: Term,
    now: Timestamp,
}

/// An answer and the facts that must be in the log before it is given; no facts, nothing to log.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<T> {
    /// The answer.
    pub answer: T,
    /// The facts.
    pub events: Vec<Event>,
}

/// What machines say.
#[derive(Clone, Debug)]
pub enum Heard {
    /// An agent's heartbeat.
    Heartbeat(Box<Heartbeat>),
    /// An agent's closed segments.
    Segments {
        /// The agent's node, from its certificate.
        node: NodeId,
        /// The segments.
        batch: SegmentBatch,
    },
    /// A gateway process's report.
    Gateway(GatewayReport),
}

/// What machines are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a heartbeat.
    Heartbeat(Result<Box<HeartbeatAnswer>, MachineProblem>),
    /// To segments.
    Segments(Result<SegmentsAcknowledged, MachineProblem>),
    /// To a gateway's report.
    Gateway(Result<(), MachineProblem>),
}

/// What a command would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// What it would answer.
    pub answer: Answer,
    /// Where new replicas would go, or why nowhere.
    pub placements: Vec<Predicted>,
    /// Which replicas would have to leave.
    pub leaving: Vec<(ReplicaId, StopCause)>,
    /// What the instances that would newly serve the caller cost per hour, as a decimal text;
    /// absent where a price is not known.
    pub cost_per_hour: Option<String>,
    /// The facts.
    pub events: Vec<Event>,
}

/// A replica that a command would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Where; absent = it would be pending.
    pub node: Option<NodeId>,
    /// Why there, or why nowhere.
    pub because: String,
}

impl Controller {
    /// Decides for an empty fleet.
    pub fn new(term: Term, now: Timestamp, policy: Policy) -> Self {
        Self { fleet: Fleet::default(), policy: Arc::new(policy), term, now }
    }

    /// Takes over the fleet that a log says, under a new term. The facts say so; nobody is declared
    /// lost before agents had time to be heard.
    pub fn recover(fleet: Fleet, term: Term, now: Timestamp, policy: Policy) -> (Self, Vec<Event>) {
        let mut controller = Self { fleet, policy: Arc::new(policy), term, now };
        let begun = Event::Term { term, at: now };
        controller.fleet.apply(&begun);
        (controller, vec![begun])
    }

    /// Carries a command out, or says why not.
    pub fn submit(&mut self, now: Timestamp, command: Command) -> Result<Decided<Answer>, Refusal> {
        self.now = now;
        drop(command);
        Ok(Decided { answer: Answer::Done, events: Vec::new() })
    }

    /// Takes in what a machine says.
    pub fn observe(&mut self, now: Timestamp, heard: Heard) -> Decided<Reply> {
        self.now = now;
        drop(heard);
        Decided { answer: Reply::Gateway(Ok(())), events: Vec::new() }
    }

    /// Does what is due; answers when it must be called again at the latest.
    pub fn tick(&mut self, now: Timestamp) -> Decided<Timestamp> {
        self.now = now;
        Decided { answer: now + self.policy.tick(), events: Vec::new() }
    }

    /// What a node should run and stop, as of now.
    pub fn desired(&self, node: &NodeId) -> Option<Desired> {
        self.fleet.node(node).map(|_| Desired::default())
    }

    /// What a command would do, decided on a copy.
    pub fn what_if(&self, now: Timestamp, command: Command) -> Result<WhatIf, Refusal> {
        let Decided { answer, events } = self.clone().submit(now, command)?;
        let (placements, leaving) = (Vec::new(), Vec::new());
        Ok(WhatIf { answer, placements, leaving, cost_per_hour: None, events })
    }

    /// The fleet; its copy is the published view.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The lengths and switches in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The scheduler's term.
    pub fn term(&self) -> Term {
        self.term
    }
}
