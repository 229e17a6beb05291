//! A simulated host: the truth about its processes, GPUs, disk and clock, and the hands of the
//! production agent core that runs on it. The truth outlives the agent.

pub(crate) mod clock;
mod faults;
pub(crate) mod gates;
mod hands;
pub(crate) mod process;
mod uplink;

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_agent_core::health::Memory;
use wharfage_agent_core::input::FoundReplica;
use wharfage_agent_core::{Agent, Config, Found, Input};
use wharfage_shared::capacity::{Sku, Zone};
use wharfage_shared::health::Health;
use wharfage_shared::ids::{BootId, GpuUuid, NodeId, NoticeId, ReplicaId, SegmentLogId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::Desired;
use wharfage_shared::segment::{OpenSegment, Segment};
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::{Boottime, Millis};

use crate::stage::{AtHost, Happening, Stage};
use clock::HostClock;
use process::Process;

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// It will join later.
    NotYet,
    /// It is up.
    On,
    /// It is gone for good.
    Gone,
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub index: usize,
    pub node: NodeId,
    pub sku: Sku,
    pub zone: Zone,
    pub power: Power,
    pub clock: HostClock,
    pub life: u64,
    /// The clocks of all boots so far.
    pub clocks: BTreeMap<BootId, HostClock>,
    pub gpus: Vec<GpuUuid>,
    pub inventory: Inventory,
    inventory_hash: String,
    pub config: Config,
    pub processes: BTreeMap<ReplicaId, Process>,
    /// When the checkpoints end that were begun, in order of their beginnings.
    writing: Vec<Millis>,
    pub disk: Disk,
    pub agent: Option<Running>,
    starts: u64,
    /// Since when the agent has been up without a break; kept for checks.
    pub agent_since: Millis,
    pub notices: BTreeMap<NoticeId, HostNotice>,
    notices_so_far: u64,
    pub gpu_trouble: BTreeMap<GpuUuid, String>,
    pub silent_gpus: Vec<GpuUuid>,
    /// Records of the kernel's log so far, in this boot.
    kernel_records: u64,
    /// Somebody saw to the GPUs while no agent was there to be told.
    repair_waits: bool,
    wall_step: i64,
    /// When an order first named a replica here.
    pub ordered: BTreeMap<ReplicaId, Millis>,
    /// Stretches in which at least one engine ran.
    pub engine_time: Vec<(Millis, Option<Millis>)>,
    /// Work of engines that ended here without having saved it.
    pub lost_work: Millis,
    /// Stretches in which no agent looked.
    pub unwatched: Vec<(Millis, Option<Millis>)>,
}

/// What survives the agent.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub desired: Option<Desired>,
    pub log: SegmentLogId,
    pub last_segment: u64,
    pub segments: Vec<Segment>,
    pub open: Option<OpenSegment>,
    pub health: Memory,
}

/// A notice that the host's source tells.
#[derive(Clone, Debug)]
pub(crate) struct HostNotice {
    pub gone_at: Millis,
    pub heard_at: Boottime,
    pub leaves: Leaves,
}

/// A running agent.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub core: Agent,
    start: u64,
    nonce: String,
    epoch: Option<wharfage_shared::version::Epoch>,
    number: u64,
    wake: Option<Boottime>,
    wake_token: u64,
    beat_token: u64,
    beat_at: Millis,
    at_once: bool,
    send_inventory: bool,
    health: Told,
    sent_segment: u64,
}

/// The health report and how far the scheduler is known to have it: reports are numbered.
#[derive(Clone, Debug, Default)]
struct Told {
    report: Arc<Health>,
    number: u64,
    known: u64,
}

/// How a host is made.
pub(crate) struct Make {
    pub index: usize,
    pub sku: Sku,
    pub zone: Zone,
    pub drift_ppm: i64,
    pub inventory: Inventory,
    pub config: Config,
}

impl Host {
    /// A host that has not joined.
    pub fn make(make: Make, now: Millis) -> Self {
        let node = NodeId::new(format!("node-{}", make.index + 1));
        let shown = Millis(3_600_000 + 1_000 * make.index as u64);
        Self {
            index: make.index,
            sku: make.sku,
            zone: make.zone,
            power: Power::NotYet,
            clock: HostClock::booted(now, shown, make.drift_ppm),
            life: 1,
            clocks: BTreeMap::new(),
            gpus: make.inventory.gpus.iter().map(|gpu| gpu.uuid.clone()).collect(),
            inventory_hash: format!("inventory-{node}"),
            inventory: make.inventory,
            config: make.config,
            processes: BTreeMap::new(),
            writing: Vec::new(),
            disk: Disk {
                desired: None,
                log: SegmentLogId::new(format!("{node}-log-1")),
                last_segment: 0,
                segments: Vec::new(),
                open: None,
                health: Memory::default(),
            },
            agent: None,
            starts: 0,
            agent_since: now,
            notices: BTreeMap::new(),
            notices_so_far: 0,
            gpu_trouble: BTreeMap::new(),
            silent_gpus: Vec::new(),
            kernel_records: 0,
            repair_waits: false,
            wall_step: 0,
            ordered: BTreeMap::new(),
            engine_time: Vec::new(),
            lost_work: Millis(0),
            unwatched: Vec::new(),
            node,
        }
    }

    pub fn boot(&self) -> BootId {
        BootId::new(format!("{}-boot-{}", self.node, self.life))
    }

    /// Plans something here.
    fn plan(&self, stage: &mut Stage, length: Millis, what: AtHost) {
        stage.plan_in(length, Happening::Host(self.index, what));
    }

    /// Something happens here.
    pub fn happen(&mut self, stage: &mut Stage, what: AtHost) {
        if self.power == Power::Gone {
            return;
        }
        match what {
            AtHost::Joins => {
                self.power = Power::On;
                self.start_agent(stage);
            }
            AtHost::AgentStarts { life } if life == self.life && self.agent.is_none() => {
                stage.trace.line(stage.now, Some(self.node.clone()), "the agent starts".to_owned());
                self.start_agent(stage);
            }
            AtHost::AgentStarts { .. } => {}
            AtHost::Wake { start, token } => self.wake(stage, start, token),
            AtHost::Beat { start, token } => self.beat_due(stage, start, token),
            AtHost::Did { start, input } if self.is_start(start) => self.did(stage, *input),
            AtHost::Answered { start, asked, answer } if self.is_start(start) => {
                self.answered(stage, asked, *answer);
            }
            AtHost::Resend { start } if self.is_start(start) => self.resend(stage),
            AtHost::Told | AtHost::Did { .. } | AtHost::Answered { .. } | AtHost::Resend { .. } => {
            }
            AtHost::EngineEnds { life, replica, ended } if life == self.life => {
                self.end_engine(stage, replica, ended);
            }
            AtHost::LeaseEnds { life, replica } if life == self.life => {
                self.lease_ends(stage, replica);
            }
            AtHost::EngineEnds { .. } | AtHost::LeaseEnds { .. } => {}
            AtHost::Look => self.look_at_gates(stage),
            AtHost::NoticeDue { id } => self.notice_due(stage, &id),
        }
    }

    fn is_start(&self, start: u64) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.start == start)
    }

    /// A new agent takes over what it finds.
    pub fn start_agent(&mut self, stage: &mut Stage) {
        if self.power != Power::On || self.agent.is_some() {
            return;
        }
        self.starts += 1;
        self.agent_since = stage.now;
        if let Some((_, end)) = self.unwatched.last_mut() {
            end.get_or_insert(stage.now);
        }
        let nonce = format!("{}-start-{}-{:016x}", self.node, self.starts, stage.rng.bits());
        let boot = self.boot();
        self.clocks.insert(boot.clone(), self.clock);
        let open = self.disk.open.clone().filter(|open| open.key.boot == boot);
        let found = Found {
            node: self.node.clone(),
            boot,
            nonce: nonce.clone(),
            desired: self.disk.desired.clone(),
            replicas: self.processes.values().map(found).collect(),
            log: self.disk.log.clone(),
            last_segment: self.disk.last_segment,
            open_segment: open,
            unacknowledged: self.disk.segments.clone(),
            inventory: self.inventory.clone(),
            health: self.disk.health.clone(),
        };
        let (core, effects) = Agent::new(found, self.config.clone());
        self.agent = Some(Running {
            core,
            start: self.starts,
            nonce,
            epoch: None,
            number: 0,
            wake: None,
            wake_token: 0,
            beat_token: 0,
            beat_at: stage.now,
            at_once: true,
            send_inventory: true,
            health: Told::default(),
            sent_segment: 0,
        });
        self.carry_out(stage, effects);
        self.step(stage, Input::Wake);
        self.hear_again(stage);
        if std::mem::take(&mut self.repair_waits) {
            self.is_repaired(stage);
        } else {
            self.look_at_gates_for_a_while(stage);
        }
        self.plan_beat(stage, Millis(1));
    }

    /// What sources and drivers tell a new agent at once.
    fn hear_again(&mut self, stage: &mut Stage) {
        for id in self.notices.keys().cloned().collect::<Vec<_>>() {
            self.tell_notice(stage, &id);
        }
        for (gpu, trouble) in self.gpu_trouble.clone() {
            self.step(stage, Input::GpuTrouble { gpu, trouble: Some(trouble) });
        }
    }

    /// The agent's process ends; its replicas do not.
    pub fn agent_dies(&mut self, stage: &mut Stage, restart_in: Millis) {
        if self.agent.take().is_none() {
            return;
        }
        self.unwatched.push((stage.now, None));
        stage.trace.line(stage.now, Some(self.node.clone()), "the agent dies".to_owned());
        self.plan(stage, restart_in, AtHost::AgentStarts { life: self.life });
    }

    /// The agent hears something.
    pub fn step(&mut self, stage: &mut Stage, input: Input) {
        let now = self.clock.at(stage.now);
        let Some(agent) = &mut self.agent else { return };
        let effects = agent.core.step(now, input);
        if !effects.is_empty() {
            self.carry_out(stage, effects);
        }
        self.arm(stage);
        self.upload(stage);
    }

    /// Sees to it that the agent is woken when it asks to be.
    fn arm(&mut self, stage: &mut Stage) {
        let Some(agent) = &mut self.agent else { return };
        let Some(wanted) = agent.core.next_wake() else { return };
        if agent.wake.is_some_and(|armed| armed <= wanted) {
            return;
        }
        agent.wake = Some(wanted);
        agent.wake_token += 1;
        let (start, token) = (agent.start, agent.wake_token);
        let at = self.clock.when(wanted).max(stage.now + Millis(1));
        stage.queue.plan(at, Happening::Host(self.index, AtHost::Wake { start, token }));
    }

    fn wake(&mut self, stage: &mut Stage, start: u64, token: u64) {
        let now = self.clock.at(stage.now);
        let Some(agent) = &mut self.agent else { return };
        if agent.start != start || agent.wake_token != token {
            return;
        }
        agent.wake = None;
        if agent.core.next_wake().is_some_and(|wanted| wanted <= now) {
            self.step(stage, Input::Wake);
        } else {
            self.arm(stage);
        }
    }
}

fn found(process: &Process) -> FoundReplica {
    FoundReplica {
        order: process.order.clone(),
        address: Some(process.address.clone()),
        started_at: process.started_at,
        was_ready: process.was_ready,
        ended: process.end.as_ref().map(|end| end.ended.clone()),
    }
}
