//! The world: hosts, gateways, one scheduler, and the time in which they live. Everything that
//! happens is decided by the seed.

use std::collections::BTreeMap;

use wharfage_agent_core::Config;
use wharfage_scheduler_core::words::catalogue::instance_type;
use wharfage_scheduler_core::words::command::{self, Action, Command, access, nodes};
use wharfage_scheduler_core::words::contract::Price;
use wharfage_scheduler_core::words::gateway::{Auth, Spec as GatewaySpec};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::words::principal::PROVIDER;
use wharfage_scheduler_core::{Answer, Caller, Fleet, Policy, Refusal};
use wharfage_shared::capacity::{ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::gateway::Routing;
use wharfage_shared::ids::{
    DeploymentId, GatewayId, GpuUuid, HookId, JoinId, NodeId, OrganizationId, PoolId,
};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, Inventory};
use wharfage_shared::time::{Millis, Timestamp};

use crate::checks::{ends, meter};
use crate::gateway::Gateway;
use crate::host::{Host, Make};
use crate::scheduler::Scheduler;
use crate::stage::{AtHost, Happening, Stage, Violation};

/// The organization of a sheet that names none.
pub(crate) const ACME: &str = "acme";

/// The engine that every simulated host offers.
pub(crate) const ENGINE: &str = "vllm";

/// Before a sheet's zero: time for hosts to join and qualify.
const BEFORE_ZERO: Millis = Millis::from_seconds(10);

/// So many things at one instant are a world that does not go on.
const MOST_AT_ONCE: u32 = 200_000;

/// GPUs of an instance whose type is not listed.
const USUAL_GPUS: u8 = 8;

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub hosts: Vec<PlannedHost>,
    pub organizations: Vec<OrganizationId>,
    pub gateways: usize,
    pub hooks: BTreeMap<HookId, Millis>,
    pub keeps_lines: bool,
    pub policy: Policy,
}

/// One host of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedHost {
    pub sku: Sku,
    pub zone: Zone,
    pub compute_class: ComputeClass,
    pub joins_after: Millis,
    pub drift_ppm: i64,
    /// Its disk carries one checkpoint at a time.
    pub shared_disk: bool,
}

/// The world.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub stage: Stage,
    pub hosts: Vec<Host>,
    names: BTreeMap<NodeId, usize>,
    pub scheduler: Scheduler,
    pub gateways: Vec<Gateway>,
    /// The instant that a sheet calls 0s.
    pub zero: Millis,
    at_once: (Millis, u32),
}

impl World {
    /// A world whose nodes without a delay are connected and fit, at its zero.
    pub fn make(plan: Plan) -> Self {
        let mut stage = Stage::new(plan.seed, plan.keeps_lines);
        stage.hooks.clone_from(&plan.hooks);
        let scheduler = Scheduler::new(&mut stage, plan.policy.clone());
        let mut world = Self {
            stage,
            hosts: Vec::new(),
            names: BTreeMap::new(),
            scheduler,
            gateways: Vec::new(),
            zero: BEFORE_ZERO,
            at_once: (Millis(0), 0),
        };
        world.furnish(&plan);
        world.run_until(BEFORE_ZERO);
        world
    }

    /// Organizations, prices, pools, joins, front doors, hosts, gateways.
    fn furnish(&mut self, plan: &Plan) {
        let provider = std::iter::once(OrganizationId::from(PROVIDER));
        for organization in provider.chain(plan.organizations.iter().cloned()) {
            let currency = "USD".to_owned();
            let action = access::Action::CreateOrganization { id: organization, currency };
            self.must(Action::Access(action));
        }
        let mut zones: Vec<Zone> = plan.hosts.iter().map(|host| host.zone.clone()).collect();
        zones.sort();
        zones.dedup();
        for organization in &plan.organizations {
            self.front_door(organization, &zones);
        }
        for number in 0..plan.gateways {
            self.gateway(number);
        }
        let mut priced = Vec::new();
        for (index, planned) in plan.hosts.iter().enumerate() {
            let site = (planned.sku.clone(), planned.zone.region());
            if !priced.contains(&site) {
                self.price(&site.0, site.1.clone());
                priced.push(site);
            }
            self.host(index, planned, plan);
        }
    }

    fn must(&mut self, action: Action) {
        let command = Command { caller: Caller::provider(), action };
        let answer = self.scheduler.submit(&mut self.stage, command);
        if let Some(Err(refusal)) = answer {
            self.stage.broken("world", format!("it cannot be furnished: {refusal}"));
        }
    }

    /// A front door of an organization over all zones.
    pub fn front_door(&mut self, organization: &OrganizationId, zones: &[Zone]) {
        let spec = GatewaySpec {
            name: "front".to_owned(),
            zones: zones.to_vec(),
            auth: Auth::Tokens,
            routing: Routing::Body,
            additional_dns: std::collections::BTreeSet::new(),
        };
        let (id, organization) = (front_door_of(organization), organization.clone());
        self.must(Action::Gateway(command::gateways::Action::Create { id, organization, spec }));
    }

    fn gateway(&mut self, number: usize) {
        let gateway = Gateway::new(number);
        let join = JoinId::new(format!("join-{}", gateway.name));
        self.join(join.clone(), access::Admits::Gateways);
        let key = format!("key-{}", gateway.name);
        let name = gateway.name.clone();
        self.must(Action::Access(access::Action::EnrollGateway { gateway: name, join, key }));
        gateway.begin(&mut self.stage);
        self.gateways.push(gateway);
        self.scheduler.admit_gateway();
    }

    fn join(&mut self, id: JoinId, admits: access::Admits) {
        let expires = self.stage.wall() + Millis::from_seconds(365 * 86_400);
        let sha256 = format!("{:064x}", self.stage.rng.bits());
        self.must(Action::Access(access::Action::CreateJoin {
            id,
            admits,
            uses: u32::from(u16::MAX),
            expires,
            sha256,
        }));
    }

    fn price(&mut self, sku: &Sku, region: wharfage_shared::capacity::Region) {
        let gpus = u32::from(gpus_of(sku));
        self.must(Action::Money(command::money::Action::Price(Price {
            sku: sku.clone(),
            region,
            from: Timestamp(0),
            on_demand: "49.24".to_owned(),
            spot: Some("19.71".to_owned()),
            gpus: Some(gpus),
            gpu_hour: None,
        })));
    }

    fn host(&mut self, index: usize, planned: &PlannedHost, plan: &Plan) {
        let class = planned.compute_class;
        let pool = format!("{}-{}-{class}", planned.zone, planned.sku).to_ascii_lowercase();
        let pool = PoolId::new(pool);
        let join = JoinId::new(format!("join-{pool}"));
        if self.scheduler.fleet().pool(&pool).is_none() {
            self.must(Action::Node(nodes::Action::CreatePool(Pool {
                id: pool.clone(),
                zone: planned.zone.clone(),
                sku: planned.sku.clone(),
                compute_class: class,
                tenancy: Tenancy::Dedicated,
                owner: None,
            })));
            self.join(join.clone(), access::Admits::Nodes { pool: pool.clone() });
        }
        let hook_estimates = plan.hooks.clone();
        let host = Host::make(
            Make {
                index,
                sku: planned.sku.clone(),
                zone: planned.zone.clone(),
                drift_ppm: planned.drift_ppm,
                inventory: inventory(index, &planned.sku, &plan.hooks),
                config: Config {
                    hook_estimates,
                    checkpoints_carry: planned.shared_disk.then_some(1),
                    health: crate::host::gates::settings(),
                    ..Config::default()
                },
            },
            self.stage.now,
        );
        let (node, key) = (host.node.clone(), format!("key-{}", host.node));
        self.scheduler.admit_host(node.clone(), index);
        self.names.insert(node.clone(), index);
        self.hosts.push(host);
        let pool = Some(pool);
        self.must(Action::Node(nodes::Action::Enroll { node, join, pool, key }));
        let at = match planned.joins_after {
            Millis(0) => Millis(index as u64 % 1000),
            later => BEFORE_ZERO + later,
        };
        self.stage.queue.plan(at, Happening::Host(index, AtHost::Joins));
    }

    /// A host by its node's name.
    pub fn host_of(&mut self, node: &NodeId) -> Option<(&mut Host, &mut Stage)> {
        let index = *self.names.get(node)?;
        self.hosts.get_mut(index).map(|host| (host, &mut self.stage))
    }

    pub fn fleet(&self) -> &Fleet {
        self.scheduler.fleet()
    }

    /// Somebody asks the scheduler; while it is down they wait for it.
    pub fn submit(&mut self, caller: Caller, action: Action) -> Result<Answer, Refusal> {
        while !self.scheduler.is_up() && self.step() {}
        let command = Command { caller, action };
        let answer = self.scheduler.submit(&mut self.stage, command);
        answer.expect("the loop above has seen it up")
    }

    /// So many requests of a deployment are in flight from now on.
    pub fn load(&mut self, deployment: &DeploymentId, in_flight: u32) {
        let gateways = self.gateways.len() as u32;
        for (number, gateway) in (0u32..).zip(&mut self.gateways) {
            let share = in_flight / gateways + u32::from(number < in_flight % gateways);
            gateway.load(&mut self.stage, deployment.clone(), share);
        }
    }

    /// Requests that an engine's end has cut off so far.
    pub fn requests_cut(&self) -> u64 {
        self.gateways.iter().map(|gateway| gateway.cut).sum()
    }

    /// The next thing happens. False when nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some((at, what)) = self.stage.queue.pop() else { return false };
        self.at_once = if at == self.at_once.0 { (at, self.at_once.1 + 1) } else { (at, 0) };
        if self.at_once.1 == MOST_AT_ONCE {
            self.stage.broken("world", format!("{MOST_AT_ONCE} things happen at one instant"));
        }
        self.stage.now = self.stage.now.max(at);
        self.stage.trace.mix_number(at.0);
        match what {
            Happening::Host(index, what) => {
                self.stage.trace.mix_number(index as u64);
                let is_answer = matches!(what, AtHost::Answered { .. } | AtHost::Told);
                let place = crate::network::Place::Host(index);
                let way = crate::network::Way::Down;
                if is_answer && !self.stage.network.passes(place, way, self.stage.now) {
                    return true;
                }
                if let Some(host) = self.hosts.get_mut(index) {
                    host.happen(&mut self.stage, what);
                }
            }
            Happening::Gateway(index, what) => {
                if let Some(gateway) = self.gateways.get_mut(index) {
                    gateway.happen(&mut self.stage, what);
                }
            }
            Happening::Scheduler(what) => self.scheduler.happen(&mut self.stage, what),
        }
        self.tell_ended();
        true
    }

    fn tell_ended(&mut self) {
        if self.stage.ended.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.stage.ended);
        for gateway in &mut self.gateways {
            gateway.engines_ended(&ended);
        }
    }

    /// Everything up to and including this instant happens, unless a rule is broken before.
    pub fn run_until(&mut self, until: Millis) {
        while self.stage.violations.is_empty()
            && self.stage.queue.next_at().is_some_and(|at| at <= until)
        {
            self.step();
        }
        self.stage.now = self.stage.now.max(until);
    }

    /// What was found to be wrong so far.
    pub fn violations(&self) -> &[Violation] {
        &self.stage.violations
    }

    /// What must hold at any end: the log is the fleet, a second pass changes nothing, rows keep
    /// every rule.
    pub fn check_now(&mut self) {
        self.scheduler.replays(&mut self.stage);
        self.scheduler.second_pass(&mut self.stage);
        self.scheduler.facts.whole(&mut self.stage);
    }

    /// What must hold once every fault has been over since `since`.
    pub fn check_end(&mut self, since: Millis) {
        self.check_now();
        ends::everything_stands(&self.scheduler.facts, &mut self.stage);
        ends::counts_rest(&self.scheduler.facts, &mut self.stage, since);
        let zero = crate::stage::BEGINNING + self.zero;
        meter::bills_add_up(self.scheduler.fleet(), &mut self.stage, zero);
        for host in &self.hosts {
            meter::evidence_is_true(self.scheduler.fleet(), host, &mut self.stage);
        }
    }
}

/// The front door of an organization.
pub(crate) fn front_door_of(organization: &OrganizationId) -> GatewayId {
    GatewayId::new(format!("front-{organization}"))
}

/// GPUs of an instance of this type.
pub(crate) fn gpus_of(sku: &Sku) -> u8 {
    instance_type(sku).map_or(USUAL_GPUS, |listed| listed.gpus)
}

fn inventory(index: usize, sku: &Sku, hooks: &BTreeMap<HookId, Millis>) -> Inventory {
    let memory_gb = instance_type(sku).map_or(80, |listed| u64::from(listed.memory_gb));
    let name = instance_type(sku).map_or("GPU", |listed| listed.gpu);
    let gpu = |number: u8| {
        GpuIdentity::whole(
            GpuUuid::new(format!("GPU-{}-{number}", index + 1)),
            name,
            memory_gb * 1024,
        )
    };
    Inventory {
        gpus: (0..gpus_of(sku)).map(gpu).collect(),
        driver_version: Some("570.86.15".to_owned()),
        gpu_trouble: None,
        engines: [EngineOffer {
            gangs: vec!["0.10.0".to_owned()],
            ..EngineOffer::of(ENGINE, ["0.10.0"])
        }]
        .into(),
        hooks: hooks.keys().cloned().collect(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        false_ready: Vec::new(),
        kernel: "simulated".to_owned(),
        models: Vec::new(),
        address: Some(format!("node-{}", index + 1)),
        fabric: None,
        provider_id: None,
    }
}
