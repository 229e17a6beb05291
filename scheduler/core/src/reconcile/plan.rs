//! A plan: the fleet as it is being changed, and the facts that change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::gateway::RoutesVersion;
use wharfage_shared::ids::{DeploymentId, GatewayName, NodeId, ReplicaId};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

use super::agenda::Agenda;
use super::loads::Loads;
use crate::fleet::Fleet;
use crate::words::because::scaling::Requests;
use crate::words::event::{
    Event, access, claim, deployment, drill, gateway, meter, money, node, replica,
};
use crate::words::policy::Policy;
use crate::words::replica::Phase;

/// What one gateway process said last; gone with the scheduler's memory.
#[derive(Clone, Debug)]
pub struct GatewayHeard {
    /// When.
    pub at: Timestamp,
    /// Since when without a gap.
    pub since: Timestamp,
    /// Its report's number.
    pub number: u64,
    /// The table that it uses.
    pub routes: RoutesVersion,
    /// Requests at replicas.
    pub in_flight: Arc<BTreeMap<ReplicaId, u32>>,
    /// The same and what waits, by deployment.
    pub requests: Arc<BTreeMap<DeploymentId, Requests>>,
    /// Requests that have ended since the process began, by deployment.
    pub finished: Arc<BTreeMap<DeploymentId, u64>>,
}

/// The fleet as it is being changed: each fact is applied before the next decision is asked.
pub struct Plan<'a> {
    /// The fleet.
    pub fleet: &'a mut Fleet,
    /// Lengths and switches.
    pub policy: &'a Policy,
    /// The scheduler's term.
    pub term: Term,
    /// The instant that everything is decided at.
    pub now: Timestamp,
    /// When this scheduler began: silence before it says nothing.
    pub began: Timestamp,
    /// What must be looked at.
    pub agenda: &'a mut Agenda,
    /// What gateways said.
    pub gateways: &'a BTreeMap<GatewayName, GatewayHeard>,
    /// The loads that counts follow.
    pub loads: &'a mut Loads,
    /// The facts so far.
    pub events: Vec<Event>,
}

impl Plan<'_> {
    /// Takes a fact in and notes what it may have consequences for.
    pub fn record(&mut self, event: impl Into<Event>) {
        let event = event.into();
        let let_go = self.kept_at(&event);
        self.fleet.apply(&event);
        self.agenda.note(self.fleet, self.policy, &event);
        for node in let_go {
            self.agenda.let_go(self.fleet, node);
        }
        self.events.push(event);
    }

    /// The nodes of the seat that was kept for the replica of this fact, or the one that was called
    /// back for it: afterwards its row may not name them any more.
    fn kept_at(&self, event: &Event) -> Vec<NodeId> {
        let Event::Replica(event) = event else { return Vec::new() };
        let may_let_go = matches!(
            event,
            replica::Event::PromiseWithdrawn { .. }
                | replica::Event::Promised { .. }
                | replica::Event::Placed { .. }
                | replica::Event::Gone { .. }
                | replica::Event::Closed { .. }
                | replica::Event::Dropped { .. }
        );
        if !may_let_go {
            return Vec::new();
        }
        let Some(row) = self.fleet.replica(event.replica()) else { return Vec::new() };
        match &row.phase {
            Phase::Promised { seat, .. } => seat.nodes().cloned().collect(),
            Phase::Pending { .. } => row.awaits.iter().map(|awaits| awaits.node.clone()).collect(),
            Phase::Placed { .. } | Phase::Leaving { .. } | Phase::Stopped { .. } => Vec::new(),
        }
    }

    /// The first route table that will not name what leaves now.
    pub fn next_routes(&self) -> RoutesVersion {
        RoutesVersion { term: self.term, number: self.fleet.routes_number() + 1 }
    }
}

impl From<node::Event> for Event {
    fn from(event: node::Event) -> Self {
        Event::Node(event)
    }
}

impl From<replica::Event> for Event {
    fn from(event: replica::Event) -> Self {
        Event::Replica(event)
    }
}

impl From<deployment::Event> for Event {
    fn from(event: deployment::Event) -> Self {
        Event::Deployment(event)
    }
}

impl From<gateway::Event> for Event {
    fn from(event: gateway::Event) -> Self {
        Event::Gateway(event)
    }
}

impl From<claim::Event> for Event {
    fn from(event: claim::Event) -> Self {
        Event::Claim(event)
    }
}

impl From<drill::Event> for Event {
    fn from(event: drill::Event) -> Self {
        Event::Drill(event)
    }
}

impl From<access::Event> for Event {
    fn from(event: access::Event) -> Self {
        Event::Access(event)
    }
}

impl From<meter::Event> for Event {
    fn from(event: meter::Event) -> Self {
        Event::Meter(event)
    }
}

impl From<money::Event> for Event {
    fn from(event: money::Event) -> Self {
        Event::Money(event)
    }
}
