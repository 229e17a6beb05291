//! The scheduler's hands in the world: the log in memory, answers that wait, deaths and recoveries.
//!
//! Guards S7: what the log says, read back from its text, is the fleet, byte for byte.

use std::collections::BTreeMap;

use wharfage_scheduler_core::words::command::Command;
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::{
    Answer, Controller, Decided, Event, Fleet, Heard, Policy, Refusal, Reply, routes,
};
use wharfage_shared::gateway::{GatewayReport, RoutesVersion};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::NodeId;
use wharfage_shared::segment::SegmentBatch;
use wharfage_shared::time::{Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Term};

use crate::checks::facts::Facts;
use crate::network::{Place, Way};
use crate::stage::{Asked, AtGateway, AtHost, AtScheduler, Happening, Stage};

/// Decisions may make something due earlier than the last tick knew: the next one comes this soon.
const TICK_AFTER_DECISION: Millis = Millis(200);

/// So many passes within a second of virtual time are a controller that does not come to rest.
const MOST_PASSES: u32 = 2_000;

/// A snapshot is taken after so many records, so that a recovery is snapshot and tail.
const SNAPSHOT_EVERY: usize = 500;

/// The scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler {
    controller: Option<Controller>,
    policy: Policy,
    log: Vec<String>,
    snapshot: Option<(usize, String)>,
    term: Term,
    wake: Option<Timestamp>,
    wake_token: u64,
    held: BTreeMap<usize, Held>,
    holds: u64,
    hosts: BTreeMap<NodeId, usize>,
    names: BTreeMap<usize, NodeId>,
    gateways: Vec<RoutesVersion>,
    told: BTreeMap<usize, DesiredVersion>,
    passes: (u64, u32),
    unpassed: usize,
    pub facts: Facts,
}

/// A heartbeat that waits for news.
#[derive(Clone, Debug)]
struct Held {
    number: u64,
    start: u64,
    asked: Asked,
    persisted: DesiredVersion,
    node: NodeId,
    answer: Box<HeartbeatAnswer>,
    since: Millis,
}

impl Scheduler {
    pub fn new(stage: &mut Stage, policy: Policy) -> Self {
        let now = stage.wall();
        let term = Term(u64::try_from(now.0 / 1000).unwrap_or_default());
        let mut scheduler = Self {
            controller: None,
            policy,
            log: Vec::new(),
            snapshot: None,
            term: Term(term.0.saturating_sub(1)),
            wake: None,
            wake_token: 0,
            held: BTreeMap::new(),
            holds: 0,
            hosts: BTreeMap::new(),
            names: BTreeMap::new(),
            gateways: Vec::new(),
            told: BTreeMap::new(),
            passes: (0, 0),
            unpassed: 0,
            facts: Facts::default(),
        };
        scheduler.starts(stage);
        scheduler
    }

    pub fn admit_host(&mut self, node: NodeId, index: usize) {
        self.names.insert(index, node.clone());
        self.hosts.insert(node, index);
    }

    pub fn admit_gateway(&mut self) {
        self.gateways.push(RoutesVersion::default());
    }

    pub fn is_up(&self) -> bool {
        self.controller.is_some()
    }

    /// The fleet as the log says it.
    pub fn fleet(&self) -> &Fleet {
        &self.facts.fleet
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many records the log has.
    pub fn records(&self) -> usize {
        self.log.len()
    }

    /// Somebody asks; `None` while nobody is there to answer.
    pub fn submit(
        &mut self,
        stage: &mut Stage,
        command: Command,
    ) -> Option<Result<Answer, Refusal>> {
        let now = stage.wall();
        match self.controller.as_mut()?.submit(now, command) {
            Ok(Decided { answer, events }) => {
                self.record(stage, events);
                Some(Ok(answer))
            }
            Err(refusal) => Some(Err(refusal)),
        }
    }

    pub fn happen(&mut self, stage: &mut Stage, what: AtScheduler) {
        match what {
            AtScheduler::Starts => self.starts(stage),
            AtScheduler::Wakes { token } => self.wakes(stage, token),
            AtScheduler::Heartbeat { host, start, asked, heartbeat } => {
                if stage.network.passes(Place::Host(host), Way::Up, stage.now) {
                    self.heartbeat(stage, host, start, asked, *heartbeat);
                }
            }
            AtScheduler::Segments { host, batch } => {
                if stage.network.passes(Place::Host(host), Way::Up, stage.now) {
                    self.segments(stage, host, *batch);
                }
            }
            AtScheduler::Report { gateway, report } => {
                if stage.network.passes(Place::Gateway(gateway), Way::Up, stage.now) {
                    self.report(stage, gateway, *report);
                }
            }
            AtScheduler::HoldEnds { host, number } => {
                if self.held.get(&host).is_some_and(|held| held.number == number) {
                    self.release(stage, host);
                }
            }
        }
    }

    /// Decides, logs, and only then answers; may die before or after the write.
    fn decide<T>(
        &mut self,
        stage: &mut Stage,
        ask: impl FnOnce(&mut Controller, Timestamp) -> Decided<T>,
    ) -> Option<T> {
        let now = stage.wall();
        let Decided { answer, events } = ask(self.controller.as_mut()?, now);
        if events.is_empty() {
            return Some(answer);
        }
        if stage.rng.chance(stage.habits.dies_at_record_permille) {
            if stage.rng.chance(500) {
                self.record(stage, events);
            } else {
                // Nothing of it was written: what was decided in memory never was.
                self.controller = None;
            }
            self.dies(stage);
            return None;
        }
        self.record(stage, events);
        Some(answer)
    }

    /// Appends one record and makes it true, checked fact by fact.
    fn record(&mut self, stage: &mut Stage, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let record = serde_json::to_string(&events).expect("facts hold integers and texts only");
        stage.trace.mix(record.as_bytes());
        let read: Vec<Event> = match serde_json::from_str(&record) {
            Ok(read) => read,
            Err(error) => {
                stage.broken("S7", format!("a record cannot be read back: {error}: {record}"));
                events
            }
        };
        self.log.push(record);
        self.facts.take(stage, &read);
        if self.log.len().is_multiple_of(SNAPSHOT_EVERY) {
            self.snapshot = Some((self.log.len(), canonical(&self.facts.fleet)));
        }
        let soon = stage.wall() + TICK_AFTER_DECISION;
        if self.wake.is_none_or(|wake| soon < wake) {
            self.wake_at(stage, soon);
        }
        self.tell_hosts(stage);
        self.tell_gateways(stage);
    }

    fn wake_at(&mut self, stage: &mut Stage, at: Timestamp) {
        self.wake = Some(at);
        self.wake_token += 1;
        let when = stage.when(at).max(stage.now);
        let token = self.wake_token;
        stage.queue.plan(when, Happening::Scheduler(AtScheduler::Wakes { token }));
    }

    fn wakes(&mut self, stage: &mut Stage, token: u64) {
        if token != self.wake_token || self.controller.is_none() {
            return;
        }
        let second = stage.now.0 / 1000;
        self.passes =
            if self.passes.0 == second { (second, self.passes.1 + 1) } else { (second, 1) };
        if self.passes.1 == MOST_PASSES {
            let found = format!("{MOST_PASSES} passes within one second: it does not come to rest");
            stage.broken("L2", found);
        }
        self.wake = None;
        let before = self.log.len();
        let next = self.decide(stage, Controller::tick);
        let Some(next) = next else { return };
        if self.log.len() > before {
            self.unpassed += 1;
            if self.unpassed > self.facts.seldom() {
                self.unpassed = 0;
                self.second_pass(stage);
            }
        }
        let soonest = stage.wall() + Millis(1);
        let next = self.wake.map_or(next, |wake| wake.min(next)).max(soonest);
        self.wake_at(stage, next);
    }

    /// L2: a second pass at the same instant changes nothing.
    pub fn second_pass(&self, stage: &mut Stage) {
        let Some(controller) = &self.controller else { return };
        // Why something is nowhere is told coarsely and looked at again when room is freed.
        let is_reason =
            |event: &Event| matches!(event, Event::Replica(event::replica::Event::Blocked { .. }));
        let again = controller.second_pass();
        if let Some(event) = again.iter().find(|event| !is_reason(event)) {
            let found = format!("a second pass at one instant says {event:?}");
            stage.broken("L2", found);
        }
    }

    fn heartbeat(
        &mut self,
        stage: &mut Stage,
        host: usize,
        start: u64,
        asked: Asked,
        heartbeat: Heartbeat,
    ) {
        self.release(stage, host);
        let (node, persisted) = (heartbeat.node.clone(), heartbeat.persisted);
        let (epoch, at_once) = (heartbeat.epoch, heartbeat.answer_at_once);
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let reply = self.decide(stage, |controller, now| controller.observe(now, heard));
        let answer = match reply {
            Some(Reply::Heartbeat(Ok(answer))) => answer,
            Some(Reply::Heartbeat(Err(problem))) => {
                let text = format!("{} is refused: {}", node, problem.detail);
                return stage.trace.line(stage.now, Some(node), text);
            }
            Some(Reply::Segments(_) | Reply::Gateway(_)) => {
                return stage.broken("world", "a heartbeat was answered as something else".into());
            }
            None => return,
        };
        let may_be_held = !at_once
            && answer.desired.is_none()
            && !answer.send_inventory
            && !answer.send_health
            && epoch == Some(answer.epoch);
        if !may_be_held {
            return self.answer(stage, host, start, asked, answer);
        }
        self.holds += 1;
        let number = self.holds;
        let next_in = answer.next_in;
        let since = stage.now;
        let held = Held { number, start, asked, persisted, node, answer, since };
        self.held.insert(host, held);
        stage.plan_in(next_in, Happening::Scheduler(AtScheduler::HoldEnds { host, number }));
    }

    /// A held heartbeat is answered, with news if there is any.
    fn release(&mut self, stage: &mut Stage, host: usize) {
        let Some(held) = self.held.remove(&host) else { return };
        let Some(controller) = &self.controller else { return };
        let mut answer = held.answer;
        let desired = controller.desired(&held.node);
        answer.desired = desired.filter(|desired| desired.version > held.persisted);
        answer.now = stage.wall();
        answer.held = stage.now - held.since;
        answer.next_in = answer.next_in - answer.held;
        self.answer(stage, host, held.start, held.asked, answer);
    }

    fn answer(
        &mut self,
        stage: &mut Stage,
        host: usize,
        start: u64,
        asked: Asked,
        answer: Box<HeartbeatAnswer>,
    ) {
        if let Some(desired) = &answer.desired {
            let told = self.told.entry(host).or_default();
            if desired.version < *told {
                let found = format!("desired state {} is sent after {told}", desired.version);
                stage.broken("S9", found);
            }
            *told = (*told).max(desired.version);
        }
        let what = AtHost::Answered { start, asked, answer };
        stage.send(Place::Host(host), Way::Down, Happening::Host(host, what));
    }

    /// Held heartbeats of nodes whose desired state is newer are answered now.
    fn tell_hosts(&mut self, stage: &mut Stage) {
        let term = self.term;
        let fleet = &self.facts.fleet;
        let is_new = |held: &Held| {
            let generation = fleet.node(&held.node).map(|node| node.generation);
            generation
                .is_some_and(|generation| DesiredVersion { term, generation } > held.persisted)
        };
        let touched = self.facts.touched.iter().filter_map(|node| self.hosts.get(node).copied());
        let news: Vec<usize> =
            touched.filter(|host| self.held.get(host).is_some_and(is_new)).collect();
        for host in news {
            self.release(stage, host);
        }
    }

    fn segments(&mut self, stage: &mut Stage, host: usize, batch: SegmentBatch) {
        let Some(node) = self.names.get(&host).cloned() else { return };
        let heard = Heard::Segments { node, batch };
        let reply = self.decide(stage, |controller, now| controller.observe(now, heard));
        if reply.is_some() {
            let what = Happening::Host(host, AtHost::Told);
            stage.send(Place::Host(host), Way::Down, what);
        }
    }

    fn report(&mut self, stage: &mut Stage, gateway: usize, report: GatewayReport) {
        let has = report.routes;
        let heard = Heard::Gateway(report);
        let reply = self.decide(stage, |controller, now| controller.observe(now, heard));
        // A load that is followed is looked at soon, though it is no fact.
        let next = self.controller.as_ref().map(Controller::wake);
        if let Some(next) = next.filter(|next| self.wake.is_none_or(|wake| *next < wake)) {
            self.wake_at(stage, next);
        }
        if reply.is_some() && has < self.gateways.get(gateway).copied().unwrap_or_default() {
            // The table that was sent did not arrive, or is still on its way.
            self.send_routes(stage, gateway);
        }
    }

    fn routes_version(&self) -> RoutesVersion {
        RoutesVersion { term: self.term, number: self.facts.fleet.routes_number() }
    }

    fn tell_gateways(&mut self, stage: &mut Stage) {
        let version = self.routes_version();
        for gateway in 0..self.gateways.len() {
            if self.gateways[gateway] < version {
                self.send_routes(stage, gateway);
            }
        }
    }

    fn send_routes(&mut self, stage: &mut Stage, gateway: usize) {
        let table = routes::table(&self.facts.fleet, self.term);
        if let Some(has) = self.gateways.get_mut(gateway) {
            *has = table.version;
        }
        let what = Happening::Gateway(gateway, AtGateway::Routes(Box::new(table)));
        stage.send(Place::Gateway(gateway), Way::Down, what);
    }

    /// The process ends between two records.
    pub fn dies(&mut self, stage: &mut Stage) {
        if let Some(controller) = self.controller.take() {
            self.compare(stage, controller.fleet());
        }
        stage.trace.line(stage.now, None, "the scheduler dies".to_owned());
        self.held.clear();
        self.wake = None;
        self.wake_token += 1;
        let pause = stage.habits.scheduler_restart;
        stage.plan_in(pause, Happening::Scheduler(AtScheduler::Starts));
    }

    /// S7: the live fleet is what the log says.
    fn compare(&self, stage: &mut Stage, live: &Fleet) {
        if canonical(live) != canonical(&self.facts.fleet) {
            let found = "the live fleet is not what the log replays to".to_owned();
            stage.broken("S7", found);
        }
    }

    /// S7 in full: snapshot and tail, and the whole log, give the live fleet.
    pub fn replays(&self, stage: &mut Stage) {
        if let Some(controller) = &self.controller {
            self.compare(stage, controller.fleet());
        }
        let whole = self.replayed(Fleet::default(), 0);
        let tail = match &self.snapshot {
            Some((position, text)) => {
                serde_json::from_str(text).ok().map(|fleet| self.replayed(fleet, *position))
            }
            None => Some(self.replayed(Fleet::default(), 0)),
        };
        let live = canonical(&self.facts.fleet);
        if canonical(&whole) != live {
            stage.broken("S7", "the whole log replays to another fleet".to_owned());
        }
        if tail.map(|fleet| canonical(&fleet)).as_ref() != Some(&live) {
            stage.broken("S7", "snapshot and tail replay to another fleet".to_owned());
        }
    }

    fn replayed(&self, mut fleet: Fleet, from: usize) -> Fleet {
        for record in self.log.iter().skip(from) {
            let events: Vec<Event> = serde_json::from_str(record).unwrap_or_default();
            events.iter().for_each(|event| fleet.apply(event));
        }
        fleet
    }

    /// A start: the log is replayed, a new term begins.
    fn starts(&mut self, stage: &mut Stage) {
        if self.controller.is_some() {
            return;
        }
        let now = stage.wall();
        let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
        self.term = Term((self.term.0 + 1).max(seconds));
        self.replays(stage);
        let fleet = match &self.snapshot {
            Some((position, text)) => match serde_json::from_str(text) {
                Ok(fleet) => self.replayed(fleet, *position),
                Err(_) => self.replayed(Fleet::default(), 0),
            },
            None => self.replayed(Fleet::default(), 0),
        };
        let (controller, events) = Controller::recover(fleet, self.term, now, self.policy.clone());
        self.controller = Some(controller);
        stage.trace.line(stage.now, None, format!("the scheduler starts, term {}", self.term.0));
        self.record(stage, events);
        self.wake_at(stage, now);
    }
}

/// The bytes that two equal fleets share.
fn canonical(fleet: &Fleet) -> String {
    serde_json::to_string(fleet).expect("a fleet has text keys only")
}
