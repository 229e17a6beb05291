//! A host with a perfect agent: it starts what it is told to run, ends what it is told to stop when
//! it may, proves what is gone, and reports every five seconds.

use std::collections::BTreeMap;

use wharfage_scheduler_core::{Heard, Reply};
use wharfage_shared::drill::Drill;
use wharfage_shared::health::{Ask, Asked, GpuHealth, Health, NodeHealth, Unfit};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{BootId, GpuUuid, NodeId, NoticeId, ReplicaId};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::order::{Desired, Order, RunOrder};
use wharfage_shared::replica::{Ended, Gone, MemoryProof, ReplicaReport, ReportedPhase};
use wharfage_shared::telemetry::{CachedModel, EngineOffer, GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, PROTOCOL_VERSION};

use super::World;
use super::segments::SegmentLog;

/// Seconds in each of fetching, loading and warming.
const STAGE: Millis = Millis::from_seconds(2);
/// A file's notice: from here before its end replicas drain, whatever else happens.
const LAST_MOMENT: Millis = Millis::from_seconds(10);

/// Whether a host can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Reports arrive.
    Up,
    /// The network is cut; everything on the host goes on.
    Cut,
    /// The host is gone.
    Dead,
}

/// One replica on the host.
#[derive(Clone, Debug)]
pub struct Local {
    /// Where it is in its life.
    pub phase: ReportedPhase,
    /// Since when.
    since: Boottime,
    /// What it holds.
    gpus: Vec<GpuUuid>,
    /// It never gets beyond loading.
    pub hangs: bool,
}

/// A host.
pub struct Agent {
    /// Its name.
    pub node: NodeId,
    /// Whether it can be heard.
    pub link: Link,
    /// By so much its wall clock is ahead of the scheduler's.
    pub clock_ahead_ms: i64,
    /// A GPU's trouble.
    pub trouble: Option<String>,
    /// Its health report, with its hash; an agent of the version before makes none.
    pub health_hash: String,
    pub health: Option<Health>,
    /// Replicas that run here.
    pub replicas: BTreeMap<ReplicaId, Local>,
    /// Notices of the host's own sources.
    pub notices: Vec<Notice>,
    /// Something changed: it reports at once.
    pub is_eager: bool,
    /// The newest desired state.
    pub desired: Option<Desired>,
    /// The epoch, once issued.
    pub epoch: Option<Epoch>,
    /// What names this start of the agent.
    pub nonce: String,
    /// Its last report's number.
    pub number: u64,
    /// When it was heard last.
    pub reported_at: Timestamp,
    /// Every replica of this engine hangs while it loads.
    pub loads_hang: bool,
    inventory: Inventory,
    inventories: u32,
    send_inventory: bool,
    boot: BootId,
    booted: Timestamp,
    starts: u32,
    gone: BTreeMap<ReplicaId, Gone>,
    meter: SegmentLog,
}

impl Agent {
    /// Splits a whole GPU into instances.
    pub fn split(&mut self, at: usize, instances: usize) {
        let whole = self.inventory.gpus.remove(at);
        let instance = |number: usize| GpuIdentity {
            uuid: GpuUuid::new(format!("MIG-{}-{at}-{number}", self.node)),
            part_of: Some(whole.uuid.clone().into()),
            ..whole.clone()
        };
        let instances: Vec<GpuIdentity> = (0..instances).map(instance).collect();
        self.inventory.gpus.splice(at..at, instances);
        self.send_inventory = true;
    }

    /// A host that has just started.
    pub fn new(node: &NodeId, gpus: usize, now: Timestamp) -> Self {
        let gpu = |at: usize| {
            let uuid = GpuUuid::new(format!("GPU-{node}-{at}"));
            GpuIdentity::whole(uuid, "NVIDIA H100 80GB HBM3", 81_559)
        };
        let engine = |name: &str, version: &str| EngineOffer {
            gangs: vec![version.to_owned()],
            ..EngineOffer::of(name, [version])
        };
        let inventory = Inventory {
            gpus: (0..gpus).map(gpu).collect(),
            driver_version: Some("580.65.06".to_owned()),
            gpu_trouble: None,
            engines: [engine("vllm", "0.11.0"), engine("sglang", "0.5.3")].into(),
            hooks: Vec::new(),
            agent_version: "0.1.0".to_owned(),
            false_ready: Vec::new(),
            kernel: "6.8.0".to_owned(),
            models: Vec::new(),
            address: Some(format!("{node}.internal")),
            fabric: None,
            provider_id: None,
        };
        Self {
            node: node.clone(),
            link: Link::Up,
            clock_ahead_ms: 0,
            trouble: None,
            health_hash: String::new(),
            health: None,
            replicas: BTreeMap::new(),
            notices: Vec::new(),
            is_eager: true,
            desired: None,
            epoch: None,
            nonce: format!("{node}-start-1"),
            number: 0,
            reported_at: now,
            loads_hang: false,
            inventory,
            inventories: 1,
            send_inventory: true,
            boot: BootId::new(format!("{node}-boot-1")),
            booted: now.minus(Millis::from_seconds(100)),
            starts: 1,
            gone: BTreeMap::new(),
            meter: SegmentLog::new(node),
        }
    }

    /// The host's own clock.
    pub fn clock(&self, now: Timestamp) -> Boottime {
        Boottime(now.since(self.booted).0)
    }

    /// The agent ends and starts again; replicas and its disk stay.
    pub fn restart(&mut self) {
        self.starts += 1;
        self.nonce = format!("{}-start-{}", self.node, self.starts);
        self.epoch = None;
        self.number = 0;
        self.is_eager = true;
    }

    /// The host boots: its replicas are gone, its disk stays.
    pub fn reboot(&mut self, now: Timestamp) {
        self.meter.close(self.clock(now));
        self.restart();
        self.boot = BootId::new(format!("{}-boot-{}", self.node, self.starts));
        self.booted = now;
        self.link = Link::Up;
        self.notices.clear();
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        for id in ids {
            self.end(id, Ended::Unknown, now);
        }
    }

    /// A model of the usual bucket lies in the host's cache from now on.
    pub fn cache(&mut self, path: &str, bytes: u64) {
        let (bucket, path) = ("models".to_owned(), path.to_owned());
        self.inventory.models.retain(|model| model.path != path);
        self.inventory.models.push(CachedModel { bucket, path, bytes });
        self.inventory.models.sort();
        self.inventory_changed();
    }

    /// Each GPU's NVLink group and memory node, as the host tells from now on.
    pub fn places(&mut self, places: &[(Option<u32>, Option<u32>)]) {
        for (gpu, (nvlink, numa)) in self.inventory.gpus.iter_mut().zip(places) {
            (gpu.nvlink, gpu.numa) = (*nvlink, *numa);
        }
        self.inventory_changed();
    }

    /// The host is on this fast network from now on.
    pub fn on_fabric(&mut self, fabric: &str) {
        self.inventory.fabric = Some(fabric.to_owned());
        self.inventory_changed();
    }

    /// Its engines cannot run over several nodes.
    pub fn runs_alone(&mut self) {
        let engines = self.inventory.engines.iter().cloned();
        let alone = |engine| EngineOffer { gangs: Vec::new(), ..engine };
        self.inventory.engines = engines.map(alone).collect();
        self.inventory_changed();
    }

    fn inventory_changed(&mut self) {
        self.inventories += 1;
        self.send_inventory = true;
        self.is_eager = true;
    }

    /// A replica's engine ends by itself.
    pub fn crash(&mut self, id: ReplicaId, now: Timestamp) {
        self.end(id, Ended::Exited { code: 1 }, now);
    }

    /// A replica's engine stops answering, or answers again.
    pub fn hang(&mut self, id: ReplicaId, hangs: bool, now: Timestamp) {
        let since = self.clock(now);
        let Some(local) = self.replicas.get_mut(&id) else { return };
        local.phase = if hangs { ReportedPhase::Degraded } else { ReportedPhase::Ready };
        local.since = since;
        self.is_eager = true;
    }

    /// Somebody says that the host, or what runs on it, will be taken away.
    pub fn notice(&mut self, id: &str, seconds: u64, leaves: Leaves, now: Timestamp) {
        let heard_at = self.clock(now);
        self.notices.push(Notice {
            id: NoticeId::from(id),
            kind: NoticeKind::Preempt,
            source: NoticeSource::File,
            leaves,
            gone_at: heard_at + Millis::from_seconds(seconds),
            heard_at,
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        });
        self.is_eager = true;
    }

    /// Somebody says that the host may be taken away.
    pub fn hint(&mut self, id: &str, seconds: u64, now: Timestamp) {
        self.notice(id, seconds, Leaves::Node, now);
        for notice in self.notices.iter_mut().filter(|notice| notice.id.as_str() == id) {
            notice.certainty = Certainty::Likely;
        }
    }

    /// A replica that nobody has ordered runs here.
    pub fn stray(&mut self, id: ReplicaId, gpus: usize, now: Timestamp) {
        let taken: Vec<&GpuUuid> = self.replicas.values().flat_map(|local| &local.gpus).collect();
        let all = self.inventory.gpus.iter().map(|gpu| &gpu.uuid);
        let free = all.filter(|gpu| !taken.contains(gpu));
        let gpus = free.take(gpus).cloned().collect();
        let since = self.clock(now);
        let local = Local { phase: ReportedPhase::Ready, since, gpus, hangs: false };
        self.replicas.insert(id, local);
        self.is_eager = true;
    }

    fn end(&mut self, id: ReplicaId, ended: Ended, now: Timestamp) {
        let Some(local) = self.replicas.remove(&id) else { return };
        let at = self.clock(now);
        let proof = |gpu: &GpuUuid| MemoryProof { gpu: gpu.clone(), baseline_mib: 0, used_mib: 0 };
        let memory = local.gpus.iter().map(proof).collect();
        let gone = Gone { replica: id, ended, processes_gone_at: at, memory_back_at: at, memory };
        self.gone.insert(id, gone);
        self.is_eager = true;
    }

    /// Lives on until `now`.
    pub fn advance(&mut self, now: Timestamp) {
        if self.link == Link::Dead {
            return;
        }
        let clock = self.clock(now);
        for local in self.replicas.values_mut() {
            let stages = local.hangs || self.loads_hang;
            let next = match local.phase {
                ReportedPhase::Fetching => Some(ReportedPhase::Loading),
                ReportedPhase::Loading if !stages => Some(ReportedPhase::Warming),
                ReportedPhase::Warming => Some(ReportedPhase::Ready),
                _ => None,
            };
            if let Some(next) = next.filter(|_| clock >= local.since + STAGE) {
                (local.phase, local.since) = (next, clock);
                self.is_eager = true;
            }
        }
        self.follow_orders(now);
        self.follow_notices(now);
        let desired = self.desired.as_ref();
        let running = self.replicas.iter().map(|(id, local)| (*id, local.phase, &local.gpus));
        let known = |id| desired.is_some_and(|d| d.orders.iter().any(|o| o.replica() == id));
        let running: Vec<_> =
            running.map(|(id, phase, gpus)| (id, phase, gpus.clone(), known(id))).collect();
        let held_for = desired.and_then(|desired| desired.held_for.clone());
        self.meter.see(held_for, &running, &self.boot, self.epoch.unwrap_or_default(), clock);
    }

    fn follow_orders(&mut self, now: Timestamp) {
        let Some(desired) = self.desired.clone() else { return };
        self.follow_drill(desired.drill.as_ref(), now);
        for order in &desired.orders {
            match order {
                Order::Run(run) => self.start(run, now),
                Order::Stop(stop) if stop.quiet || stop.deadline <= now => {
                    let id = stop.replica;
                    self.end(id, Ended::Exited { code: 0 }, now);
                    // What was never here is gone too: the order waits for somebody to say so.
                    if !self.gone.contains_key(&id) {
                        let ended = Ended::NeverStarted { because: "stopped before".to_owned() };
                        self.prove(id, ended, now);
                    }
                }
                Order::Stop(stop) => self.drain(stop.replica, now),
            }
        }
        let reclaim = desired.reclaim.filter(|reclaim| reclaim.gone_at <= now);
        if reclaim.is_some_and(|reclaim| reclaim.leaves == Leaves::Node) {
            self.link = Link::Dead;
        }
    }

    /// An ordered drill is heard like any notice, and withdrawn like one.
    fn follow_drill(&mut self, said: Option<&Drill>, now: Timestamp) {
        let ours = |notice: &Notice| notice.source == NoticeSource::Drill;
        let known = self.notices.iter().find(|notice| ours(notice)).map(|n| n.id.clone());
        if known.as_ref() == said.map(|said| &said.id) {
            return;
        }
        self.is_eager = true;
        self.notices.retain(|notice| !ours(notice));
        let Some(said) = said else { return };
        self.notices.push(Notice {
            id: said.id.clone(),
            kind: NoticeKind::Preempt,
            source: NoticeSource::Drill,
            leaves: said.leaves,
            gone_at: self.clock(said.gone_at),
            heard_at: self.clock(now),
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        });
    }

    fn prove(&mut self, id: ReplicaId, ended: Ended, now: Timestamp) {
        let at = self.clock(now);
        let memory = Vec::new();
        let gone = Gone { replica: id, ended, processes_gone_at: at, memory_back_at: at, memory };
        self.gone.insert(id, gone);
        self.is_eager = true;
    }

    fn start(&mut self, run: &RunOrder, now: Timestamp) {
        let id = run.replica;
        if self.replicas.contains_key(&id) || self.gone.contains_key(&id) {
            return;
        }
        let taken = |local: &Local| local.gpus.iter().any(|gpu| run.gpus.contains(gpu));
        if let Some(other) = self.replicas.iter().find(|(_, local)| taken(local)).map(|(o, _)| *o) {
            let orders = self.desired.iter().flat_map(|desired| &desired.orders);
            let known = orders.into_iter().any(|order| order.replica() == other);
            assert!(!known, "S1: {id} is to start where {other} still runs");
            // Something that nobody ordered came between the order and the start.
            let because = format!("its GPUs are taken by {other}");
            self.prove(id, Ended::NeverStarted { because }, now);
            return;
        }
        let since = self.clock(now);
        let gpus = run.gpus.clone();
        let local = Local { phase: ReportedPhase::Fetching, since, gpus, hangs: false };
        self.replicas.insert(id, local);
        self.is_eager = true;
    }

    fn drain(&mut self, id: ReplicaId, now: Timestamp) {
        let clock = self.clock(now);
        let Some(local) = self.replicas.get_mut(&id) else { return };
        if local.phase != ReportedPhase::Draining {
            (local.phase, local.since) = (ReportedPhase::Draining, clock);
            self.is_eager = true;
        }
    }

    /// At the last moment everything drains by itself; at the end the host is gone, if it goes.
    fn follow_notices(&mut self, now: Timestamp) {
        let clock = self.clock(now);
        let is_certain = |notice: &&Notice| notice.certainty == Certainty::Certain;
        let certain: Vec<Notice> = self.notices.iter().filter(is_certain).cloned().collect();
        let Some(first) = certain.iter().map(|notice| notice.gone_at).min() else {
            return self.resume(clock);
        };
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        if clock + LAST_MOMENT >= first {
            for id in &ids {
                self.drain(*id, now);
            }
        }
        if clock + Millis::from_seconds(3) >= first {
            for id in &ids {
                self.end(*id, Ended::Exited { code: 0 }, now);
            }
        }
        let mut over = certain.iter().filter(|notice| notice.gone_at <= clock);
        if over.any(|notice| notice.leaves == Leaves::Node) {
            self.link = Link::Dead;
        }
        let passed = Millis::from_seconds(20);
        let is_drill = |notice: &Notice| notice.source == NoticeSource::Drill;
        self.notices.retain(|notice| is_drill(notice) || clock < notice.gone_at + passed);
    }

    /// What drained for a notice that is no more takes traffic again, unless it is ordered to stop.
    fn resume(&mut self, clock: Boottime) {
        let orders = self.desired.iter().flat_map(|desired| &desired.orders);
        let stops: Vec<ReplicaId> = orders
            .filter(|order| matches!(order, Order::Stop(_)))
            .map(|order| order.replica())
            .collect();
        let drains = self
            .replicas
            .iter_mut()
            .filter(|(id, local)| local.phase == ReportedPhase::Draining && !stops.contains(id));
        for (_, local) in drains {
            (local.phase, local.since) = (ReportedPhase::Ready, clock);
            self.is_eager = true;
        }
    }

    /// The heartbeat that it would send now.
    pub fn heartbeat(&self, now: Timestamp) -> Heartbeat {
        let report = |(id, local): (&ReplicaId, &Local)| ReplicaReport {
            replica: *id,
            phase: local.phase,
            since: local.since,
            progress_permille: None,
            expected_ready_in: None,
            address: Some(format!("127.0.0.1:{}", 20_000 + id.0)),
            gpus: local.gpus.clone(),
            because: None,
            hooks: Vec::new(),
            load: None,
        };
        let reading = |gpu: &GpuIdentity| GpuReading {
            uuid: gpu.uuid.clone(),
            memory_used_mib: Some(0),
            memory_reserved_mib: None,
            utilization: Some(0),
            temperature_c: Some(40),
            power_mw: Some(70_000),
            age_ms: 0,
            trouble: self.trouble.clone(),
            unread: None,
        };
        let version = self.desired.as_ref().map(|desired| desired.version).unwrap_or_default();
        Heartbeat {
            protocol: PROTOCOL_VERSION,
            node: self.node.clone(),
            boot: self.boot.clone(),
            nonce: self.nonce.clone(),
            epoch: self.epoch,
            number: self.number,
            persisted: version,
            applied: version,
            sent_at: self.clock(now),
            wall: Timestamp(now.0 + self.clock_ahead_ms),
            inventory_hash: format!(
                "inventory {} of {} slots",
                self.inventories,
                self.inventory.gpus.len()
            ),
            inventory: self.send_inventory.then(|| self.inventory.clone()),
            health_hash: self.health_hash.clone(),
            health: self.health.clone(),
            readings: self.inventory.gpus.iter().map(reading).collect(),
            replicas: self.replicas.iter().map(report).collect(),
            gone: self.gone.values().cloned().collect(),
            open_segment: self.meter.open(self.clock(now)),
            last_segment: self.meter.last(),
            notices: self.notices.clone(),
            hearing: Vec::new(),
            evacuated: None,
            answer_at_once: true,
        }
    }

    /// A health report of one of six kinds about one GPU.
    pub fn report_of(&self, gpu: usize, kind: u8) -> Health {
        let gpu = self.inventory.gpus.get(gpu).map(|gpu| gpu.uuid.clone());
        let why = || Unfit { rule: format!("XID {kind}"), because: format!("XID {kind}: chance") };
        let ask = |what, gpu: Option<GpuUuid>| {
            let Unfit { rule, because } = why();
            let (incident, injected) = (u64::from(kind), false);
            Ask { incident, what, gpu, only_multi_gpu: kind == 4, rule, because, injected }
        };
        let unfit = gpu.clone().map(|gpu| GpuHealth { gpu, unfit: Some(why()) });
        let well = Health { node: NodeHealth::Fit, ..Health::default() };
        match kind {
            0 => well,
            1 => Health { gpus: unfit.into_iter().collect(), ..well },
            2 => {
                let asks = vec![ask(Asked::Drain, gpu)];
                Health { gpus: unfit.into_iter().collect(), asks, ..well }
            }
            3 => Health { asks: vec![ask(Asked::RestartReplica, gpu)], ..well },
            4 => Health {
                node: NodeHealth::Unfit(why()),
                asks: vec![ask(Asked::Drain, None), ask(Asked::Reboot, None)],
                ..well
            },
            _ => Health::default(),
        }
    }

    /// Reports, and takes the answer in.
    pub fn report(&mut self, world: &mut World) {
        self.is_eager = false;
        self.reported_at = world.now;
        self.number += 1;
        let heartbeat = self.heartbeat(world.now);
        let reply = world.hear(Heard::Heartbeat(Box::new(heartbeat)));
        let Reply::Heartbeat(answer) = reply else { panic!("a heartbeat got {reply:?}") };
        let answer = answer.expect("an enrolled host is answered");
        self.answered(*answer);
        if self.epoch.is_some() {
            self.send_segments(world);
        }
    }

    /// Takes the answer to a heartbeat in.
    pub fn answered(&mut self, answer: HeartbeatAnswer) {
        match self.epoch {
            None => {
                self.epoch = Some(answer.epoch);
                self.send_inventory = true;
                self.is_eager = true;
                return;
            }
            Some(own) => assert_eq!(own, answer.epoch, "{} was replaced", self.node),
        }
        self.send_inventory = answer.send_inventory;
        let Some(desired) = answer.desired else { return };
        let known = self.desired.as_ref().map(|desired| desired.version).unwrap_or_default();
        assert!(desired.version > known, "S9: {} was sent {}", self.node, desired.version);
        self.gone.retain(|id, _| desired.orders.iter().any(|order| order.replica() == *id));
        self.desired = Some(desired);
        self.is_eager = true;
    }

    /// The highest desired state that is on its disk.
    pub fn persisted(&self) -> DesiredVersion {
        self.desired.as_ref().map(|desired| desired.version).unwrap_or_default()
    }

    fn send_segments(&mut self, world: &mut World) {
        let Some(batch) = self.meter.batch(self.epoch.unwrap_or_default()) else { return };
        let node = self.node.clone();
        let reply = world.hear(Heard::Segments { node, batch });
        let Reply::Segments(answer) = reply else { panic!("segments got {reply:?}") };
        self.meter.acknowledged(answer.expect("good segments are taken").up_to);
    }
}
