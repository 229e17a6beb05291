//! A recorded zone of spot instances, lived through by the production cores: how much of a
//! deployment served, how much work was lost and what it cost, for several ways to take a
//! preemption.
//!
//! Every instance of the record is a host that joins and is taken away with the cloud's notice;
//! beside them stand as many on-demand hosts as the deployment has replicas.

mod series;

use serde::Serialize;
use wharfage_scheduler_core::Policy;
use wharfage_scheduler_core::meter;
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Zone};
use wharfage_shared::ids::{DeploymentId, HookId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use crate::Violation;
use crate::sheet::furnish;
use crate::sheet::statement::Deploy;
use crate::world::{ACME, Plan, PlannedHost, World};
use series::Instance;
pub use series::Series;

/// How far ahead the cloud tells (AWS: two minutes).
const WINDOW: Millis = Millis::from_seconds(120);
/// What a cloud that ends the engines at once leaves them.
const AT_ONCE: Millis = Millis::from_seconds(2);
/// How often it is looked at who serves.
const LOOK: Millis = Millis::from_seconds(10);

/// How a preemption is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The notice is heard, the replacement begins at once, the checkpoint hook runs, traffic
    /// drains.
    Wharfage,
    /// The same without a checkpoint.
    DrainOnly,
    /// The notice is heard and the engines are ended at once.
    KillAtOnce,
    /// Nobody listens: the host is gone at the deadline.
    Unheard,
    /// No spot at all.
    OnDemandOnly,
}

impl Way {
    /// All of them, in the order of a table.
    pub const ALL: [Self; 5] =
        [Self::Wharfage, Self::DrainOnly, Self::KillAtOnce, Self::Unheard, Self::OnDemandOnly];
}

/// What is lived through.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How a preemption is taken.
    pub way: Way,
    /// Replicas of the deployment, one a host.
    pub replicas: u32,
    /// At most so much of the record.
    pub length: Millis,
    /// How long a start takes.
    pub load: Millis,
    /// How long a checkpoint takes.
    pub checkpoint: Millis,
    /// Decides which instance goes.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// How preemptions were taken.
    pub way: Way,
    /// Virtual time.
    pub length: Millis,
    /// Spot instances that were taken away.
    pub preempted: usize,
    /// The share of the wanted replicas that served, over all the time.
    pub available: f64,
    /// The work that was lost: time that engines had served since their last whole checkpoint.
    pub lost: Millis,
    /// What was charged, in hundredths of the currency.
    pub cost: i128,
    /// Rules that were broken.
    #[serde(skip)]
    pub violations: Vec<Violation>,
}

/// Lives through a record.
pub fn run(series: &Series, settings: &Settings) -> Outcome {
    let length = series.length(settings.length);
    let instances = match settings.way {
        Way::OnDemandOnly => Vec::new(),
        Way::Wharfage | Way::DrainOnly | Way::KillAtOnce | Way::Unheard => {
            series.instances(length, settings.seed)
        }
    };
    let mut life = Life::begin(settings, &instances);
    let end = life.world.zero + length;
    for (at, host) in life.preemptions(&instances, length) {
        life.live_until(at.min(end));
        life.preempt(host);
    }
    life.live_until(end);
    life.outcome(length, instances.iter().filter(|of| of.to < length).count())
}

struct Life<'a> {
    settings: &'a Settings,
    world: World,
    looks: u64,
    served: u64,
}

impl<'a> Life<'a> {
    fn begin(settings: &'a Settings, instances: &[Instance]) -> Self {
        let host = PlannedHost {
            sku: Sku::new("gd-8xh100ib-i128"),
            zone: Zone::new("US-EAST-04A"),
            compute_class: ComputeClass::Standard,
            joins_after: Millis(0),
            drift_ppm: 0,
            shared_disk: false,
        };
        let spot = instances.iter().map(|of| PlannedHost {
            compute_class: ComputeClass::Spot,
            joins_after: of.from,
            ..host.clone()
        });
        let standard = vec![host.clone(); settings.replicas as usize];
        let saves = settings.way == Way::Wharfage && settings.checkpoint > Millis(0);
        let hook = saves.then(|| HookId::from("checkpoint"));
        let mut world = World::make(Plan {
            seed: settings.seed,
            hosts: spot.chain(standard).collect(),
            organizations: vec![ACME.into()],
            gateways: 1,
            hooks: hook.iter().map(|id| (id.clone(), settings.checkpoint)).collect(),
            keeps_lines: false,
            policy: Policy::default(),
        });
        let hooks: Vec<_> = hook.into_iter().map(|id| (HookKind::Checkpoint, id)).collect();
        furnish(&mut world, &deployment(settings), &hooks);
        Self { settings, world, looks: 0, served: 0 }
    }

    /// When which host hears that it is taken away, in order.
    fn preemptions(&self, instances: &[Instance], length: Millis) -> Vec<(Millis, usize)> {
        // Who hears nothing is there until the deadline; what is recorded is when it went.
        let ahead = if self.settings.way == Way::Unheard { Millis(0) } else { WINDOW };
        let taken = instances.iter().enumerate().filter(|(_, of)| of.to < length);
        let mut all: Vec<_> = taken
            .map(|(host, of)| (self.world.zero + (of.to - ahead.min(of.to)).max(of.from), host))
            .collect();
        all.sort_unstable();
        all
    }

    fn preempt(&mut self, host: usize) {
        let (stage, hosts) = (&mut self.world.stage, &mut self.world.hosts);
        let Some(host) = hosts.get_mut(host) else { return };
        match self.settings.way {
            Way::Wharfage | Way::DrainOnly => host.notice(stage, WINDOW, Leaves::Node),
            Way::KillAtOnce => host.notice(stage, AT_ONCE, Leaves::Node),
            Way::Unheard => host.power_off(stage, "the host is taken away"),
            Way::OnDemandOnly => {}
        }
    }

    fn live_until(&mut self, until: Millis) {
        while self.world.stage.now < until && self.world.violations().is_empty() {
            let next = self.world.zero + Millis(LOOK.0 * (self.looks + 1));
            if next > until {
                return self.world.run_until(until);
            }
            self.world.run_until(next);
            self.looks += 1;
            let now = self.world.stage.now;
            let processes = self.world.hosts.iter().flat_map(|host| host.processes.values());
            let serving = processes.filter(|process| process.serves(now)).count() as u64;
            self.served += serving.min(u64::from(self.settings.replicas));
        }
    }

    fn outcome(mut self, length: Millis, preempted: usize) -> Outcome {
        let (stage, zero) = (&mut self.world.stage, crate::stage::BEGINNING + self.world.zero);
        let draft = meter::draft(self.world.scheduler.fleet(), &ACME.into(), zero, stage.wall());
        let cost = match draft {
            Ok(draft) => draft.total.units(),
            Err(error) => {
                stage.broken("S5", format!("no bill can be made: {error}"));
                0
            }
        };
        let asked = self.looks * u64::from(self.settings.replicas);
        let lost = self.world.hosts.iter().map(|host| host.lost_work.0).sum();
        Outcome {
            way: self.settings.way,
            length,
            preempted,
            available: self.served as f64 / asked.max(1) as f64,
            lost: Millis(lost),
            cost,
            violations: self.world.violations().to_vec(),
        }
    }
}

fn deployment(settings: &Settings) -> Deploy {
    let classes = match settings.way {
        Way::OnDemandOnly => vec![CapacityClass::OnDemand],
        Way::Wharfage | Way::DrainOnly | Way::KillAtOnce | Way::Unheard => {
            vec![CapacityClass::Spot, CapacityClass::OnDemand]
        }
    };
    Deploy {
        name: DeploymentId::from("batch"),
        gpus: 8,
        min: settings.replicas,
        max: None,
        priority: 0,
        concurrency: 8,
        classes,
        load: settings.load,
        checkpoint: settings.checkpoint,
        drain: Millis(0),
        sku: None,
        zone: None,
        organization: ACME.into(),
        single_copy: false,
    }
}
