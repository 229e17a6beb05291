//! A small world without I/O: hosts with perfect agents, gateways, a log, and a clock that only
//! moves when it is told to.
//!
//! After every step each rule is checked, the log is replayed into a second fleet that must equal
//! the live one byte for byte (S7), and a second pass must change nothing (L2).

mod agent;
mod build;
mod gateway;
mod segments;

use std::collections::BTreeMap;

use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::command::{Action, Answer};
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{
    Caller, Command, Controller, Event, Fleet, Heard, Policy, Refusal, Reply, invariants, routes,
};
use wharfage_shared::ids::{DeploymentId, GatewayName, NodeId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};
use wharfage_shared::version::Term;

pub use self::agent::{Agent, Link};
pub use self::build::{SKU, ZONE, claimed, cordon, drain, spec, uncordon};
pub use self::gateway::Gateway;

/// 2026-01-05 00:00:00 UTC.
pub const START: Timestamp = Timestamp(1_767_571_200_000);

/// Everything that takes part.
pub struct World {
    /// The scheduler under test.
    pub controller: Controller,
    /// The scheduler's clock.
    pub now: Timestamp,
    /// Hosts by name.
    pub agents: BTreeMap<NodeId, Agent>,
    /// Gateway processes by name.
    pub gateways: BTreeMap<GatewayName, Gateway>,
    /// Every fact so far.
    pub log: Vec<Event>,
    /// When the scheduler wants to be called again.
    pub wake: Timestamp,
    /// The log as somebody else applies it.
    replayed: Fleet,
    /// Random things that come in with commands.
    last_id: u32,
}

impl World {
    /// An empty fleet under the design's policy.
    pub fn new() -> Self {
        Self::under(Policy::default())
    }

    /// An empty fleet under this policy.
    pub fn under(policy: Policy) -> Self {
        let (controller, begun) = Controller::recover(Fleet::default(), Term(1), START, policy);
        let mut world = Self {
            controller,
            now: START,
            agents: BTreeMap::new(),
            gateways: BTreeMap::new(),
            log: Vec::new(),
            wake: START,
            replayed: Fleet::default(),
            last_id: 0,
        };
        world.take(&Fleet::default(), begun, "start");
        world
    }

    /// The fleet as it is.
    pub fn fleet(&self) -> &Fleet {
        self.controller.fleet()
    }

    /// A number that was not used before.
    pub fn fresh(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// Carries a command of the provider out.
    pub fn command(&mut self, action: Action) -> Result<Answer, Refusal> {
        self.command_by(Caller::provider(), action)
    }

    /// Carries a command out; a refused one must have changed nothing.
    pub fn command_by(&mut self, caller: Caller, action: Action) -> Result<Answer, Refusal> {
        let before = self.fleet().clone();
        let what = format!("{action:?}");
        match self.controller.submit(self.now, Command { caller, action }) {
            Ok(decided) => {
                self.take(&before, decided.events, &what);
                Ok(decided.answer)
            }
            Err(refusal) => {
                assert_eq!(before, *self.fleet(), "refused and yet something changed: {what}");
                Err(refusal)
            }
        }
    }

    /// Hands in what a machine says.
    pub fn hear(&mut self, heard: Heard) -> Reply {
        let before = self.fleet().clone();
        let what = match &heard {
            Heard::Heartbeat(heartbeat) => format!("heartbeat of {}", heartbeat.node),
            Heard::Segments { node, .. } => format!("segments of {node}"),
            Heard::Gateway(_) => "a gateway's report".to_owned(),
        };
        let decided = self.controller.observe(self.now, heard);
        self.take(&before, decided.events, &what);
        // A load that is followed is looked at soon.
        self.wake = self.wake.min(self.controller.wake());
        decided.answer
    }

    /// Lets the scheduler do what is due.
    pub fn tick(&mut self) {
        let before = self.fleet().clone();
        let decided = self.controller.tick(self.now);
        self.wake = decided.answer;
        assert!(self.wake > self.now, "the next wake is not ahead");
        self.take(&before, decided.events, "tick");
        let again = self.controller.clone().tick(self.now);
        assert!(again.events.is_empty(), "a second tick gave {:#?}", again.events);
    }

    /// Logs facts and holds everything that must hold after each step.
    fn take(&mut self, before: &Fleet, events: Vec<Event>, what: &str) {
        if events.is_empty() {
            assert!(before == self.fleet(), "the fleet changed without a fact: {what}");
            return;
        }
        for event in &events {
            let text = serde_json::to_string(event).expect("facts are JSON");
            let read: Event = serde_json::from_str(&text).expect("facts can be read back");
            assert_eq!(*event, read, "a fact changed in the log");
            self.replayed.apply(&read);
        }
        let at = self.now.since(START);
        let scope = self.controller.policy().priority_scope;
        let broken = invariants::check_step_under(before, self.fleet(), scope);
        assert!(
            broken.is_empty(),
            "after {what} at {at}:\n{broken:#?}\nfacts of the step: {events:#?}"
        );
        assert_eq!(bytes(&self.replayed), bytes(self.fleet()), "S7 after {what} at {at}");
        let second = self.controller.second_pass();
        assert!(
            second.is_empty(),
            "L2: after {what} at {at} a second pass gave {second:#?}\nthe step gave {events:#?}"
        );
        self.log.extend(events);
        // The driver calls soon after each decision: it may be due earlier than was known.
        self.wake = self.now;
    }

    /// Lets so many seconds pass.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second();
        }
    }

    /// Lets time pass until something is so; panics after `seconds`.
    pub fn until(&mut self, seconds: u64, what: &str, is_so: impl Fn(&World) -> bool) {
        for _ in 0..seconds {
            if is_so(self) {
                return;
            }
            self.second();
        }
        assert!(is_so(self), "not within {seconds} s: {what}\n{}", self.picture());
    }

    /// One second of everybody's life.
    fn second(&mut self) {
        self.now = self.now + Millis::from_seconds(1);
        if self.wake <= self.now {
            self.tick();
        } else {
            let early = self.controller.clone().tick(self.now);
            assert!(
                early.events.is_empty(),
                "nothing was due before {}, and yet: {:#?}",
                self.wake.0,
                early.events
            );
        }
        let second = self.now.since(START).0 / 1000;
        let nodes: Vec<NodeId> = self.agents.keys().cloned().collect();
        for (at, node) in (0u64..).zip(nodes) {
            let Some(mut agent) = self.agents.remove(&node) else { continue };
            agent.advance(self.now);
            let due = agent.is_eager || (second + at).is_multiple_of(5);
            if due && agent.link == Link::Up {
                agent.report(self);
            }
            self.agents.insert(node, agent);
        }
        let names: Vec<GatewayName> = self.gateways.keys().cloned().collect();
        for name in names {
            let Some(mut gateway) = self.gateways.remove(&name) else { continue };
            gateway.report(self);
            self.gateways.insert(name, gateway);
        }
        if self.wake <= self.now {
            self.tick();
        }
    }

    /// A scheduler ends and another one starts from the log, through a snapshot of it.
    pub fn restart_scheduler(&mut self) {
        let snapshot = serde_json::to_string(self.fleet()).expect("a fleet is JSON");
        let fleet: Fleet = serde_json::from_str(&snapshot).expect("a snapshot can be read back");
        assert_eq!(fleet, *self.fleet(), "a snapshot is the fleet");
        let broken = invariants::check(&fleet);
        assert!(broken.is_empty(), "after reading a snapshot: {broken:#?}");
        let before = self.fleet().clone();
        let term = Term(self.controller.term().0 + 1);
        let policy = self.controller.policy().clone();
        let (controller, events) = Controller::recover(fleet, term, self.now, policy);
        self.controller = controller;
        self.take(&before, events, "a new scheduler");
        self.tick();
    }

    /// The last replay: every fact from the first on, into an empty fleet.
    pub fn replay_everything(&self) {
        let mut fleet = Fleet::default();
        for event in &self.log {
            fleet.apply(event);
        }
        assert_eq!(bytes(&fleet), bytes(self.fleet()), "S7: the log gives the fleet");
        let broken = invariants::check(&fleet);
        assert!(broken.is_empty(), "a replayed fleet breaks {broken:#?}");
    }

    /// A deployment's replicas that are not over.
    pub fn replicas(&self, name: &str) -> Vec<&ReplicaRow> {
        self.fleet().replicas_of(&id(name)).collect()
    }

    /// Where a deployment's replicas stand that should be up, in order.
    pub fn places(&self, name: &str) -> Vec<String> {
        let rows = self.replicas(name).into_iter();
        let placed = rows.filter_map(|row| match &row.phase {
            Phase::Placed { seat, .. } => Some(seat.node.to_string()),
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Leaving { .. }
            | Phase::Stopped { .. } => None,
        });
        let mut places: Vec<String> = placed.collect();
        places.sort();
        places
    }

    /// Where a deployment's ready replicas stand.
    pub fn ready(&self, name: &str) -> Vec<String> {
        let table = routes::table(self.fleet(), self.controller.term());
        let route = table.deployments.iter().find(|route| route.id == id(name));
        let replicas = route.into_iter().flat_map(|route| route.replicas.iter());
        let mut nodes: Vec<String> = replicas.map(|replica| replica.node.to_string()).collect();
        nodes.sort();
        nodes
    }

    /// How many of a deployment's replicas are nowhere.
    pub fn pending(&self, name: &str) -> usize {
        let rows = self.replicas(name);
        rows.iter().filter(|row| matches!(row.phase, Phase::Pending { .. })).count()
    }

    /// The one replica of a deployment that should be up on a node.
    pub fn replica_on(&self, name: &str, node: &str) -> Option<ReplicaId> {
        let found = self.replicas(name).into_iter().find(
            |row| matches!(&row.phase, Phase::Placed { seat, .. } if seat.node.as_str() == node),
        );
        found.map(|row| row.id)
    }

    /// The host of this name.
    pub fn agent(&mut self, node: &str) -> &mut Agent {
        self.agents.get_mut(&NodeId::from(node)).expect("the story names its hosts")
    }

    /// Everything, for a failure's message.
    pub fn picture(&self) -> String {
        let mut lines = vec![format!("t={}", self.now.since(START))];
        for node in self.fleet().nodes() {
            let (reach, health, intent) = (node.reach, &node.health, &node.intent);
            let serves = node.held_for.as_ref().map(|held| held.organization.to_string());
            lines.push(format!(
                "{} {} {reach:?} {health:?} {intent:?} serves {serves:?} notices {:?} free {}",
                node.id,
                node.compute_class,
                node.notices.keys().collect::<Vec<_>>(),
                node.free()
            ));
        }
        for row in self.fleet().deployments() {
            let name = &row.spec.name;
            lines.push(format!("{name}: desired {} because {}", row.desired, row.because));
        }
        for row in self.fleet().replicas() {
            lines.push(format!("{} of {}: {:?}", row.id, row.deployment, row.phase));
        }
        lines.join("\n")
    }
}

/// The id that stories give the deployment of this name.
pub fn id(name: &str) -> DeploymentId {
    DeploymentId::from(name)
}

/// A fleet's canonical bytes.
pub fn bytes(fleet: &Fleet) -> String {
    serde_json::to_string(fleet).expect("a fleet is JSON")
}
