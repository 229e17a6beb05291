//! The only writer of the fleet: it is told what was asked for and what was seen, and answers what
//! should be, with the facts that say so.

mod cost;
mod drilled;
mod durable;
mod observe;
mod scaling;
mod soft;
mod submit;
#[cfg(test)]
mod tests;
mod tick;
mod what_if;

use std::sync::Arc;

use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::NodeId;
use wharfage_shared::order::Desired;
use wharfage_shared::segment::{SegmentBatch, SegmentsAcknowledged};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

pub use self::cost::{Cost, CostLine};
pub use self::drilled::{Drilled, Moved};
pub use self::scaling::ScalingNow;
pub use self::what_if::{Parting, Predicted, Reclaimed, WhatIf};

use self::soft::Soft;
use crate::fleet::Fleet;
use crate::reconcile::agenda::Agenda;
use crate::reconcile::plan::Plan;
use crate::reconcile::reconcile;
use crate::words::command::{Answer, Command};
use crate::words::event::{Event, replica};
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
    agenda: Agenda,
    soft: Soft,
}

/// An answer and the facts that must be in the log before it is given; no facts, nothing to log.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<T> {
    /// The answer.
    pub answer: T,
    /// The facts.
    pub events: Vec<Event>,
}

/// A command that was carried out, with what it adds to the bill of an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Priced {
    /// The answer and the facts.
    pub decided: Decided<Answer>,
    /// What it adds; absent where a price is not known.
    pub cost: Option<Cost>,
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

impl Controller {
    /// Decides for an empty fleet.
    pub fn new(term: Term, now: Timestamp, policy: Policy) -> Self {
        Self::recover(Fleet::default(), term, now, policy).0
    }

    /// Takes over the fleet that a log says, under a new term. The facts say so; nobody is declared
    /// lost before agents had time to be heard.
    pub fn recover(
        mut fleet: Fleet,
        term: Term,
        now: Timestamp,
        policy: Policy,
    ) -> (Self, Vec<Event>) {
        let begun = Event::Term { term, at: now };
        fleet.apply(&begun);
        let agenda = Agenda::everything(&fleet, &policy);
        let soft = Soft::new(&fleet, now, policy.tick(), policy.silent_after());
        (Self { fleet, policy: Arc::new(policy), term, now, agenda, soft }, vec![begun])
    }

    /// Carries a command out, or says why not; refused, nothing has changed.
    pub fn submit(&mut self, now: Timestamp, command: Command) -> Result<Decided<Answer>, Refusal> {
        let before = self.now;
        let copy = submit::tries_first(&command.action).then(|| self.clone());
        let mut plan = self.plan(now);
        match submit::carry_out(&mut plan, &command) {
            Ok(answer) => {
                reconcile(&mut plan);
                Ok(Decided { answer, events: plan.events })
            }
            Err(refusal) => {
                debug_assert!(copy.is_some() || plan.events.is_empty(), "{refusal} after a fact");
                self.now = before;
                if let Some(copy) = copy {
                    *self = copy;
                }
                Err(refusal)
            }
        }
    }

    /// As [`Controller::submit`], with what the command adds to the bill of an hour.
    pub fn submit_priced(&mut self, now: Timestamp, command: Command) -> Result<Priced, Refusal> {
        let (before, caller) = (self.fleet.clone(), command.caller.clone());
        let decided = self.submit(now, command)?;
        let cost = cost::more(&before, &self.fleet, &decided.events, &caller, self.now);
        Ok(Priced { decided, cost })
    }

    /// Takes in what a machine says.
    pub fn observe(&mut self, now: Timestamp, heard: Heard) -> Decided<Reply> {
        match heard {
            Heard::Heartbeat(heartbeat) => {
                let Decided { answer, events } = self.heartbeat(now, &heartbeat);
                Decided { answer: Reply::Heartbeat(answer.map(Box::new)), events }
            }
            Heard::Segments { node, batch } => {
                let Decided { answer, events } = self.segments(now, &node, batch);
                Decided { answer: Reply::Segments(answer), events }
            }
            Heard::Gateway(report) => {
                let Decided { answer, events } = self.gateway(now, report);
                Decided { answer: Reply::Gateway(answer), events }
            }
        }
    }

    /// What a node should run and stop, as of now.
    pub fn desired(&self, node: &NodeId) -> Option<Desired> {
        self.fleet.desired(self.term, node)
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

    /// Looks at everything once more at the instant of the last step: facts mean that something was
    /// missed (L2). For tests and the simulator. Why a replica is blocked is a fact as of its last
    /// try and may have become another reason since; `explain` tells it as it is.
    pub fn second_pass(&self) -> Vec<Event> {
        let mut copy = self.clone();
        copy.agenda = Agenda::everything(&copy.fleet, &copy.policy);
        let now = copy.now;
        let mut plan = copy.plan(now);
        reconcile(&mut plan);
        let mut events = plan.events;
        events.retain(|event| !matches!(event, Event::Replica(replica::Event::Blocked { .. })));
        events
    }

    /// A plan at this instant; time never goes back.
    fn plan(&mut self, now: Timestamp) -> Plan<'_> {
        self.now = self.now.max(now);
        Plan {
            fleet: &mut self.fleet,
            policy: &self.policy,
            term: self.term,
            now: self.now,
            began: self.soft.began,
            agenda: &mut self.agenda,
            gateways: &self.soft.gateways,
            loads: &mut self.soft.loads,
            events: Vec::new(),
        }
    }
}
