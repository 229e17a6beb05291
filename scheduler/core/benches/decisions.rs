//! Figures P1 and P3: placements a second in the core with the view published each time, and the
//! cost of a steady heartbeat. Prints a table; arguments name the fleet sizes.
//!
//! Every time is CPU time of the one thread that decides, so that other work on the machine does
//! not count.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wharfage_scheduler_core::capacity::ask::Ask;
use wharfage_scheduler_core::policies::preemption;
use wharfage_scheduler_core::words::command::{access, deployments, nodes};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{
    Action, Caller, Command, Controller, Decided, Event, Heard, Policy, PriorityScope, Reply,
    explain,
};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, ReplicaId};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::replica::{Ended, Gone, ReplicaReport, ReportedPhase};
use wharfage_shared::segment::{Activity, OpenSegment, SegmentKey, SegmentReplica};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, Generation, PROTOCOL_VERSION, Term};

const SKU: &str = "gd-8xh100ib-i128";
const NOW: Timestamp = Timestamp(1_780_272_000_000);

fn main() {
    let sizes = std::env::args().filter_map(|argument| argument.parse().ok());
    let mut sizes: Vec<usize> = sizes.collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000];
    }
    println!("times are CPU times of one thread; a second = a CPU second");
    let heads = ["what", "nodes", "a second", "mean us", "p50 us", "p99 us"];
    let [what, nodes, rate, mean, p50, p99] = heads;
    println!("{what:<44} {nodes:>8} {rate:>12} {mean:>10} {p50:>10} {p99:>10}");
    let mut before: Option<(usize, f64)> = None;
    for nodes in sizes {
        let mean = measure(nodes);
        if let Some((fewer, then)) = before {
            let growth = mean / then;
            println!("one placement costs {growth:.2} times as much as at {fewer} nodes");
        }
        before = Some((nodes, mean));
    }
}

/// The mean of one placement, in microseconds.
fn measure(nodes: usize) -> f64 {
    let mut fleet = BenchFleet::new(nodes);
    let mut filling = Vec::new();
    // Asks of 1, 2, 4 and 8 GPUs until nine tenths of the fleet are taken.
    let mut gpus = 0;
    let mut number = 0;
    while gpus < nodes * 8 * 9 / 10 {
        let ask = [1, 2, 4, 8][number % 4];
        filling.push(fleet.place(number, ask));
        gpus += ask as usize;
        number += 1;
    }
    let mean = report("create, place, publish, one by one", nodes, &mut filling);
    let batch = 100;
    let mut batches = Vec::new();
    while batches.len() * batch * 2 < nodes {
        batches.push(fleet.place_many(number, batch as u32) / batch as u32);
        number += 1;
    }
    report("placements of 100 in one record, each", nodes, &mut batches);
    // Whole nodes until nothing fits any more; then each freed node is given to the next.
    fleet.place(number, 8);
    while fleet.is_placed(number) {
        number += 1;
        fleet.place(number, 8);
    }
    let mut refilling = Vec::new();
    for turn in 0..500 {
        number += 1;
        fleet.place(number, 8);
        refilling.extend(fleet.free_one(turn));
    }
    report("placement on a full fleet, 8 GPUs freed", nodes, &mut refilling);
    let mut steady = fleet.steady_heartbeats(20_000);
    report("steady heartbeat, 8 GPUs and 8 replicas", nodes, &mut steady);
    report("preemption, everybody above min", nodes, &mut fleet.preemptions(number, 0));
    report("preemption, nobody above min", nodes, &mut fleet.preemptions(number, 1));
    report("tick with nothing to do", nodes, &mut fleet.idle_ticks());
    report("why it waits, rendered", nodes, &mut fleet.explanations(number));
    let mut noticed = fleet.notices(nodes.min(1000));
    let sum: Duration = noticed.iter().sum();
    report("a node is noticed on a full fleet", nodes, &mut noticed);
    println!("{} nodes noticed at once: {:.1} ms in all", noticed.len(), sum.as_secs_f64() * 1e3);
    mean
}

/// Prints a row; the mean in microseconds.
fn report(what: &str, nodes: usize, took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    let sum: Duration = took.iter().sum();
    let rate = took.len() as f64 / sum.as_secs_f64();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1000].as_nanos() as f64 / 1000.0;
    let (mean, p50, p99) = (1_000_000.0 / rate, at(500), at(990));
    println!("{what:<44} {nodes:>8} {rate:>12.0} {mean:>10.1} {p50:>10.1} {p99:>10.1}");
    mean
}

/// CPU time of this thread at one moment.
struct CpuTime(Duration);

impl CpuTime {
    fn now() -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Self(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

struct BenchFleet {
    controller: Controller,
    nodes: Vec<NodeId>,
    numbers: Vec<u64>,
}

impl BenchFleet {
    fn new(count: usize) -> Self {
        let controller = Controller::new(Term(1), NOW, Policy::default());
        let mut fleet = Self { controller, nodes: Vec::new(), numbers: vec![0; count] };
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

    fn submit(&mut self, action: Action) {
        let command = Command { caller: Caller::provider(), action };
        self.controller.submit(NOW, command).expect("the benchmark's commands are sound");
    }

    fn observe(&mut self, heartbeat: Heartbeat) {
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let Decided { answer, .. } = self.controller.observe(NOW, heard);
        assert!(matches!(answer, Reply::Heartbeat(Ok(_))), "a heartbeat is answered");
    }

    /// A new deployment of one replica, decided and published.
    fn place(&mut self, number: usize, gpus: u32) -> Duration {
        self.create(number, spec(number, gpus, 1))
    }

    /// A new deployment of several replicas of one GPU, decided and published at once.
    fn place_many(&mut self, number: usize, replicas: u32) -> Duration {
        self.create(number, spec(number, 1, replicas))
    }

    fn create(&mut self, number: usize, spec: Spec) -> Duration {
        let create = deployments::Action::Create {
            id: format!("deployment-{number}").as_str().into(),
            organization: "acme".into(),
            spec: Box::new(spec),
        };
        let action = Action::Deployment(create);
        let command = Command { caller: Caller::provider(), action };
        let begun = CpuTime::now();
        let decided = self.controller.submit(NOW, command);
        let view = self.controller.fleet().clone();
        let took = begun.elapsed();
        decided.expect("the benchmark's commands are sound");
        drop(view);
        took
    }

    fn is_placed(&self, number: usize) -> bool {
        let id = format!("deployment-{number}").as_str().into();
        let fleet = self.controller.fleet();
        fleet.replicas_of(&id).all(|replica| replica.phase.holds().is_some())
    }

    /// One whole-node replica is reported gone: what waits takes its place.
    fn free_one(&mut self, turn: usize) -> Option<Duration> {
        let fleet = self.controller.fleet().clone();
        let mut whole = fleet.replicas().filter(|row| match &row.phase {
            Phase::Placed { seat, .. } => seat.gpus.len() == 8,
            _ => false,
        });
        let row = whole.nth(turn)?;
        let (replica, node) = (row.id, row.node()?.clone());
        let number = self.nodes.iter().position(|known| *known == node)?;
        let deployment = row.deployment.clone();
        self.submit(Action::Deployment(deployments::Action::Delete { id: deployment }));
        let gone = Gone {
            replica,
            ended: Ended::Exited { code: 0 },
            processes_gone_at: Boottime(1),
            memory_back_at: Boottime(1),
            memory: Vec::new(),
        };
        let heartbeat = self.heartbeat(number, vec![gone]);
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let begun = CpuTime::now();
        let decided = self.controller.observe(NOW, heard);
        let view = self.controller.fleet().clone();
        let took = begun.elapsed();
        assert!(!decided.events.is_empty(), "the freed node is given to the next");
        drop(view);
        Some(took)
    }

    fn steady_heartbeats(&mut self, count: usize) -> Vec<Duration> {
        for number in 0..self.nodes.len() {
            let heartbeat = self.heartbeat(number, Vec::new());
            self.observe(heartbeat);
        }
        let mut took = Vec::with_capacity(count);
        for turn in 0..count {
            let number = turn % self.nodes.len();
            let heartbeat = self.heartbeat(number, Vec::new());
            let heard = Heard::Heartbeat(Box::new(heartbeat));
            let begun = CpuTime::now();
            let decided = self.controller.observe(NOW, heard);
            took.push(begun.elapsed());
            assert_eq!(decided.events, Vec::new(), "a steady heartbeat is no fact");
        }
        took
    }

    /// A higher priority looks for victims where every deployment has this `min`.
    fn preemptions(&self, number: usize, min: u32) -> Vec<Duration> {
        let mut fleet = self.controller.fleet().clone();
        let ids: Vec<DeploymentId> = fleet.deployments().map(|row| row.id.clone()).collect();
        for deployment in ids {
            let most = fleet.deployment(&deployment).map_or(1, |row| row.desired.max(1));
            let bounds = Bounds::new(min * most, most).expect("in order");
            let scaling = Scaling::coreweave(bounds, None);
            let changed =
                event::deployment::Event::SettingsChanged { deployment, scaling, at: NOW };
            fleet.apply(&Event::Deployment(changed));
        }
        let mut took = Vec::new();
        for turn in 0..500 {
            let mut spec = spec(number + turn, [1, 2, 4, 8][turn % 4], 1);
            spec.priority = Priority::new(900).expect("in range");
            let id: DeploymentId = format!("high-{turn}").as_str().into();
            let (deployment, spec) = (id.clone(), Box::new(spec));
            let organization = "acme".into();
            fleet.apply(&Event::Deployment(event::deployment::Event::Created {
                deployment,
                organization,
                spec,
                at: NOW,
            }));
            let row = fleet.deployment(&id).expect("it was created");
            let ask = Ask::of(&fleet, row);
            let begun = CpuTime::now();
            let decision = preemption::decide(&fleet, PriorityScope::Organization, row, &ask);
            took.push(begun.elapsed());
            assert_eq!(decision.is_some(), min == 0, "who is above min has to go");
        }
        took
    }

    fn idle_ticks(&mut self) -> Vec<Duration> {
        self.controller.tick(NOW);
        let tick = |_| {
            let begun = CpuTime::now();
            let decided = self.controller.tick(NOW);
            let took = begun.elapsed();
            assert_eq!(decided.events, Vec::new(), "nothing was due");
            took
        };
        (0..500).map(tick).collect()
    }

    fn explanations(&self, number: usize) -> Vec<Duration> {
        let id = format!("deployment-{number}").as_str().into();
        let fleet = self.controller.fleet();
        let waits = fleet.replicas_of(&id).next().expect("the last one waits").id;
        let explain = |_| {
            let begun = CpuTime::now();
            let why = explain::replica(fleet, self.controller.policy(), waits, NOW);
            let text = serde_json::to_string(&why).expect("an explanation is JSON");
            let took = begun.elapsed();
            assert!(text.contains("not enough free GPUs"), "every node is full");
            took
        };
        (0..20).map(explain).collect()
    }

    /// So many nodes report a notice, one after another.
    fn notices(&mut self, count: usize) -> Vec<Duration> {
        let mut took = Vec::with_capacity(count);
        for number in 0..count {
            let mut heartbeat = self.heartbeat(number, Vec::new());
            heartbeat.notices.push(Notice {
                id: format!("notice-{number}").as_str().into(),
                kind: NoticeKind::Preempt,
                source: NoticeSource::File,
                leaves: Leaves::Node,
                heard_at: Boottime(1000),
                gone_at: Boottime(121_000),
                certainty: Certainty::Certain,
                can_acknowledge: false,
                can_be_withdrawn: true,
            });
            let heard = Heard::Heartbeat(Box::new(heartbeat));
            let begun = CpuTime::now();
            let decided = self.controller.observe(NOW, heard);
            took.push(begun.elapsed());
            assert!(!decided.events.is_empty(), "a notice is a fact");
        }
        took
    }

    /// What a node's agent would send: its replicas ready, its segment open.
    fn heartbeat(&mut self, number: usize, gone: Vec<Gone>) -> Heartbeat {
        let node = self.nodes[number].clone();
        self.numbers[number] += 1;
        let fleet = self.controller.fleet();
        let row = fleet.node(&node).expect("it has enrolled");
        let term = self.controller.term();
        let held: Vec<(ReplicaId, Vec<GpuUuid>)> = fleet
            .replicas_on(&node)
            .filter(|row| !gone.iter().any(|gone| gone.replica == row.id))
            .filter_map(|row| Some((row.id, row.phase.holds()?.gpus.clone())))
            .collect();
        let inventory = inventory(&node);
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
            answer_at_once: false,
        }
    }
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

fn inventory(node: &NodeId) -> Inventory {
    let gpu = |number| GpuIdentity {
        uuid: format!("GPU-{node}-{number}").as_str().into(),
        name: "H100".to_owned(),
        memory_mib: 81_559,
        pci: None,
        serial: None,
    };
    let offer = EngineOffer {
        name: "vllm".to_owned(),
        versions: vec!["0.33.0".to_owned()],
        flags: Vec::new(),
        env: Vec::new(),
    };
    Inventory { gpus: (0..8).map(gpu).collect(), engines: vec![offer], ..Inventory::default() }
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
    }
}

fn spec(number: usize, gpus: u32, replicas: u32) -> Spec {
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
