//! A made fleet that the benches decide for: nodes of eight GPUs, one organization, and what an
//! agent would say.

use wharfage_scheduler_core::words::command::{access, deployments, nodes};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::{Action, Caller, Command, Controller, Decided, Heard, Policy, Reply};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, ReplicaId};
use wharfage_shared::replica::{Gone, ReplicaReport, ReportedPhase};
use wharfage_shared::segment::{Activity, OpenSegment, SegmentKey, SegmentReplica};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, Generation, PROTOCOL_VERSION, Term};

const SKU: &str = "gd-8xh100ib-i128";

/// The instant at which everything happens.
pub const NOW: Timestamp = Timestamp(1_780_272_000_000);

/// A controller, what of it is published, and its nodes.
#[derive(Clone)]
pub struct BenchFleet {
    pub controller: Controller,
    /// What readers hold: always the last state that was published.
    pub published: Controller,
    pub nodes: Vec<NodeId>,
    numbers: Vec<u64>,
}

impl BenchFleet {
    pub fn new(count: usize) -> Self {
        let controller = Controller::new(Term(1), NOW, Policy::default());
        let published = controller.clone();
        let numbers = vec![0; count];
        let mut fleet = Self { controller, published, nodes: Vec::new(), numbers };
        let acme = access::Action::CreateOrganization { id: "acme".into(), currency: "USD".into() };
        fleet.submit(Action::Access(acme));
        let pool = Pool {
            id: "standard".into(),
            zone: Zone::new("US-EAST-04A"),
            sku: Sku::new(SKU),
            compute_class: ComputeClass::Standard,
            tenancy: Tenancy::Dedicated,
            owner: None,
        };
        fleet.submit(Action::Node(nodes::Action::CreatePool(pool)));
        fleet.submit(Action::Access(access::Action::CreateJoin {
            id: "join".into(),
            admits: access::Admits::Nodes { pool: "standard".into() },
            uses: u32::MAX,
            expires: Timestamp(i64::MAX),
            sha256: "secret".to_owned(),
        }));
        for number in 0..count {
            let node: NodeId = format!("node-{number:05}").as_str().into();
            let (pool, key) = (None, String::new());
            let enroll =
                nodes::Action::Enroll { node: node.clone(), join: "join".into(), pool, key };
            fleet.submit(Action::Node(enroll));
            fleet.nodes.push(node);
            for _ in 0..2 {
                let heartbeat = fleet.heartbeat(number, Vec::new());
                fleet.observe(heartbeat);
            }
        }
        fleet
    }

    pub fn submit(&mut self, action: Action) {
        let command = Command { caller: Caller::provider(), action };
        self.controller.submit(NOW, command).expect("the benchmark's commands are sound");
    }

    pub fn observe(&mut self, heartbeat: Heartbeat) {
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let Decided { answer, .. } = self.controller.observe(NOW, heard);
        assert!(matches!(answer, Reply::Heartbeat(Ok(_))), "a heartbeat is answered");
    }

    /// A copy for readers takes the place of the one before it.
    pub fn publish(&mut self) {
        self.published = self.controller.clone();
    }

    /// What a node's agent would send: its replicas ready, its segment open.
    pub fn heartbeat(&mut self, number: usize, gone: Vec<Gone>) -> Heartbeat {
        let node = self.nodes[number].clone();
        self.numbers[number] += 1;
        let fleet = self.controller.fleet();
        let row = fleet.node(&node).expect("it has enrolled");
        let term = self.controller.term();
        let held: Vec<(ReplicaId, Vec<GpuUuid>)> = fleet
            .replicas_on(&node)
            .filter(|row| !gone.iter().any(|gone| gone.replica == row.id))
            .filter_map(|row| Some((row.id, row.phase.holds()?.gpus.to_vec())))
            .collect();
        let inventory = inventory(number);
        let open_segment = (!held.is_empty()).then(|| OpenSegment {
            key: SegmentKey {
                node: node.clone(),
                boot: "boot".into(),
                log: "log".into(),
                number: 1,
            },
            held_for: None,
            activity: Activity::Serving,
            replicas: Vec::<SegmentReplica>::new(),
            start: Boottime(1),
            proven_until: Boottime(2),
        });
        Heartbeat {
            protocol: PROTOCOL_VERSION,
            node,
            boot: "boot".into(),
            nonce: "nonce".to_owned(),
            epoch: row.start.as_ref().map(|_| Epoch(1)),
            number: self.numbers[number],
            persisted: DesiredVersion { term, generation: Generation(u64::MAX) },
            applied: DesiredVersion { term, generation: Generation(u64::MAX) },
            sent_at: Boottime(1000),
            wall: NOW,
            inventory_hash: "hash".to_owned(),
            health_hash: String::new(),
            health: None,
            readings: inventory.gpus.iter().map(reading).collect(),
            inventory: row.inventory_hash.is_empty().then_some(inventory),
            replicas: held.into_iter().map(|(id, gpus)| ready(id, gpus)).collect(),
            gone,
            open_segment,
            last_segment: 0,
            notices: Vec::new(),
            hearing: Vec::new(),
            evacuated: None,
            answer_at_once: false,
        }
    }
}

/// A UUID as real ones are: of full length and in no order.
fn uuid(number: u64) -> String {
    let mut bits = number;
    let mut next = || {
        bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let (a, b) = (next(), next());
    let (time, mid, high) = (a >> 32, (a >> 16) & 0xffff, a & 0xffff);
    let (clock, node) = (b >> 48, b & 0xffff_ffff_ffff);
    format!("{time:08x}-{mid:04x}-{high:04x}-{clock:04x}-{node:012x}")
}

/// The id of the deployment with this number.
pub fn deployment(number: usize) -> DeploymentId {
    DeploymentId::new(uuid(number as u64))
}

/// Asks for a new deployment.
pub fn create(number: usize, spec: Spec) -> Command {
    let create = deployments::Action::Create {
        id: deployment(number),
        organization: "acme".into(),
        spec: spec.into(),
    };
    Command { caller: Caller::provider(), action: Action::Deployment(create) }
}

fn ready(replica: ReplicaId, gpus: Vec<GpuUuid>) -> ReplicaReport {
    ReplicaReport {
        replica,
        phase: ReportedPhase::Ready,
        since: Boottime(1),
        progress_permille: None,
        expected_ready_in: None,
        address: Some("127.0.0.1:9000".to_owned()),
        gpus,
        because: None,
        hooks: Vec::new(),
        load: None,
    }
}

fn inventory(node: usize) -> Inventory {
    let gpu = |number| {
        let uuid = uuid((1 << 40) + (node * 8 + number) as u64);
        GpuIdentity::whole(GpuUuid::new(format!("GPU-{uuid}")), "H100", 81_559)
    };
    let offer = EngineOffer::of("vllm", ["0.33.0"]);
    Inventory { gpus: (0..8).map(gpu).collect(), engines: [offer].into(), ..Inventory::default() }
}

fn reading(gpu: &GpuIdentity) -> GpuReading {
    GpuReading {
        uuid: gpu.uuid.clone(),
        memory_used_mib: Some(1000),
        memory_reserved_mib: Some(500),
        utilization: Some(50),
        temperature_c: Some(50),
        power_mw: Some(300_000),
        age_ms: 0,
        trouble: None,
        unread: None,
    }
}

/// So many replicas of so many GPUs each.
pub fn spec(number: usize, gpus: u32, replicas: u32) -> Spec {
    let bounds = Bounds::new(replicas, replicas).expect("a fixed count");
    Spec {
        name: format!("deployment-{number}"),
        model: Model { name: "model".into(), bucket: "models".into(), path: "small".into() },
        runtime: Runtime {
            engine: "vllm".to_owned(),
            version: String::new(),
            config: Default::default(),
            env: Default::default(),
        },
        sku: Sku::new(SKU),
        gpus: GpuCount::new(gpus).expect("1, 2, 4 or 8"),
        gateways: Default::default(),
        zone: None,
        disabled: false,
        weight: 0,
        classes: vec![CapacityClass::OnDemand],
        priority: Priority::default(),
        scaling: Scaling::coreweave(bounds, None),
        extension: Extension::default(),
    }
}
