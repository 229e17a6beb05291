//! What all parts of the world share: the clock, what is planned, the network, luck, the trace, and
//! what was found to be wrong.

use std::collections::BTreeMap;

use wharfage_agent_core::Input;
use wharfage_shared::gateway::{GatewayReport, Routes};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{DeploymentId, HookId, NoticeId, ReplicaId};
use wharfage_shared::replica::Ended;
use wharfage_shared::segment::SegmentBatch;
use wharfage_shared::time::{Boottime, Millis, Timestamp};

use crate::drills::HookHabit;
use crate::network::{Network, Place, Way};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::Trace;

/// The scheduler's clock at the world's beginning: 2026-01-01T00:00:00Z.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_767_225_600_000);

/// A rule that was broken, and where the world stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, since the world's beginning.
    pub at: Millis,
    /// `S1` to `S12`, `L1` to `L3`, `metering`, `world`.
    pub rule: String,
    /// What was found, one sentence.
    pub found: String,
}

/// So many violations are kept: the first ones tell the story.
const MOST_VIOLATIONS: usize = 20;

/// What hosts and engines are like in this world.
#[derive(Clone, Debug)]
pub struct Habits {
    /// From the call to a guard that listens.
    pub start: Millis,
    /// From SIGTERM to the end of the engine.
    pub stop: Millis,
    /// From SIGKILL to the end of the last process.
    pub kill: Millis,
    /// From the end of the processes to memory back at the baseline.
    pub memory_back: Millis,
    /// How long a probe or a look takes.
    pub look: Millis,
    /// From an agent's death to the next start.
    pub agent_restart: Millis,
    /// From the scheduler's death to its next start.
    pub scheduler_restart: Millis,
    /// So many engines in a thousand do not end on SIGTERM.
    pub stubborn_permille: u32,
    /// So many steps of an agent in a thousand end by its death amid their effects.
    pub dies_amid_effects_permille: u32,
    /// So many records in a thousand are the scheduler's last: it dies before or after the write.
    pub dies_at_record_permille: u32,
}

impl Habits {
    /// Everything works, at usual speed.
    pub fn sound() -> Self {
        Self {
            start: Millis(50),
            stop: Millis(500),
            kill: Millis(50),
            memory_back: Millis(200),
            look: Millis(5),
            agent_restart: Millis::from_seconds(2),
            scheduler_restart: Millis::from_seconds(2),
            stubborn_permille: 0,
            dies_amid_effects_permille: 0,
            dies_at_record_permille: 0,
        }
    }
}

/// One thing that happens somewhere.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Host(usize, AtHost),
    Gateway(usize, AtGateway),
    Scheduler(AtScheduler),
}

/// At a host. `start` names the agent's start, `life` the host's boot.
#[derive(Clone, Debug)]
pub(crate) enum AtHost {
    Joins,
    AgentStarts { life: u64 },
    Wake { start: u64, token: u64 },
    Beat { start: u64, token: u64 },
    Did { start: u64, input: Box<Input> },
    Answered { start: u64, asked: Asked, answer: Box<HeartbeatAnswer> },
    Told,
    Resend { start: u64 },
    EngineEnds { life: u64, replica: ReplicaId, ended: Ended },
    LeaseEnds { life: u64, replica: ReplicaId },
    NoticeDue { id: NoticeId },
    Look,
}

/// What a heartbeat asked, kept at its sender until the answer comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub sent_at: Boottime,
    pub number: u64,
    pub had_epoch: bool,
    /// The number of the health report that was named.
    pub health: u64,
}

/// At a gateway process.
#[derive(Clone, Debug)]
pub(crate) enum AtGateway {
    Reports,
    Turns,
    Routes(Box<Routes>),
}

/// At the scheduler.
#[derive(Clone, Debug)]
pub(crate) enum AtScheduler {
    Starts,
    Wakes { token: u64 },
    Heartbeat { host: usize, start: u64, asked: Asked, heartbeat: Box<Heartbeat> },
    Segments { host: usize, batch: Box<SegmentBatch> },
    Report { gateway: usize, report: Box<GatewayReport> },
    HoldEnds { host: usize, number: u64 },
}

/// What all parts share.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub now: Millis,
    pub queue: Queue<Happening>,
    pub rng: Rng,
    pub network: Network,
    pub trace: Trace,
    pub habits: Habits,
    /// How long the engine of a deployment loads.
    pub loads: BTreeMap<DeploymentId, Millis>,
    /// How long a hook takes.
    pub hooks: BTreeMap<HookId, Millis>,
    /// What hooks are like that do not simply finish.
    pub hook_habits: BTreeMap<HookId, HookHabit>,
    /// Deployments of which two copies must never run, with the most that may.
    pub single_copies: BTreeMap<DeploymentId, u32>,
    /// Engines that run, on whatever host; of a gang the leader's.
    pub engines: BTreeMap<ReplicaId, DeploymentId>,
    /// How many members of a gang run.
    pub members: BTreeMap<ReplicaId, u32>,
    /// Engines that ended since gateways were last told.
    pub ended: Vec<ReplicaId>,
    pub violations: Vec<Violation>,
}

impl Stage {
    pub fn new(seed: u64, keeps_lines: bool) -> Self {
        Self {
            now: Millis(0),
            queue: Queue::default(),
            rng: Rng::new(seed),
            network: Network::fair(),
            trace: Trace::new(keeps_lines),
            habits: Habits::sound(),
            loads: BTreeMap::new(),
            hooks: BTreeMap::new(),
            hook_habits: BTreeMap::new(),
            single_copies: BTreeMap::new(),
            engines: BTreeMap::new(),
            members: BTreeMap::new(),
            ended: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// The scheduler's clock.
    pub fn wall(&self) -> Timestamp {
        BEGINNING + self.now
    }

    /// When the scheduler's clock shows `wall`.
    pub fn when(&self, wall: Timestamp) -> Millis {
        wall.since(BEGINNING)
    }

    pub fn plan_in(&mut self, length: Millis, what: Happening) {
        self.queue.plan(self.now + length, what);
    }

    /// Sends over a link: arrives never, once or twice.
    pub fn send(&mut self, place: Place, way: Way, what: Happening) {
        let (once, twice) = self.network.arrivals(&mut self.rng, place, way, self.now);
        if let Some(at) = twice {
            self.queue.plan(at, what.clone());
        }
        if let Some(at) = once {
            self.queue.plan(at, what);
        }
    }

    /// A rule is broken.
    pub fn broken(&mut self, rule: &str, found: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.trace.line(self.now, None, format!("{rule} IS BROKEN: {found}"));
            self.violations.push(Violation { at: self.now, rule: rule.to_owned(), found });
        }
    }
}
