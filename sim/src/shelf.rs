//! A fleet on which the production placement is tried alone: no clocks, no agents, only facts about
//! who takes which GPUs and gives them back.

use std::collections::BTreeMap;

use wharfage_scheduler_core::capacity::ask::Ask;
use wharfage_scheduler_core::policies::consolidation::{self, Full, Within};
use wharfage_scheduler_core::policies::placement;
use wharfage_scheduler_core::words::because::placement::{Placement, Score};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_scheduler_core::words::event::{access, deployment, node, replica};
use wharfage_scheduler_core::words::node::{Health, Pool, Reach};
use wharfage_scheduler_core::words::policy::PlacementPolicy;
use wharfage_scheduler_core::words::replica::{Phase, Seat, Seen};
use wharfage_scheduler_core::{Event, Fleet, Policy};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, PoolId, ReplicaId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, Inventory};
use wharfage_shared::time::{Millis, Timestamp};

use crate::rng::Rng;

const ACME: &str = "acme";
const ZONE: &str = "US-EAST-04A";
const NOW: Timestamp = Timestamp(1_780_272_000_000);

/// How a seat is chosen: the production's two ways, and chance to compare them with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The fullest node with room.
    #[default]
    BestFit,
    /// The emptiest node.
    Spread,
    /// Any node with room.
    Random,
}

impl Choice {
    fn policy(self) -> Policy {
        let placement = match self {
            Choice::BestFit | Choice::Random => PlacementPolicy::BestFit,
            Choice::Spread => PlacementPolicy::Spread,
        };
        Policy { placement, ..Policy::default() }
    }
}

/// The fleet, and what stands on it.
pub struct Shelf {
    fleet: Fleet,
    policy: Policy,
    choice: Choice,
    rng: Rng,
    last: u32,
    /// GPUs that nobody has.
    pub free: u32,
    /// All GPUs.
    pub gpus: u32,
}

impl Shelf {
    /// So many nodes of each kind: the type's name and its GPUs.
    pub fn new(nodes: &[(Sku, u8)], choice: Choice, seed: u64) -> Self {
        let mut shelf = Self {
            fleet: Fleet::default(),
            policy: choice.policy(),
            choice,
            rng: Rng::new(seed),
            last: 0,
            free: 0,
            gpus: 0,
        };
        shelf.apply(Event::Access(access::Event::OrganizationCreated {
            organization: ACME.into(),
            currency: "USD".to_owned(),
            at: NOW,
        }));
        let mut pools: BTreeMap<Sku, PoolId> = BTreeMap::new();
        for (number, (sku, gpus)) in nodes.iter().enumerate() {
            if !pools.contains_key(sku) {
                let id = PoolId::new(sku.to_string());
                let pool = Pool {
                    id: id.clone(),
                    zone: Zone::new(ZONE),
                    sku: sku.clone(),
                    compute_class: ComputeClass::Standard,
                    tenancy: Tenancy::Dedicated,
                    owner: None,
                };
                shelf.apply(Event::Node(node::Event::PoolCreated { pool }));
                pools.insert(sku.clone(), id);
            }
            shelf.join(number, &pools[sku], *gpus);
        }
        shelf.free = shelf.gpus;
        shelf
    }

    fn join(&mut self, number: usize, pool: &PoolId, gpus: u8) {
        let node = NodeId::new(format!("node-{number:06}"));
        let gpu =
            |at| GpuIdentity::whole(format!("GPU-{number}-{at}").as_str().into(), "GPU", 81_559);
        let offer = EngineOffer::of("vllm", ["0.33.0"]);
        let inventory = Inventory {
            gpus: (0..gpus).map(gpu).collect(),
            engines: [offer].into(),
            ..Inventory::default()
        };
        let (hash, key) = ("hash".to_owned(), String::new());
        let events = [
            node::Event::Enrolled {
                node: node.clone(),
                pool: pool.clone(),
                join: "join".into(),
                key,
                at: NOW,
            },
            node::Event::InventoryReported {
                node: node.clone(),
                hash,
                inventory: Box::new(inventory),
            },
            node::Event::HealthChanged { node: node.clone(), health: Health::Fit, at: NOW },
            node::Event::ReachChanged { node, reach: Reach::Connected, at: NOW },
        ];
        for event in events {
            self.apply(Event::Node(event));
        }
        self.gpus += u32::from(gpus);
    }

    fn apply(&mut self, event: Event) {
        self.fleet.apply(&event);
    }

    /// Somebody asks for GPUs of one of these types; its name while it stands, if it was placed,
    /// and the moves that it took.
    pub fn ask(&mut self, gpus: u8, types: &[Sku], most: usize) -> Option<(DeploymentId, usize)> {
        self.last += 1;
        let id = DeploymentId::new(format!("ask-{}", self.last));
        let mut seats = Vec::new();
        for sku in types {
            self.create(&id, sku, gpus);
            let of = self.fleet.deployment(&id).expect("it was just created");
            let ask = Ask { gpus, ..Ask::of(&self.fleet, of) };
            match self.seat(&ask, &id) {
                Some((score, seat)) => seats.push((score, ask, seat)),
                None if most > 0 => {
                    if let Some(moves) = self.consolidate(&ask, &id, most) {
                        let (_, seat) = self.seat(&ask, &id)?;
                        self.take(&id, &ask, seat);
                        return Some((id, moves));
                    }
                }
                None => {}
            }
        }
        let best = seats.into_iter().min_by(|a, b| a.0.cmp(&b.0));
        let Some((_, ask, seat)) = best else {
            self.apply(Event::Deployment(deployment::Event::Removed { deployment: id }));
            return None;
        };
        self.create(&id, &ask.sku, gpus);
        self.take(&id, &ask, seat);
        Some((id, 0))
    }

    fn create(&mut self, id: &DeploymentId, sku: &Sku, gpus: u8) {
        self.apply(Event::Deployment(deployment::Event::Created {
            deployment: id.clone(),
            organization: ACME.into(),
            spec: spec(id, sku, gpus).into(),
            at: NOW,
        }));
    }

    /// The seat that is chosen, with what ranks it among the types.
    fn seat(&mut self, ask: &Ask, id: &DeploymentId) -> Option<(Score, Seat)> {
        let of = self.fleet.deployment(id)?;
        if self.choice != Choice::Random {
            let decision = placement::decide(&self.fleet, &self.policy, of, ask).ok()?;
            return Some((decision.because.score.clone(), decision.seat));
        }
        let feasible = placement::scan(&self.fleet, &self.policy, of, ask);
        let feasible: Vec<_> = feasible.filter_map(|(_, verdict)| verdict.ok()).collect();
        let score = self.rng.pick(&feasible)?.clone();
        let seat = self.free_seat(&score.node, ask.gpus)?;
        Some((score, seat))
    }

    fn free_seat(&self, node: &NodeId, gpus: u8) -> Option<Seat> {
        let row = self.fleet.node(node)?;
        let free = row.slots.iter().filter(|slot| slot.is_usable());
        let gpus = free.take(gpus.into()).map(|slot| slot.gpu.clone()).collect();
        Some(Seat::alone(node.clone(), gpus))
    }

    fn consolidate(&mut self, ask: &Ask, id: &DeploymentId, most: usize) -> Option<usize> {
        let of = self.fleet.deployment(id)?;
        let full = Full::of(&self.fleet);
        let within = Within { most, despite_owners: false, full: &full };
        let plan = consolidation::decide(&self.fleet, &self.policy, of, ask, within, NOW)?;
        for step in &plan.moves {
            let row = self.fleet.replica(step.replica)?;
            let gpus = row.phase.seat().map_or(0, |seat| seat.gpus.len());
            let (of, gpus) = (row.deployment.clone(), u8::try_from(gpus).ok()?);
            let seat = self.free_seat(&step.to, gpus)?;
            let sku = self.fleet.deployment(&of)?.spec.sku.clone();
            let ask = Ask { gpus, sku, ..ask.clone() };
            self.take(&of, &ask, seat);
            self.give_back(step.replica);
        }
        Some(plan.moves.len())
    }

    fn take(&mut self, id: &DeploymentId, ask: &Ask, seat: Seat) {
        self.last += 1;
        let replica = ReplicaId(self.last);
        let node = seat.node.clone();
        let organization = OrganizationId::from(ACME);
        if self.fleet.node(&node).is_some_and(|row| row.held_for.is_none()) {
            let compute_class = ComputeClass::Standard;
            let held_for = Some(HeldFor { organization, claim: None, compute_class });
            self.apply(Event::Node(node::Event::Held { node, held_for, at: NOW }));
        }
        self.free -= u32::from(ask.gpus);
        let (deployment, revision) = (id.clone(), 1);
        let events = [
            replica::Event::Created { replica, deployment, revision, at: NOW },
            replica::Event::Placed {
                replica,
                because: self.because(&seat).into(),
                seat,
                engine_version: "".into(),
                start_deadline: Millis(0),
                at: NOW,
            },
            replica::Event::Seen {
                replica,
                seen: Seen {
                    phase: ReportedPhase::Ready,
                    since: NOW,
                    address: None,
                    because: None,
                },
            },
        ];
        for event in events {
            self.apply(Event::Replica(event));
        }
    }

    fn because(&self, seat: &Seat) -> Placement {
        let score = Score {
            class: 0,
            lends: false,
            breaks_whole_node: false,
            crowding: 0,
            gpus_left: 0,
            opens_node: false,
            seconds_to_ready: 0,
            siblings: 0,
            node: seat.node.clone(),
        };
        Placement { class: CapacityClass::OnDemand, score, sentence: "".into() }
    }

    /// Whoever stands under this name goes.
    pub fn leave(&mut self, id: &DeploymentId) {
        let replicas: Vec<ReplicaId> = self.fleet.replicas_of(id).map(|row| row.id).collect();
        for replica in replicas {
            self.give_back(replica);
        }
        let deployment = id.clone();
        self.apply(Event::Deployment(deployment::Event::Removed { deployment }));
    }

    fn give_back(&mut self, replica: ReplicaId) {
        let Some(row) = self.fleet.replica(replica) else { return };
        let Phase::Placed { seat, .. } = &row.phase else { return };
        let node = seat.node.clone();
        self.free += seat.gpus.len() as u32;
        self.apply(Event::Replica(replica::Event::Gone {
            replica,
            because: wharfage_shared::order::StopCause::ScaledDown,
            ended: Ended::Exited { code: 0 },
            at: NOW,
        }));
        if self.fleet.node(&node).is_some_and(|row| row.replicas.is_empty()) {
            self.apply(Event::Node(node::Event::Held { node, held_for: None, at: NOW }));
        }
    }
}

/// A trace may ask for counts that no deployment has: the ask is told those apart.
fn spec(id: &DeploymentId, sku: &Sku, gpus: u8) -> Spec {
    let bounds = Bounds::new(1, 1).expect("one");
    Spec {
        name: id.to_string(),
        model: Model { name: "model".into(), bucket: "models".into(), path: "small".into() },
        runtime: Runtime {
            engine: "vllm".to_owned(),
            version: String::new(),
            config: BTreeMap::new(),
            env: BTreeMap::new(),
        },
        sku: sku.clone(),
        gpus: GpuCount::new(gpus.into()).or(GpuCount::new(1)).expect("one is allowed"),
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
