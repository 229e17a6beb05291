//! What befalls a random world: commands of tenants and operators, faults of hosts and network.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_scheduler_core::Caller;
use wharfage_scheduler_core::words::claim;
use wharfage_scheduler_core::words::command::{Action, claims, deployments, money, nodes};
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, ScalingPatch, Spec,
};
use wharfage_shared::capacity::{CapacityClass, CapacityType};
use wharfage_shared::ids::{ClaimId, ContractId, DeploymentId, HookId, NodeId, OrganizationId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use super::drills::Drills;
use crate::host::Power;
use crate::network::{Place, Way, Weather};
use crate::rng::Rng;
use crate::stage::Habits;
use crate::world::{ENGINE, World, front_door_of};

/// The most deployments at a time.
const MOST_DEPLOYMENTS: usize = 6;

/// What is done, and how often in a thousand.
const ACTS: [(Act, u64); 26] = [
    (Act::Deploy, 160),
    (Act::Delete, 30),
    (Act::Scale, 60),
    (Act::Replace, 30),
    (Act::Terminate, 30),
    (Act::Switch, 20),
    (Act::Cordon, 30),
    (Act::Uncordon, 60),
    (Act::Drain, 40),
    (Act::Reclaim, 30),
    (Act::Sign, 20),
    (Act::Claim, 30),
    (Act::Unclaim, 15),
    (Act::Load, 70),
    (Act::Notice, 60),
    (Act::Withdraw, 20),
    (Act::AgentDies, 60),
    (Act::Cut, 60),
    (Act::CutOneWay, 30),
    (Act::BadWeather, 30),
    (Act::FairWeather, 40),
    (Act::EngineFails, 40),
    (Act::Trouble, 20),
    (Act::Reboot, 20),
    (Act::Lose, 10),
    (Act::SchedulerDies, 30),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Deploy,
    Delete,
    Scale,
    Replace,
    Terminate,
    Switch,
    Cordon,
    Uncordon,
    Drain,
    Reclaim,
    Sign,
    Claim,
    Unclaim,
    Load,
    Notice,
    Withdraw,
    AgentDies,
    Cut,
    CutOneWay,
    BadWeather,
    FairWeather,
    EngineFails,
    Trouble,
    Reboot,
    Lose,
    SchedulerDies,
}

/// Who makes it.
pub(super) struct Mischief {
    pub rng: Rng,
    pub acts: u32,
    organizations: Vec<OrganizationId>,
    made: u32,
    drills: Option<Drills>,
}

impl Mischief {
    /// Drills come from a luck of their own.
    pub fn new(rng: Rng, organizations: Vec<OrganizationId>, drills: Option<Drills>) -> Self {
        Self { rng, acts: 0, organizations, made: 0, drills }
    }

    /// One thing is done. A refusal is an answer like any other.
    pub fn act(&mut self, world: &mut World) {
        self.acts += 1;
        if let Some(drills) = &mut self.drills {
            drills.act(world);
        }
        let total: u64 = ACTS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.between(0, total - 1);
        let act = ACTS.iter().find(|(_, weight)| match at.checked_sub(*weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        let Some((act, _)) = act else { return };
        world.stage.trace.mix_number(*act as u64);
        match act {
            Act::Deploy => self.deploy(world),
            Act::Delete | Act::Scale | Act::Replace | Act::Switch | Act::Load => {
                self.change(world, *act);
            }
            Act::Terminate => self.terminate(world),
            Act::Cordon | Act::Uncordon | Act::Drain | Act::Reclaim => self.operate(world, *act),
            Act::Sign => self.sign(world),
            Act::Claim => self.claim(world),
            Act::Unclaim => self.unclaim(world),
            Act::Notice
            | Act::Withdraw
            | Act::AgentDies
            | Act::Cut
            | Act::CutOneWay
            | Act::EngineFails
            | Act::Trouble
            | Act::Reboot
            | Act::Lose => self.befall(world, *act),
            Act::BadWeather => world.stage.network.weather = self.weather(),
            Act::FairWeather => world.stage.network.weather = Weather::fair(),
            Act::SchedulerDies => {
                if world.scheduler.is_up() {
                    world.scheduler.dies(&mut world.stage);
                }
            }
        }
    }

    /// Every fault ends; what broke and stays broken is seen to be so.
    pub fn peace(&mut self, world: &mut World) {
        world.stage.trace.line(world.stage.now, None, "PEACE".to_owned());
        world.stage.network.heal();
        if let Some(drills) = &mut self.drills {
            drills.end(world);
        }
        world.stage.habits = Habits {
            memory_back: world.stage.habits.memory_back,
            stop: world.stage.habits.stop,
            ..Habits::sound()
        };
        for host in &mut world.hosts {
            host.gpus_heal(&mut world.stage);
            host.clock_is_right();
        }
    }

    fn weather(&mut self) -> Weather {
        Weather {
            fastest: Millis(1),
            slowest: Millis(self.rng.between(1, 800)),
            loss_permille: self.rng.between(0, 300) as u32,
            twice_permille: self.rng.between(0, 200) as u32,
            late_permille: self.rng.between(0, 200) as u32,
            late_by: Millis(self.rng.between(0, 20_000)),
        }
    }

    fn deploy(&mut self, world: &mut World) {
        if world.fleet().deployments().count() >= MOST_DEPLOYMENTS {
            return;
        }
        self.made += 1;
        let Some(organization) = self.rng.pick(&self.organizations).cloned() else { return };
        let Some(spec) = self.spec(world, &organization) else { return };
        let id = DeploymentId::new(format!("d-{}", self.made));
        world.stage.loads.insert(id.clone(), Millis(self.rng.between(200, 60_000)));
        if spec.extension.single_copy {
            world.stage.single_copies.insert(id.clone(), spec.scaling.bounds.max());
        }
        let spec = spec.into();
        let action = deployments::Action::Create { id, organization, spec };
        let _ = world.submit(Caller::provider(), Action::Deployment(action));
    }

    fn spec(&mut self, world: &World, organization: &OrganizationId) -> Option<Spec> {
        let rng = &mut self.rng;
        let sku =
            world.hosts.get(rng.between(0, world.hosts.len() as u64 - 1) as usize)?.sku.clone();
        let single_copy = rng.chance(100);
        let min = if single_copy { 1 } else { rng.between(0, 3) as u32 };
        let max = if single_copy { 1 } else { min.max(1) + rng.between(0, 2) as u32 };
        let bounds = Bounds::new(min, max)?;
        let scaling = match min {
            0 => Scaling { bounds, ..Scaling::baseten() },
            _ => Scaling::coreweave(bounds, None),
        };
        let mut classes = Vec::new();
        if rng.chance(500) {
            classes.extend(rng.chance(600).then_some(CapacityClass::Spot));
            classes.extend(rng.chance(600).then_some(CapacityClass::OnDemand));
        }
        let mut hooks = BTreeMap::new();
        if rng.chance(400) {
            let id = HookId::new(format!("checkpoint-{}", rng.between(1, 2)));
            hooks.insert(HookKind::Checkpoint, id);
        }
        if rng.chance(600) {
            let id = HookId::new(format!("drain-{}", rng.between(1, 2)));
            hooks.insert(HookKind::Drain, id);
        }
        let grace_seconds = rng.between(1, 90) as u32;
        Some(Spec {
            name: format!("deployment-{}", self.made),
            model: Model {
                name: format!("model-{}", self.made),
                bucket: "models".to_owned(),
                path: format!("model-{}", self.made),
            },
            runtime: Runtime {
                engine: ENGINE.to_owned(),
                version: String::new(),
                config: BTreeMap::new(),
                env: BTreeMap::new(),
            },
            sku,
            gpus: GpuCount::new(*rng.pick(&[1, 1, 2, 4, 8])?)?,
            gateways: BTreeSet::from([front_door_of(organization)]),
            zone: None,
            disabled: false,
            weight: 100,
            classes,
            priority: Priority::new(rng.between(0, 3) as u32 * 100)?,
            scaling,
            extension: Extension { single_copy, grace_seconds, hooks, ..Extension::default() },
        })
    }

    fn a_deployment(&mut self, world: &World) -> Option<DeploymentId> {
        let all: Vec<DeploymentId> = world.fleet().deployments().map(|d| d.id.clone()).collect();
        self.rng.pick(&all).cloned()
    }

    fn change(&mut self, world: &mut World, act: Act) {
        let Some(id) = self.a_deployment(world) else { return };
        let Some(mut spec) = world.fleet().deployment(&id).map(|row| (*row.spec).clone()) else {
            return;
        };
        let action = match act {
            Act::Delete => deployments::Action::Delete { id },
            Act::Scale if !spec.extension.single_copy => {
                let min = self.rng.between(0, 4) as u32;
                let max = min.max(1) + self.rng.between(0, 2) as u32;
                let patch = ScalingPatch { min: Some(min), max: Some(max), ..Default::default() };
                deployments::Action::Settings { id, patch }
            }
            Act::Replace => {
                spec.model.path = format!("{}-{}", id, self.acts);
                deployments::Action::Replace { id, spec: spec.into() }
            }
            Act::Switch => {
                spec.disabled = !spec.disabled;
                deployments::Action::Replace { id, spec: spec.into() }
            }
            _ => {
                let in_flight = self.rng.between(0, 40) as u32;
                return world.load(&id, in_flight);
            }
        };
        let _ = world.submit(Caller::provider(), Action::Deployment(action));
    }

    fn terminate(&mut self, world: &mut World) {
        let all: Vec<_> = world.fleet().replicas().map(|row| row.id).collect();
        let Some(replica) = self.rng.pick(&all).copied() else { return };
        let action = deployments::Action::Terminate { replica };
        let _ = world.submit(Caller::provider(), Action::Deployment(action));
    }

    fn a_node(&mut self, world: &World) -> Option<(usize, NodeId)> {
        let on = |host: &&crate::host::Host| host.power == Power::On;
        let all: Vec<(usize, NodeId)> =
            world.hosts.iter().filter(on).map(|host| (host.index, host.node.clone())).collect();
        self.rng.pick(&all).cloned()
    }

    fn operate(&mut self, world: &mut World, act: Act) {
        let Some((_, node)) = self.a_node(world) else { return };
        let reason = "mischief".to_owned();
        let action = match act {
            Act::Cordon => nodes::Action::Cordon { node, reason },
            Act::Drain => nodes::Action::Drain { node, reason },
            Act::Reclaim => {
                let leaves =
                    *self.rng.pick(&[Leaves::Node, Leaves::Replicas]).unwrap_or(&Leaves::Node);
                let quick = self.rng.chance(500);
                let drain_after = quick.then(|| Millis(self.rng.between(0, 60_000)));
                let gone_after = drain_after.map(|at| at + Millis(self.rng.between(0, 120_000)));
                nodes::Action::Reclaim { node, reason, leaves, drain_after, gone_after }
            }
            _ => nodes::Action::Uncordon { node, reason },
        };
        let _ = world.submit(Caller::provider(), Action::Node(action));
    }

    fn sign(&mut self, world: &mut World) {
        let Some(organization) = self.rng.pick(&self.organizations).cloned() else { return };
        let Some((index, _)) = self.a_node(world) else { return };
        let host = &world.hosts[index];
        let (sku, region) = (host.sku.clone(), host.zone.region());
        let start = world.stage.wall() + Millis(self.rng.between(0, 300_000));
        let contract = Contract {
            id: ContractId::new(format!("contract-{}", self.acts)),
            organization,
            region,
            sku,
            instances: self.rng.between(1, 2) as u32,
            start,
            end: start + Millis(self.rng.between(60_000, 3_600_000)),
            terms: if self.rng.chance(500) {
                ContractTerms::Reserved { rate: "30".to_owned() }
            } else {
                ContractTerms::Flex { holding_rate: "12".to_owned(), usage_rate: "24".to_owned() }
            },
        };
        let _ = world.submit(Caller::provider(), Action::Money(money::Action::Sign(contract)));
    }

    /// A new claim, or another count for one that is there.
    fn claim(&mut self, world: &mut World) {
        let Some(organization) = self.rng.pick(&self.organizations).cloned() else { return };
        let Some((index, _)) = self.a_node(world) else { return };
        let host = &world.hosts[index];
        let (sku, zone) = (host.sku.clone(), host.zone.clone());
        let customer = self.rng.chance(500);
        let capacity_type =
            if customer { CapacityType::Customer } else { CapacityType::Serverless };
        let name = format!("claim-{}", self.rng.between(1, 4));
        let id = ClaimId::from(name.as_str());
        let instances = self.rng.between(1, 3) as u32;
        let known = world
            .fleet()
            .claim(&id)
            .filter(|row| row.deleted_at.is_none())
            .map(|row| row.spec.clone());
        let action = match known {
            Some(spec) => claims::Action::Replace { id, spec: claim::Spec { instances, ..spec } },
            None => {
                let says_managed = false;
                let spec = claim::Spec { name, capacity_type, says_managed, sku, zone, instances };
                claims::Action::Create { id, organization, spec }
            }
        };
        let _ = world.submit(Caller::provider(), Action::Claim(action));
    }

    fn unclaim(&mut self, world: &mut World) {
        let id = ClaimId::from(format!("claim-{}", self.rng.between(1, 4)).as_str());
        let action = claims::Action::Delete { id };
        let _ = world.submit(Caller::provider(), Action::Claim(action));
    }

    fn befall(&mut self, world: &mut World, act: Act) {
        let Some((index, _)) = self.a_node(world) else { return };
        let rng = &mut self.rng;
        let World { stage, hosts, .. } = world;
        let host = &mut hosts[index];
        match act {
            Act::Notice => {
                let within = Millis(rng.between(0, 300_000));
                let leaves = if rng.chance(600) { Leaves::Replicas } else { Leaves::Node };
                host.notice(stage, within, leaves);
            }
            Act::Withdraw => {
                host.withdraw(stage);
            }
            Act::AgentDies => host.agent_dies(stage, Millis(rng.between(100, 60_000))),
            Act::Cut => {
                let until = stage.now + Millis(rng.between(1_000, 150_000));
                stage.network.cut(Place::Host(index), Way::Up, until);
                stage.network.cut(Place::Host(index), Way::Down, until);
            }
            Act::CutOneWay => {
                let until = stage.now + Millis(rng.between(1_000, 150_000));
                let way = if rng.chance(500) { Way::Up } else { Way::Down };
                let gateway = rng.chance(200);
                let place = if gateway { Place::Gateway(0) } else { Place::Host(index) };
                stage.network.cut(place, way, until);
            }
            Act::EngineFails => {
                let which = rng.bits();
                if rng.chance(300) {
                    host.engine_hangs(stage, which);
                } else {
                    host.engine_crashes(stage, which);
                }
            }
            Act::Trouble => {
                let Some(gpu) = rng.pick(&host.gpus).cloned() else { return };
                match rng.between(0, 3) {
                    0 => host.driver_hangs(stage, &gpu),
                    1 => host.xid(stage, 79, &gpu),
                    2 => host.xid(stage, 31, &gpu),
                    _ => host.clock_steps(rng.between(0, 7_200_000) as i64 - 3_600_000),
                }
            }
            Act::Reboot => host.reboot(stage),
            _ => host.power_off(stage, "the host is lost"),
        }
    }
}
