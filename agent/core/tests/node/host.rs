//! A host of virtual time that carries out the node's decisions, with a small scheduler above it.
//!
//! It keeps the truth (which engines live, what the logs hold), so that tests compare what was
//! decided with what was.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_agent_core::input::{FoundReplica, Probe, Release};
use wharfage_agent_core::{Agent, Config, Effect, Found, Input, Report};
use wharfage_shared::heartbeat::{CONTROL_LEASE, HEARTBEAT_INTERVAL, HeartbeatAnswer};
use wharfage_shared::ids::{BootId, GpuUuid, NoticeId, ReplicaId};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::order::{Desired, Order, RunOrder, StopCause, StopOrder};
use wharfage_shared::replica::{Ended, HookKind, HookOutcome, MemoryProof};
use wharfage_shared::segment::{OpenSegment, Segment, SegmentsAcknowledged};
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch};

pub use crate::builders::{acme, hooked, order, tells, version};

/// The scheduler's clock is this far ahead of the host's.
pub const WALL: i64 = 1_700_000_000_000;

/// How the host's programs behave, in milliseconds.
#[derive(Clone, Debug)]
pub struct Habits {
    pub fetch: u64,
    pub load: u64,
    /// From SIGTERM to the end; `None` ignores it.
    pub stop: Option<u64>,
    /// `None` never ends by itself.
    pub checkpoint: Option<u64>,
    pub drain: Option<u64>,
    /// From the start to the guard's word.
    pub guard: u64,
    /// Whether a generation answers once the model is loaded.
    pub proves: bool,
    /// So many times SIGKILL reaches nobody.
    pub kills_lost: u32,
    /// Looks at released slots that find something held.
    pub held_looks: u32,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            fetch: 500,
            load: 2_000,
            stop: Some(300),
            checkpoint: Some(4_000),
            drain: Some(1_000),
            guard: 50,
            proves: true,
            kills_lost: 0,
            held_looks: 0,
        }
    }
}

/// One engine with its guard's record.
#[derive(Clone, Debug)]
pub struct Engine {
    pub order: RunOrder,
    pub started_at: u64,
    pub was_ready: bool,
    /// When and how it ends; the instant may lie ahead, after SIGTERM.
    pub end: Option<(u64, Ended)>,
    looks: u32,
}

impl Engine {
    pub fn is_alive(&self, now: u64) -> bool {
        self.end.as_ref().is_none_or(|(at, _)| *at > now)
    }
}

/// The host, its agent and the scheduler above.
pub struct Host {
    pub agent: Agent,
    pub config: Config,
    pub habits: Habits,
    pub boot: BootId,
    pub now: u64,
    pub engines: BTreeMap<ReplicaId, Engine>,
    /// Every id that an engine was ever started for.
    pub ever_started: Vec<ReplicaId>,
    pub forgotten: BTreeSet<ReplicaId>,
    /// Every id that the scheduler ever ordered here: it uses none twice.
    pub ever_ordered: BTreeSet<ReplicaId>,
    pub log: Vec<Segment>,
    pub noted: Option<OpenSegment>,
    pub persisted: Option<Desired>,
    pub effects: Vec<(u64, Effect)>,
    /// What the scheduler wants.
    pub desired: Desired,
    pub reachable: bool,
    /// The scheduler drops orders whose `gone` it has heard.
    pub drops_gone: bool,
    pub heard: Option<Report>,
    /// Deadlines of the notices in force.
    pub deadlines: BTreeMap<NoticeId, u64>,
    /// A notice was taken back while others may be in force.
    put_off: bool,
    /// Ends of drills, which are notices that withdraw themselves.
    drills: Vec<u64>,
    /// Replicas whose end was asked for.
    ending: BTreeSet<ReplicaId>,
    /// Replicas whose records the next agent cannot read.
    pub unreadable: BTreeSet<ReplicaId>,
    epoch: u64,
    next_beat: u64,
    queue: BTreeMap<(u64, u64), Input>,
    sequence: u64,
}

impl Host {
    pub fn new(habits: Habits) -> Self {
        Self::with(habits, Config::default())
    }

    pub fn with(habits: Habits, config: Config) -> Self {
        let (agent, _) = Agent::new(Self::found(), config.clone());
        Self {
            agent,
            config,
            habits,
            boot: "boot-1".into(),
            now: 10_000,
            engines: BTreeMap::new(),
            ever_started: Vec::new(),
            forgotten: BTreeSet::new(),
            ever_ordered: BTreeSet::new(),
            log: Vec::new(),
            noted: None,
            persisted: None,
            effects: Vec::new(),
            desired: Desired::default(),
            reachable: true,
            drops_gone: true,
            heard: None,
            deadlines: BTreeMap::new(),
            put_off: false,
            drills: Vec::new(),
            ending: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            epoch: 1,
            next_beat: 10_000,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// An empty host.
    pub fn found() -> Found {
        Found {
            node: "node-1".into(),
            boot: "boot-1".into(),
            nonce: "nonce".to_owned(),
            desired: None,
            replicas: Vec::new(),
            log: "log-1".into(),
            last_segment: 0,
            open_segment: None,
            unacknowledged: Vec::new(),
            inventory: Inventory::default(),
            health: wharfage_agent_core::health::Memory::default(),
        }
    }

    /// The scheduler wants something else from now on.
    pub fn want(&mut self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired);
        self.ever_ordered.extend(self.desired.orders.iter().map(Order::replica));
        let generation = self.desired.version.generation.0 + 1;
        self.desired.version = version(1, generation);
    }

    /// Lets an agent with this replica run until it is ready.
    pub fn ready(habits: Habits, orders: Vec<RunOrder>) -> Self {
        let mut host = Self::new(habits);
        host.want(|desired| {
            desired.held_for = Some(acme());
            desired.orders = orders.into_iter().map(|run| Order::Run(Box::new(run))).collect();
        });
        host.run_for(10_000);
        assert!(host.engines.values().all(|engine| engine.was_ready), "ready before the story");
        host
    }

    pub fn stop(&mut self, id: u32, because: StopCause, in_ms: u64, quiet: bool) {
        let deadline = Timestamp(WALL + self.now as i64 + in_ms as i64);
        let replica = ReplicaId(id);
        self.want(|desired| {
            desired.orders.retain(|order| order.replica() != replica);
            desired.orders.push(Order::Stop(StopOrder { replica, because, deadline, quiet }));
        });
    }

    /// Moves virtual time on by so many milliseconds.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let queued = self.queue.keys().next().map(|(at, _)| *at);
            let wake = self.agent.next_wake().map(|at| at.0);
            let next = [queued, wake, Some(self.next_beat)].into_iter().flatten().min();
            let at = next.expect("there is always a next heartbeat").max(self.now);
            if at > end {
                self.now = end;
                return;
            }
            self.now = at;
            if queued == Some(at) {
                let (_, input) = self.queue.pop_first().expect("it was just seen");
                self.tell(input);
            } else if wake == Some(at) {
                self.tell(Input::Wake);
            } else {
                self.beat();
            }
        }
    }

    /// Tells the agent one thing now and carries out what it decides.
    pub fn tell(&mut self, input: Input) {
        if let Input::Probed { replica, saw: Probe::Proven } = &input
            && let Some(engine) = self.engines.get_mut(replica)
        {
            engine.was_ready = true;
        }
        match &input {
            Input::NoticeHeard(notice) => {
                let before = self.deadlines.get(&notice.id).copied();
                let gone_at =
                    before.map_or(notice.gone_at.0, |before| before.min(notice.gone_at.0));
                self.deadlines.insert(notice.id.clone(), gone_at);
            }
            Input::Drill { window } => {
                self.drills.push(self.now + window.0);
            }
            Input::NoticeWithdrawn(id) => {
                self.put_off |= self.deadlines.remove(id).is_some();
            }
            _ => {}
        }
        for effect in self.agent.step(Boottime(self.now), input) {
            self.carry_out(effect);
        }
        let wake = self.agent.next_wake();
        assert!(wake.is_none_or(|at| at.0 > self.now), "a wake lies ahead: {wake:?}");
    }

    /// The agent is killed and started again after `ms`; engines and logs stay.
    pub fn crash_agent(&mut self, ms: u64) {
        self.now += ms;
        // What was under way for the agent is lost with it, ends that nobody heard of included; its
        // sources will hear a notice again. Engines that are ending end all the same.
        let now = self.now;
        self.queue.retain(|(at, _), input| *at > now && matches!(input, Input::Exited { .. }));
        self.deadlines.clear();
        self.drills.clear();
        self.ending.clear();
        self.epoch += 1;
        self.next_beat = self.now;
        let is_read =
            |id: &&ReplicaId| !self.forgotten.contains(id) && !self.unreadable.contains(id);
        let replicas = self.engines.keys().filter(is_read).map(|id| self.record(*id)).collect();
        let found = Found {
            boot: self.boot.clone(),
            desired: self.persisted.clone(),
            replicas,
            last_segment: self.log.last().map_or(0, |segment| segment.key.number),
            open_segment: self.noted.clone(),
            unacknowledged: self.log.clone(),
            ..Self::found()
        };
        let (agent, effects) = Agent::new(found, self.config.clone());
        self.agent = agent;
        for effect in effects {
            self.carry_out(effect);
        }
        self.tell(Input::LeftAlone(self.unreadable.iter().copied().collect()));
    }

    /// What a replica's records say.
    pub fn record(&self, id: ReplicaId) -> FoundReplica {
        let engine = &self.engines[&id];
        FoundReplica {
            order: engine.order.clone(),
            address: Some("127.0.0.1:9000".to_owned()),
            started_at: Boottime(engine.started_at),
            was_ready: engine.was_ready,
            ended: engine.end.clone().filter(|(at, _)| *at <= self.now).map(|(_, how)| how),
        }
    }

    pub fn alive(&self, id: u32) -> bool {
        self.engines.get(&ReplicaId(id)).is_some_and(|engine| engine.is_alive(self.now))
    }

    pub fn end_engine(&mut self, id: ReplicaId, ended: Ended) {
        let now = self.now;
        if let Some(engine) = self.engines.get_mut(&id).filter(|engine| engine.is_alive(now)) {
            engine.end = Some((now, ended.clone()));
            self.tell(Input::Exited { replica: id, ended });
        }
    }

    /// The journal since `from`, one line a decision, with seconds since then.
    pub fn journal(&self, from: u64) -> String {
        let mut lines = Vec::new();
        for (at, effect) in &self.effects {
            if let Effect::Note(note) = effect
                && *at >= from
            {
                let seconds = (at - from) as f64 / 1000.0;
                let who = note.replica.map_or("node".to_owned(), |id| id.to_string());
                lines.push(format!("{seconds:6.1} {who} {}", note.text));
            }
        }
        lines.join("\n")
    }

    /// When an effect that `wanted` picks was first asked for, since `from`.
    pub fn first(&self, from: u64, wanted: impl Fn(&Effect) -> bool) -> Option<u64> {
        let since = self.effects.iter().filter(|(at, _)| *at >= from);
        since.filter(|(_, effect)| wanted(effect)).map(|(at, _)| *at).next()
    }

    pub fn notice(&self, id: &str, in_ms: u64) -> Notice {
        Notice {
            id: NoticeId::from(id),
            kind: NoticeKind::Preempt,
            source: NoticeSource::File,
            leaves: Leaves::Node,
            gone_at: Boottime(self.now + in_ms),
            heard_at: Boottime(self.now),
            certainty: Certainty::Certain,
            can_acknowledge: true,
            can_be_withdrawn: true,
        }
    }

    fn beat(&mut self) {
        let sent_at = Boottime(self.now);
        self.next_beat = self.now + HEARTBEAT_INTERVAL.0;
        if !self.reachable {
            return;
        }
        let report = self.agent.report(sent_at);
        if report.epoch.is_some() && self.drops_gone {
            let gone: Vec<ReplicaId> = report.gone.iter().map(|gone| gone.replica).collect();
            if self.desired.orders.iter().any(|order| gone.contains(&order.replica())) {
                self.want(|d| d.orders.retain(|order| !gone.contains(&order.replica())));
            }
        }
        let mut answer = self.answer_to(report.persisted);
        let acknowledged = SegmentsAcknowledged { log: "log-1".into(), up_to: report.last_segment };
        answer.segments = Some(acknowledged);
        self.heard = Some(report);
        self.later(10, Input::Answer { sent_at, answer: Box::new(answer) });
    }

    /// The answer to a heartbeat that names `persisted`.
    pub fn answer_to(&self, persisted: DesiredVersion) -> HeartbeatAnswer {
        let newer = self.desired.version > persisted;
        HeartbeatAnswer {
            term: self.desired.version.term,
            epoch: Epoch(self.epoch),
            lease: CONTROL_LEASE,
            next_in: HEARTBEAT_INTERVAL,
            now: Timestamp(WALL + self.now as i64 + 5),
            held: Millis(0),
            segments: None,
            desired: newer.then(|| self.desired.clone()),
            send_inventory: false,
            send_health: false,
        }
    }

    fn later(&mut self, ms: u64, input: Input) {
        self.sequence += 1;
        self.queue.insert((self.now + ms, self.sequence), input);
    }

    fn carry_out(&mut self, effect: Effect) {
        self.effects.push((self.now, effect.clone()));
        match effect {
            Effect::Persist(desired) => {
                let before = self.persisted.as_ref().map(|before| before.version);
                assert!(before < Some(desired.version), "S9: {} after {before:?}", desired.version);
                self.persisted = Some(*desired);
            }
            Effect::AppendSegment(segment) => {
                self.check_segment(&segment);
                self.log.push(*segment);
                self.noted = None;
            }
            Effect::NoteOpenSegment(open) => self.noted = Some(*open),
            Effect::Fetch(order) => {
                self.later(self.habits.fetch, Input::Fetched { replica: order.replica });
            }
            Effect::Start(order) => self.start(*order),
            Effect::Probe { replica, prove } => self.probe(replica, prove),
            Effect::RunHook { replica, kind, deadline, .. } => {
                self.run_hook(replica, kind, deadline);
            }
            Effect::CutHook { replica, kind } => {
                let this = |input: &Input| {
                    matches!(input, Input::HookEnded { replica: r, kind: k, .. }
                        if *r == replica && *k == kind)
                };
                self.queue.retain(|_, input| !this(input));
                self.hook_ends(1, replica, kind, HookOutcome::CutOff);
            }
            Effect::Terminate { replica } => {
                self.check_end(replica);
                if let Some(stop) = self.habits.stop {
                    self.ends_in(stop, replica, 15);
                }
            }
            Effect::Kill { replica } => {
                self.check_end(replica);
                if self.habits.kills_lost > 0 {
                    self.habits.kills_lost -= 1;
                } else {
                    self.ends_in(10, replica, 9);
                }
            }
            Effect::CheckRelease { replica } => self.look(replica),
            Effect::Forget { replica } => {
                self.forgotten.insert(replica);
            }
            Effect::ReportNow => self.next_beat = self.next_beat.min(self.now + 1),
            Effect::ServeUntil { .. }
            | Effect::Wake { .. }
            | Effect::AcknowledgeNotice(_)
            | Effect::Note(_)
            | Effect::KeepHealth(_)
            | Effect::Abdicate => {}
        }
    }

    /// Segments of a log are dense, in order and never overlap.
    fn check_segment(&self, segment: &Segment) {
        let before = self.log.last();
        let number = before.map_or(0, |before| before.key.number) + 1;
        assert_eq!(segment.key.number, number, "dense");
        assert!(segment.start <= segment.end, "no segment runs backwards");
        assert!(before.is_none_or(|before| before.end <= segment.start), "no overlap");
        assert!(segment.end.0 <= self.now, "never later than it was proven");
    }

    /// S8, judged from orders and deadlines alone: a ready replica is ended only when it is quiet,
    /// or when no more is left than the last steps may take.
    fn check_end(&mut self, replica: ReplicaId) {
        let asked_before = !self.ending.insert(replica);
        let Some(engine) = self.engines.get(&replica) else { return };
        if asked_before || !engine.was_ready || !engine.is_alive(self.now) {
            return;
        }
        let orders = self.persisted.iter().flat_map(|desired| &desired.orders);
        let stop = orders.clone().find_map(|order| match order {
            Order::Stop(stop) if stop.replica == replica => Some(stop),
            _ => None,
        });
        let ordered = stop.map(|stop| (stop.deadline.0 - WALL).max(0) as u64);
        let drills = self.drills.iter().filter(|end| **end > self.now);
        let noticed = self.deadlines.values().chain(drills).min().copied();
        let reclaim = self.persisted.as_ref().and_then(|desired| desired.reclaim.as_ref());
        let reclaimed = reclaim.map(|reclaim| (reclaim.gone_at.0 - WALL).max(0) as u64);
        let drill = self.persisted.as_ref().and_then(|desired| desired.drill.as_ref());
        let drilled = drill.map(|drill| (drill.gone_at.0 - WALL).max(0) as u64);
        let said = ordered.into_iter().chain(noticed).chain(reclaimed).chain(drilled);
        let deadline = said.min();
        let deadline = deadline.expect("S8: it is ended without an order and without a notice");
        let budget = &self.config.budget;
        let mut last_steps = self.config.stop_margin + budget.stop + budget.drain_hook;
        if self.put_off {
            // Traffic may have been given up for the earlier deadline.
            last_steps = last_steps + budget.quiet;
        }
        let quiet = stop.is_some_and(|stop| stop.quiet);
        let slack = 20;
        assert!(
            quiet || self.now + last_steps.0 + slack >= deadline,
            "S8: {replica} is ended at {}, its deadline is {deadline}",
            self.now
        );
    }

    fn start(&mut self, order: RunOrder) {
        let replica = order.replica;
        assert!(!self.ever_started.contains(&replica), "{replica} is started twice");
        for other in self.engines.values().filter(|other| other.is_alive(self.now)) {
            let shared = other.order.gpus.iter().any(|gpu| order.gpus.contains(gpu));
            assert!(!shared, "S1: {replica} is started where {} stands", other.order.replica);
        }
        self.ever_started.push(replica);
        let engine = Engine { order, started_at: self.now, was_ready: false, end: None, looks: 0 };
        self.engines.insert(replica, engine);
        let outcome = Ok("127.0.0.1:9000".to_owned());
        self.later(self.habits.guard, Input::Started { replica, outcome });
    }

    fn probe(&mut self, replica: ReplicaId, prove: bool) {
        let Some(engine) = self.engines.get(&replica) else { return };
        let loaded = self.now >= engine.started_at + self.habits.load;
        let prove = prove && self.habits.proves;
        let saw = match (engine.is_alive(self.now) && loaded, prove) {
            (false, _) => Probe::Loading,
            (true, false) => Probe::Healthy,
            (true, true) => Probe::Proven,
        };
        self.later(5, Input::Probed { replica, saw });
    }

    fn run_hook(&mut self, replica: ReplicaId, kind: HookKind, deadline: Boottime) {
        let takes = match kind {
            HookKind::Checkpoint => self.habits.checkpoint,
            HookKind::Drain => self.habits.drain,
            HookKind::Restore | HookKind::Post => Some(200),
        };
        let left = deadline.0.saturating_sub(self.now);
        match takes {
            Some(takes) if takes <= left => self.hook_ends(takes, replica, kind, HookOutcome::Done),
            _ => self.hook_ends(left, replica, kind, HookOutcome::CutOff),
        }
    }

    fn hook_ends(&mut self, ms: u64, replica: ReplicaId, kind: HookKind, outcome: HookOutcome) {
        self.later(ms, Input::HookEnded { replica, kind, outcome, detail: None });
    }

    /// The engine's truth ends when its time has come, whether or not the agent looks.
    fn ends_in(&mut self, ms: u64, replica: ReplicaId, signal: i32) {
        let at = self.now + ms;
        let Some(engine) = self.engines.get_mut(&replica) else { return };
        if engine.end.as_ref().is_some_and(|(before, _)| *before <= at) {
            return;
        }
        let ended = Ended::Signaled { signal };
        engine.end = Some((at, ended.clone()));
        self.later(ms, Input::Exited { replica, ended });
    }

    fn look(&mut self, replica: ReplicaId) {
        let Some(engine) = self.engines.get_mut(&replica) else { return };
        engine.looks += 1;
        let saw = if engine.looks <= self.habits.held_looks {
            let because = "GPU-0: 1,024 MiB are held by pid 77".to_owned();
            Release::Held { processes_left: false, because }
        } else {
            let memory =
                |gpu: &GpuUuid| MemoryProof { gpu: gpu.clone(), baseline_mib: 4, used_mib: 4 };
            Release::Free {
                processes_gone_at: Boottime(self.now),
                memory_back_at: Boottime(self.now),
                memory: engine.order.gpus.iter().map(memory).collect(),
            }
        };
        self.later(20, Input::Release { replica, saw });
    }
}
