//! A fleet whose agents are perfect: they carry out what they are told and report it.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{BootId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::order::{Desired, HeldFor, Order};
use wharfage_shared::replica::{Ended, Gone, ReplicaReport, ReportedPhase};
use wharfage_shared::segment::{
    Activity, OpenSegment, Segment, SegmentBatch, SegmentKey, SegmentReplica,
};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, PROTOCOL_VERSION, Term};

use crate::words::command::{Action, Answer, Command, access, deployments, money, nodes};
use crate::words::contract::{Contract, ContractTerms};
use crate::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use crate::words::event::Event;
use crate::words::node::Pool;
use crate::words::principal::Caller;
use crate::words::refusal::Refusal;
use crate::words::replica::PhaseWord;
use crate::{Controller, Decided, Fleet, Heard, Policy, Reply};

/// The instance type of every node.
pub const SKU: &str = "gd-8xh100ib-i128";
/// The zone of every node.
pub const ZONE: &str = "US-EAST-04A";
const BOOT: i64 = 1_000_000;

/// One perfect agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its node.
    pub node: NodeId,
    /// Whether it sends heartbeats.
    pub talks: bool,
    /// Replicas by phase.
    pub replicas: BTreeMap<ReplicaId, (ReportedPhase, Vec<wharfage_shared::ids::GpuUuid>)>,
    /// Proofs that are repeated.
    pub gone: BTreeSet<ReplicaId>,
    /// Notices that its sources hear.
    pub notices: Vec<Notice>,
    /// Ready replicas become ready only when this is set.
    pub loads: bool,
    epoch: Option<Epoch>,
    number: u64,
    desired: Desired,
    held_for: Option<HeldFor>,
    segment: Option<OpenSegment>,
    closed: u64,
}

/// A controller with its agents.
pub struct World {
    /// The controller.
    pub controller: Controller,
    /// The log.
    pub log: Vec<Event>,
    /// The agents by node.
    pub agents: BTreeMap<NodeId, Agent>,
    /// Now, in milliseconds.
    pub now: i64,
}

impl World {
    /// `standard` and `spot` nodes, connected, fit and open, for the organization acme.
    pub fn new(standard: usize, spot: usize) -> Self {
        let now = BOOT * 1000;
        let (controller, begun) =
            Controller::recover(Fleet::default(), Term(1), Timestamp(now), Policy::default());
        let agents = BTreeMap::new();
        let mut world = Self { controller, log: begun, agents, now };
        world.organization("acme");
        for (pool, class) in [("standard", ComputeClass::Standard), ("spot", ComputeClass::Spot)] {
            world.pool(pool, class);
        }
        for number in 1..=standard {
            world.enrol(&format!("node-{number}"), "standard");
        }
        for number in standard + 1..=standard + spot {
            world.enrol(&format!("node-{number}"), "spot");
        }
        world.beat(3);
        world
    }

    /// Makes an organization.
    pub fn organization(&mut self, id: &str) {
        let currency = "USD".to_owned();
        self.must(Action::Access(access::Action::CreateOrganization { id: id.into(), currency }));
    }

    fn pool(&mut self, id: &str, compute_class: ComputeClass) {
        let (zone, sku) = (Zone::new(ZONE), Sku::new(SKU));
        let (tenancy, owner) = (Tenancy::Dedicated, None);
        let pool = Pool { id: id.into(), zone, sku, compute_class, tenancy, owner };
        self.must(Action::Node(nodes::Action::CreatePool(pool)));
        let join = access::Action::CreateJoin {
            id: format!("join-{id}").as_str().into(),
            admits: access::Admits::Nodes { pool: id.into() },
            uses: 100_000,
            expires: Timestamp(i64::MAX),
            sha256: format!("secret-{id}"),
        };
        self.must(Action::Access(join));
    }

    /// Admits a node.
    pub fn enrol(&mut self, node: &str, pool: &str) {
        let join = format!("join-{pool}").as_str().into();
        let key = format!("key-{node}");
        let enroll = nodes::Action::Enroll { node: node.into(), join, pool: None, key };
        self.must(Action::Node(enroll));
        let agent = Agent {
            node: node.into(),
            talks: true,
            replicas: BTreeMap::new(),
            gone: BTreeSet::new(),
            notices: Vec::new(),
            loads: true,
            epoch: None,
            number: 0,
            desired: Desired::default(),
            held_for: None,
            segment: None,
            closed: 0,
        };
        self.agents.insert(node.into(), agent);
    }

    /// Carries a provider's command out.
    pub fn submit(&mut self, action: Action) -> Result<Answer, Refusal> {
        let command = Command { caller: Caller::provider(), action };
        let Decided { answer, events } = self.controller.submit(Timestamp(self.now), command)?;
        self.log.extend(events);
        self.hold();
        Ok(answer)
    }

    /// Carries a command out that must not be refused.
    pub fn must(&mut self, action: Action) -> Answer {
        self.submit(action).expect("the story's command is sound")
    }

    /// Creates a deployment of `gpus` GPUs with a min.
    pub fn deploy(&mut self, name: &str, gpus: u32, min: u32, change: impl FnOnce(&mut Spec)) {
        self.deploy_for("acme", name, gpus, min, change);
    }

    /// Creates a deployment for an organization.
    pub fn deploy_for(
        &mut self,
        of: &str,
        name: &str,
        gpus: u32,
        min: u32,
        change: impl FnOnce(&mut Spec),
    ) {
        let mut spec = spec(name, gpus, min);
        change(&mut spec);
        let organization: OrganizationId = of.into();
        let spec = spec.into();
        let create = deployments::Action::Create { id: name.into(), organization, spec };
        self.must(Action::Deployment(create));
    }

    /// Time passes: ticks, heartbeats every 5 s.
    pub fn run(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1000;
            let Decided { events, .. } = self.controller.tick(Timestamp(self.now));
            self.log.extend(events);
            if self.now % 5000 == 0 {
                self.beat(1);
            }
            self.hold();
        }
    }

    /// Every agent reports so many times at this instant.
    pub fn beat(&mut self, times: usize) {
        for _ in 0..times {
            for node in self.agents.keys().cloned().collect::<Vec<_>>() {
                self.report(&node);
            }
        }
    }

    /// One agent reports and carries out what it is told.
    pub fn report(&mut self, node: &NodeId) -> Option<HeartbeatAnswer> {
        let now = self.now;
        let agent = self.agents.get_mut(node)?;
        if !agent.talks {
            return None;
        }
        let batch = agent.advance(now);
        let heartbeat = agent.heartbeat(now);
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let Decided { answer, events } = self.controller.observe(Timestamp(now), heard);
        self.log.extend(events);
        if let Some(batch) = batch {
            let heard = Heard::Segments { node: node.clone(), batch };
            let Decided { events, .. } = self.controller.observe(Timestamp(now), heard);
            self.log.extend(events);
        }
        let Reply::Heartbeat(Ok(answer)) = answer else { return None };
        self.agents.get_mut(node)?.hear(&answer);
        self.hold();
        Some(*answer)
    }

    /// A notice appears at a node's own source.
    pub fn notice(&mut self, node: &str, seconds: u64, leaves: Leaves) {
        let at = boottime(self.now);
        let notice = Notice {
            id: "file-1".into(),
            kind: NoticeKind::Preempt,
            source: NoticeSource::File,
            leaves,
            gone_at: at + wharfage_shared::time::Millis::from_seconds(seconds),
            heard_at: at,
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        };
        let node: NodeId = node.into();
        self.agents.get_mut(&node).expect("a node of the story").notices.push(notice);
        self.report(&node);
    }

    /// Nothing bends, nothing was missed, replay gives the same fleet.
    pub fn hold(&self) {
        assert_eq!(crate::invariants::check(self.controller.fleet()), Vec::new());
        assert_eq!(self.controller.second_pass(), Vec::new(), "a second pass changes something");
    }

    /// Replays the log and compares bytes.
    pub fn replay(&self) {
        let mut fleet = Fleet::default();
        for event in &self.log {
            let text = serde_json::to_string(event).expect("facts are JSON");
            fleet.apply(&serde_json::from_str(&text).expect("facts read back"));
        }
        let canonical = wharfage_billing::canonical::to_string;
        let live = canonical(self.controller.fleet()).expect("integers only");
        assert_eq!(canonical(&fleet).expect("integers only"), live);
        let read: Fleet = serde_json::from_str(&live).expect("a snapshot reads back");
        assert_eq!(canonical(&read).expect("integers only"), live);
    }

    /// Where a deployment's replicas are: `r-1 ready node-1`.
    pub fn replicas(&self, deployment: &str) -> Vec<String> {
        let fleet = self.controller.fleet();
        let of = fleet.replicas().filter(|row| row.deployment.is(deployment));
        let word = |word: PhaseWord| format!("{word:?}").to_lowercase();
        let node = |node: Option<&NodeId>| node.map_or("-".to_owned(), NodeId::to_string);
        of.map(|row| format!("{} {} {}", row.id, word(fleet.phase_word(row)), node(row.node())))
            .collect()
    }

    /// The scheduler ends and starts again a second later with what is in the log.
    pub fn crash(&mut self) {
        self.now += 1000;
        let fleet = self.controller.fleet().clone();
        let term = Term(self.controller.term().0 + 1);
        let (controller, events) =
            Controller::recover(fleet, term, Timestamp(self.now), Policy::default());
        self.controller = controller;
        self.log.extend(events);
    }

    /// Cordons or uncordons a node.
    pub fn cordon(&mut self, node: &str, cordoned: bool) {
        let (node, reason) = (node.into(), "a look".to_owned());
        self.must(Action::Node(match cordoned {
            true => nodes::Action::Cordon { node, reason },
            false => nodes::Action::Uncordon { node, reason },
        }));
    }

    /// Signs a Flex contract for the next hour.
    pub fn sign(&mut self, id: &str, of: &str, instances: u32) {
        self.try_sign(id, of, instances).expect("the story's contract is sound");
    }

    /// Signs a Flex contract, or is refused.
    pub fn try_sign(&mut self, id: &str, of: &str, instances: u32) -> Result<Answer, Refusal> {
        let start = Timestamp(self.now);
        let contract = Contract {
            id: id.into(),
            organization: of.into(),
            region: Zone::new(ZONE).region(),
            sku: Sku::new(SKU),
            instances,
            start,
            end: Timestamp(start.0 + 3_600_000),
            terms: ContractTerms::Flex {
                holding_rate: "10.00".to_owned(),
                usage_rate: "14.00".to_owned(),
            },
        };
        self.submit(Action::Money(money::Action::Sign(contract)))
    }

    /// Invoices acme for everything so far.
    pub fn invoice(&mut self) -> String {
        let id = format!("invoice-{}", self.now);
        let (from, to) = (Timestamp(BOOT * 1000), Timestamp(self.now));
        let (organization, name) = ("acme".into(), id.clone());
        let draft = money::Action::DraftInvoice { id: name, organization, from, to };
        self.must(Action::Money(draft));
        self.controller.fleet().invoice(&id).expect("it was just drafted").body.clone()
    }
}

/// A spec of `gpus` GPUs with a min.
pub fn spec(name: &str, gpus: u32, min: u32) -> Spec {
    let bounds = Bounds::new(min, min.max(1)).expect("bounds of the story");
    Spec {
        name: name.to_owned(),
        model: Model {
            name: format!("model-{name}"),
            bucket: "models".to_owned(),
            path: "small".to_owned(),
        },
        runtime: Runtime {
            engine: "vllm".to_owned(),
            version: String::new(),
            config: BTreeMap::new(),
            env: BTreeMap::new(),
        },
        sku: Sku::new(SKU),
        gpus: GpuCount::new(gpus).expect("a count of the story"),
        gateways: BTreeSet::new(),
        zone: None,
        disabled: false,
        weight: 0,
        classes: vec![CapacityClass::OnDemand],
        priority: Priority::default(),
        scaling: Scaling::coreweave(bounds, None),
        extension: Extension::default(),
    }
}

fn boottime(now: i64) -> Boottime {
    Boottime(u64::try_from(now - BOOT * 1000).expect("stories begin after the boot") + 5000)
}

impl Agent {
    fn inventory(&self) -> Inventory {
        let gpu = |number| {
            GpuIdentity::whole(
                format!("GPU-{}-{number}", self.node).as_str().into(),
                "H100",
                81_559,
            )
        };
        let offer = EngineOffer::of("vllm", ["0.33.0", "0.22.0"]);
        Inventory {
            gpus: (0..8).map(gpu).collect(),
            engines: [offer].into(),
            ..Inventory::default()
        }
    }

    /// Replicas take their next step; what a segment needs to be cut for is cut.
    fn advance(&mut self, now: i64) -> Option<SegmentBatch> {
        for (_, (phase, _)) in self.replicas.iter_mut().filter(|_| self.loads) {
            *phase = match *phase {
                ReportedPhase::Fetching => ReportedPhase::Loading,
                ReportedPhase::Loading => ReportedPhase::Warming,
                ReportedPhase::Warming => ReportedPhase::Ready,
                other => other,
            };
        }
        let stopping: Vec<ReplicaId> = self
            .desired
            .orders
            .iter()
            .filter_map(|order| match order {
                Order::Stop(stop) if stop.quiet => Some(stop.replica),
                Order::Stop(_) | Order::Run(_) => None,
            })
            .collect();
        for replica in stopping {
            self.replicas.remove(&replica);
            self.gone.insert(replica);
        }
        self.cut(now)
    }

    fn cut(&mut self, now: i64) -> Option<SegmentBatch> {
        let at = boottime(now);
        let list = |(id, (_, gpus)): (&ReplicaId, &(ReportedPhase, Vec<_>))| SegmentReplica {
            replica: *id,
            gpus: gpus.clone(),
        };
        let replicas: Vec<SegmentReplica> = self.replicas.iter().map(list).collect();
        let is_ready = self.replicas.values().any(|(phase, _)| *phase == ReportedPhase::Ready);
        let activity = if is_ready { Activity::Serving } else { Activity::Starting };
        if let Some(open) = &mut self.segment
            && open.replicas == replicas
            && open.held_for == self.held_for
            && open.activity == activity
        {
            open.proven_until = at;
            return None;
        }
        let closed = self.segment.take().map(|open| Segment {
            key: open.key,
            epoch: self.epoch.unwrap_or_default(),
            held_for: open.held_for,
            activity: open.activity,
            replicas: open.replicas,
            start: open.start,
            end: at,
        });
        self.closed += u64::from(closed.is_some());
        if !replicas.is_empty() {
            self.segment = Some(OpenSegment {
                key: SegmentKey {
                    node: self.node.clone(),
                    boot: BootId::from("boot-1"),
                    log: "log-1".into(),
                    number: self.closed + 1,
                },
                held_for: self.held_for.clone(),
                activity,
                replicas,
                start: at,
                proven_until: at,
            });
        }
        let epoch = self.epoch.unwrap_or_default();
        closed.map(|segment| SegmentBatch { epoch, segments: vec![segment] })
    }

    fn heartbeat(&mut self, now: i64) -> Heartbeat {
        self.number += 1;
        let sent_at = boottime(now);
        let inventory = self.inventory();
        let reading = |gpu: &GpuIdentity| GpuReading {
            uuid: gpu.uuid.clone(),
            memory_used_mib: Some(0),
            memory_reserved_mib: None,
            utilization: Some(0),
            temperature_c: None,
            power_mw: None,
            age_ms: 0,
            trouble: None,
            unread: None,
        };
        Heartbeat {
            protocol: PROTOCOL_VERSION,
            node: self.node.clone(),
            boot: "boot-1".into(),
            nonce: "nonce-1".to_owned(),
            epoch: self.epoch,
            number: self.number,
            persisted: self.desired.version,
            applied: self.desired.version,
            sent_at,
            wall: Timestamp(now),
            inventory_hash: "hash-1".to_owned(),
            health_hash: String::new(),
            health: None,
            readings: inventory.gpus.iter().map(reading).collect(),
            inventory: Some(inventory),
            replicas: self
                .replicas
                .iter()
                .map(|(id, (phase, gpus))| ReplicaReport {
                    replica: *id,
                    phase: *phase,
                    since: sent_at,
                    progress_permille: None,
                    expected_ready_in: None,
                    address: Some(format!("127.0.0.1:{}", 10_000 + id.0)),
                    gpus: gpus.clone(),
                    because: None,
                    hooks: Vec::new(),
                    load: None,
                })
                .collect(),
            gone: self
                .gone
                .iter()
                .map(|id| Gone {
                    replica: *id,
                    ended: Ended::Exited { code: 0 },
                    processes_gone_at: sent_at,
                    memory_back_at: sent_at,
                    memory: Vec::new(),
                })
                .collect(),
            open_segment: self.segment.clone(),
            last_segment: self.closed,
            notices: self.notices.clone(),
            hearing: Vec::new(),
            evacuated: None,
            answer_at_once: false,
        }
    }

    fn hear(&mut self, answer: &HeartbeatAnswer) {
        self.epoch = Some(answer.epoch);
        let Some(desired) = &answer.desired else { return };
        assert!(desired.version > DesiredVersion::default(), "a desired state has a version");
        self.desired = desired.clone();
        self.held_for.clone_from(&desired.held_for);
        for order in &desired.orders {
            if let Order::Run(run) = order {
                let fresh = (ReportedPhase::Fetching, run.gpus.clone());
                if !self.gone.contains(&run.replica) {
                    self.replicas.entry(run.replica).or_insert(fresh);
                }
            }
        }
        let listed: BTreeSet<ReplicaId> = desired.orders.iter().map(Order::replica).collect();
        self.gone.retain(|replica| listed.contains(replica));
    }
}
