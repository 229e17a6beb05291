//! A node with eight GPUs and an engine, and deployments that fit it.

use wharfage_scheduler_core::words::command::{Action, access, deployments};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_shared::capacity::{ComputeClass, Sku};
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Desired, HeldFor, Order};
use wharfage_shared::replica::{ReplicaReport, ReportedPhase};
use wharfage_shared::segment::{Activity, OpenSegment, Segment, SegmentKey, SegmentReplica};
use wharfage_shared::telemetry::EngineOffer;

use crate::machine::{Machine, Scheduler, boottime, heartbeat, inventory, readings};

/// The organization of the deployments.
pub async fn tenant(scheduler: &Scheduler) {
    let (id, currency) = ("acme".into(), "USD".to_owned());
    scheduler.provider(Action::Access(access::Action::CreateOrganization { id, currency })).await;
}

/// A deployment of so many replicas with one GPU each.
pub fn deployment(id: &str, replicas: u32) -> Action {
    let spec = Spec {
        name: id.to_owned(),
        model: Model {
            name: "model-1".to_owned(),
            bucket: "models".to_owned(),
            path: "model-1".to_owned(),
        },
        runtime: Runtime {
            engine: "vllm".to_owned(),
            version: "1.0.0".to_owned(),
            config: Default::default(),
            env: Default::default(),
        },
        sku: Sku::new("gd-8xh100ib-i128"),
        gpus: GpuCount::new(1).expect("one is a count"),
        gateways: Default::default(),
        zone: None,
        disabled: false,
        weight: 100,
        classes: Vec::new(),
        priority: Priority::default(),
        scaling: Scaling::coreweave(Bounds::new(replicas, replicas).expect("bounds"), None),
        extension: Extension::default(),
    };
    let (id, organization) = (id.into(), "acme".into());
    Action::Deployment(deployments::Action::Create { id, organization, spec: spec.into() })
}

/// The end of one replica by an operator's word; it is replaced.
pub fn terminate(replica: ReplicaId) -> Action {
    Action::Deployment(deployments::Action::Terminate { replica })
}

/// Introduces a node that is fit and offers the engine; its heartbeat from then on.
pub async fn introduce(machine: &Machine) -> Heartbeat {
    let mut beat = heartbeat(&machine.name);
    beat.epoch = Some(machine.beat(&beat).await.expect("an epoch").epoch);
    let mut full = inventory(&machine.name);
    let offer = EngineOffer {
        name: "vllm".to_owned(),
        versions: vec!["1.0.0".to_owned()],
        flags: Vec::new(),
        env: Vec::new(),
        gangs: Vec::new(),
    };
    full.engines = [offer].into();
    beat.inventory = Some(full);
    beat.readings = readings(&machine.name);
    machine.next(&mut beat).await;
    beat.inventory = None;
    settle(machine, &mut beat).await;
    beat
}

/// Beats until the node has what the scheduler wants; what it is to run is ready at once.
pub async fn settle(machine: &Machine, beat: &mut Heartbeat) {
    while let Some(desired) = machine.next(beat).await.desired {
        adopt(beat, &desired);
    }
}

/// The heartbeat of a node that does what it was told.
pub fn adopt(beat: &mut Heartbeat, desired: &Desired) {
    (beat.persisted, beat.applied) = (desired.version, desired.version);
    let ready = |order: &Order| match order {
        Order::Run(run) => Some(ReplicaReport {
            replica: run.replica,
            phase: ReportedPhase::Ready,
            since: boottime(),
            progress_permille: None,
            expected_ready_in: None,
            address: Some("127.0.0.1:9".to_owned()),
            gpus: run.gpus.clone(),
            because: None,
            hooks: Vec::new(),
            load: None,
        }),
        Order::Stop(_) => None,
    };
    beat.replicas = desired.orders.iter().filter_map(ready).collect();
}

/// A node's first segment, open until now.
pub fn open_segment(beat: &Heartbeat, number: u64) -> OpenSegment {
    let key = SegmentKey {
        node: beat.node.clone(),
        boot: beat.boot.clone(),
        log: "segments-1".into(),
        number,
    };
    let held_for =
        HeldFor { organization: "acme".into(), claim: None, compute_class: ComputeClass::Standard };
    let replica = |report: &ReplicaReport| SegmentReplica {
        replica: report.replica,
        gpus: report.gpus.clone(),
    };
    OpenSegment {
        key,
        held_for: Some(held_for),
        activity: Activity::Serving,
        replicas: beat.replicas.iter().map(replica).collect(),
        start: beat.sent_at,
        proven_until: boottime(),
    }
}

/// The same segment, closed.
pub fn closed(open: &OpenSegment, beat: &Heartbeat) -> Segment {
    Segment {
        key: open.key.clone(),
        epoch: beat.epoch.expect("an epoch"),
        held_for: open.held_for.clone(),
        activity: open.activity,
        replicas: open.replicas.clone(),
        start: open.start,
        end: boottime(),
    }
}
