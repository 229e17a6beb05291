//! What happens in random worlds: commands, faults and notices, and the end of every fault.

use proptest::prelude::*;
use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::money::Action as Money;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::deployment::{
    Bounds, GpuCount, Priority, Rollout, ScalingPatch, Spec,
};
use wharfage_scheduler_core::words::node::{Intent, PoolSize};
use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass};
use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

use crate::world::{Link, World, claimed, cordon, drain, id, spec, uncordon};

/// Names that deployments may have: few, so that operations meet.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Op {
    Run(u64),
    Deploy {
        name: usize,
        shape: Shape,
    },
    Replace {
        name: usize,
        shape: Shape,
    },
    Delete {
        name: usize,
    },
    Min {
        name: usize,
        min: u32,
        max: u32,
    },
    Terminate {
        at: usize,
    },
    Verb {
        verb: usize,
        node: usize,
    },
    Retire {
        node: usize,
    },
    Reclaim {
        node: usize,
        drain: u64,
        gone: u64,
        whole: bool,
    },
    Notice {
        node: usize,
        seconds: u64,
        whole: bool,
    },
    Withdraw {
        node: usize,
    },
    Link {
        node: usize,
        cut: bool,
    },
    RestartAgent {
        node: usize,
    },
    Reboot {
        node: usize,
    },
    Trouble {
        node: usize,
        is_bad: bool,
    },
    /// A health report: what is unfit and what is asked for.
    Health {
        node: usize,
        gpu: usize,
        kind: u8,
    },
    Hang {
        node: usize,
        hangs: bool,
    },
    Crash {
        node: usize,
    },
    Stray {
        node: usize,
        gpus: usize,
    },
    /// A model lies in a host's cache from now on.
    Cache {
        node: usize,
        name: usize,
    },
    RestartScheduler,
    Sign {
        organization: bool,
        instances: u32,
    },
    Claim {
        name: usize,
        zeta: bool,
        customer: bool,
        instances: u32,
    },
    Resize {
        name: usize,
        instances: u32,
    },
    Unclaim {
        name: usize,
    },
    /// A Flex contract, or the amendment of one.
    Flex {
        amend: bool,
        seconds: u64,
    },
    Size {
        target: u32,
    },
    Quota {
        zeta: bool,
        instances: Option<u32>,
    },
    Gateway {
        stuck: bool,
        up: bool,
    },
    Join {
        spot: bool,
        owned: bool,
    },
}

/// What a random deployment asks for.
#[derive(Clone, Debug)]
pub struct Shape {
    zeta: bool,
    gpus: u32,
    min: u32,
    spare: u32,
    priority: u32,
    classes: usize,
    version: usize,
    single_copy: bool,
    disabled: bool,
    surge: u32,
    gap: u32,
    grace: u32,
    stays: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let wants = (any::<bool>(), 0u32..5, 1u32..4, 0u32..3, 0u32..4, 0usize..7);
    let how = (0usize..3, 0u32..8, 0u32..8, 0u32..3, 0u32..2, 0u32..60, 0u8..5);
    (wants, how).prop_map(|((zeta, gpus, min, spare, priority, classes), how)| {
        let (version, single, disabled, surge, gap, grace, stays) = how;
        Shape {
            zeta,
            gpus: 1 << gpus,
            min,
            spare,
            priority: priority * 300,
            classes,
            version,
            single_copy: single == 0,
            disabled: disabled == 0,
            surge,
            gap,
            grace,
            stays: stays == 0,
        }
    })
}

pub fn op() -> impl Strategy<Value = Op> {
    let name = || 0usize..NAMES.len();
    let node = || 0usize..5;
    prop_oneof![
        8 => (1u64..40).prop_map(Op::Run),
        2 => (40u64..400).prop_map(Op::Run),
        6 => (name(), shape()).prop_map(|(name, shape)| Op::Deploy { name, shape }),
        3 => (name(), shape()).prop_map(|(name, shape)| Op::Replace { name, shape }),
        2 => name().prop_map(|name| Op::Delete { name }),
        3 => (name(), 0u32..5, 0u32..5).prop_map(|(name, min, max)| Op::Min { name, min, max }),
        1 => (0usize..20).prop_map(|at| Op::Terminate { at }),
        5 => (0usize..3, node()).prop_map(|(verb, node)| Op::Verb { verb, node }),
        1 => node().prop_map(|node| Op::Retire { node }),
        2 => (node(), 0u64..100, 0u64..200, any::<bool>()).prop_map(|(node, drain, more, whole)| {
            Op::Reclaim { node, drain, gone: drain + more, whole }
        }),
        3 => (node(), 0u64..200, any::<bool>())
            .prop_map(|(node, seconds, whole)| Op::Notice { node, seconds, whole }),
        1 => node().prop_map(|node| Op::Withdraw { node }),
        4 => (node(), any::<bool>()).prop_map(|(node, cut)| Op::Link { node, cut }),
        2 => node().prop_map(|node| Op::RestartAgent { node }),
        1 => node().prop_map(|node| Op::Reboot { node }),
        1 => (node(), any::<bool>()).prop_map(|(node, is_bad)| Op::Trouble { node, is_bad }),
        2 => (node(), 0usize..8, 0u8..6)
            .prop_map(|(node, gpu, kind)| Op::Health { node, gpu, kind }),
        1 => (node(), any::<bool>()).prop_map(|(node, hangs)| Op::Hang { node, hangs }),
        2 => node().prop_map(|node| Op::Crash { node }),
        1 => (node(), 1usize..4).prop_map(|(node, gpus)| Op::Stray { node, gpus }),
        2 => (node(), name()).prop_map(|(node, name)| Op::Cache { node, name }),
        1 => Just(Op::RestartScheduler),
        1 => (any::<bool>(), 1u32..3)
            .prop_map(|(organization, instances)| Op::Sign { organization, instances }),
        4 => (name(), any::<bool>(), any::<bool>(), 1u32..4).prop_map(
            |(name, zeta, customer, instances)| Op::Claim { name, zeta, customer, instances }
        ),
        3 => (name(), 1u32..4).prop_map(|(name, instances)| Op::Resize { name, instances }),
        2 => name().prop_map(|name| Op::Unclaim { name }),
        2 => (any::<bool>(), 0u64..200).prop_map(|(amend, seconds)| Op::Flex { amend, seconds }),
        1 => (0u32..6).prop_map(|target| Op::Size { target }),
        1 => (any::<bool>(), proptest::option::of(0u32..4))
            .prop_map(|(zeta, instances)| Op::Quota { zeta, instances }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(stuck, up)| Op::Gateway { stuck, up }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(spot, owned)| Op::Join { spot, owned }),
    ]
}

fn wanted(name: &str, shape: &Shape) -> Spec {
    let mut wanted = spec(name);
    wanted.gpus = GpuCount::new(shape.gpus).expect("1, 2, 4 or 8");
    wanted.priority = Priority::new(shape.priority).expect("in range");
    wanted.disabled = shape.disabled;
    wanted.scaling.bounds = Bounds::new(shape.min, shape.min + shape.spare).expect("in order");
    wanted.classes = match shape.classes {
        0 | 1 => Vec::new(),
        2 => vec![CapacityClass::OnDemand],
        3 => vec![CapacityClass::Spot, CapacityClass::OnDemand],
        4 => vec![CapacityClass::Reserved, CapacityClass::OnDemand],
        5 => vec![CapacityClass::Reserved],
        _ => vec![CapacityClass::Spot],
    };
    wanted.runtime.config.insert("seed".to_owned(), shape.version.to_string());
    wanted.extension.single_copy = shape.single_copy;
    wanted.extension.grace_seconds = shape.grace;
    wanted.extension.start_deadline_seconds = Some(100);
    wanted.extension.consolidation = !shape.stays;
    wanted.extension.rollout = Rollout { max_surge: shape.surge, max_unavailable: shape.gap };
    if shape.single_copy {
        wanted.scaling.bounds = Bounds::new(1, 1).expect("one");
    }
    wanted
}

fn node_of(world: &World, at: usize) -> NodeId {
    let nodes: Vec<&NodeId> = world.agents.keys().collect();
    nodes[at % nodes.len()].clone()
}

pub fn carry_out(world: &mut World, op: &Op) {
    let now = world.now;
    match op {
        Op::Run(seconds) => world.run(*seconds),
        Op::Deploy { name, shape } => {
            let organization = if shape.zeta { "zeta" } else { "acme" };
            // A name in use is refused.
            let _ = world.deploy_for(organization, wanted(NAMES[*name], shape));
        }
        Op::Replace { name, shape } => drop(world.replace(wanted(NAMES[*name], shape))),
        Op::Delete { name } => drop(world.delete(NAMES[*name])),
        Op::Min { name, min, max } => {
            let patch = ScalingPatch {
                min: Some(*min),
                max: (*max > 0).then_some(*max),
                ..ScalingPatch::default()
            };
            let id = id(NAMES[*name]);
            let _ = world.command(Action::Deployment(Deployments::Settings { id, patch }));
        }
        Op::Terminate { at } => {
            let ids: Vec<ReplicaId> = world.fleet().replicas().map(|row| row.id).collect();
            if let Some(replica) = ids.get(at % ids.len().max(1)) {
                let action = Deployments::Terminate { replica: *replica };
                let _ = world.command(Action::Deployment(action));
            }
        }
        Op::Verb { verb, node } => {
            let node = node_of(world, *node);
            let verb = [cordon, uncordon, drain][*verb];
            let _ = world.verb(verb, node.as_str());
        }
        Op::Retire { node } => {
            let (node, reason) = (node_of(world, *node), "a test".to_owned());
            let _ = world.command(Action::Node(Nodes::Retire { node, reason }));
        }
        Op::Reclaim { node, drain, gone, whole } => {
            let (node, reason) = (node_of(world, *node), "a test".to_owned());
            let leaves = if *whole { Leaves::Node } else { Leaves::Replicas };
            let drain_after = Some(Millis::from_seconds(*drain));
            let gone_after = Some(Millis::from_seconds(*gone));
            let action = Nodes::Reclaim { node, reason, leaves, drain_after, gone_after };
            let _ = world.command(Action::Node(action));
        }
        Op::RestartScheduler => world.restart_scheduler(),
        Op::Sign { organization, instances } => {
            let organization = if *organization { "zeta" } else { "acme" };
            let _ = world.sign(organization, *instances, 30);
        }
        Op::Gateway { stuck, up } => {
            for gateway in world.gateways.values_mut() {
                (gateway.is_stuck, gateway.is_up) = (*stuck, *up);
            }
        }
        Op::Claim { .. } | Op::Resize { .. } | Op::Unclaim { .. } | Op::Quota { .. } => {
            set_aside(world, op);
        }
        Op::Flex { amend: false, seconds } => drop(world.sign_flex("acme", 1, 60 + *seconds)),
        Op::Flex { amend: true, seconds } => {
            let known: Vec<_> =
                world.fleet().contracts().map(|row| row.contract.id.clone()).collect();
            if let Some(contract) = known.get(*seconds as usize % known.len().max(1)) {
                let id = format!("amended-{}", world.fresh()).as_str().into();
                let from = now + Millis::from_seconds(*seconds);
                let (contract, rate) = (contract.clone(), "9".to_owned());
                let action = Money::Amend { contract, id, from, rate };
                let _ = world.command(Action::Money(action));
            }
        }
        Op::Size { target } => {
            let pool = world.fleet().pools().next().map(|pool| pool.id.clone());
            if let Some(pool) = pool {
                let size = PoolSize { target: *target, min: 0, max: 5 };
                let _ = world.command(Action::Node(Nodes::SizePool { pool, size }));
            }
        }
        Op::Join { spot, owned } => {
            if world.agents.len() < 8 && *owned {
                world.add_owned("acme");
            } else if world.agents.len() < 8 {
                let class = if *spot { ComputeClass::Spot } else { ComputeClass::Standard };
                world.add_nodes(1, class);
            }
        }
        Op::Notice { .. }
        | Op::Withdraw { .. }
        | Op::Link { .. }
        | Op::RestartAgent { .. }
        | Op::Reboot { .. }
        | Op::Trouble { .. }
        | Op::Health { .. }
        | Op::Hang { .. }
        | Op::Crash { .. }
        | Op::Cache { .. }
        | Op::Stray { .. } => on_host(world, op, now),
    }
}

/// Claims and quotas. What is not there, taken or too much is refused.
fn set_aside(world: &mut World, op: &Op) {
    let whose = |zeta: &bool| if *zeta { "zeta" } else { "acme" };
    match op {
        Op::Claim { name, zeta, customer, instances } => {
            let kind = if *customer { CapacityType::Customer } else { CapacityType::Serverless };
            let spec = claimed(NAMES[*name], kind, *instances);
            let _ = world.claim_for(whose(zeta), spec);
        }
        Op::Resize { name, .. } if world.fleet().claim(&NAMES[*name].into()).is_none() => {}
        Op::Resize { name, instances } => drop(world.resize(NAMES[*name], *instances)),
        Op::Unclaim { name } => drop(world.unclaim(NAMES[*name])),
        Op::Quota { zeta, instances } => world.quota(whose(zeta), *instances),
        _ => {}
    }
}

/// What happens on a host without anybody asking.
fn on_host(world: &mut World, op: &Op, now: wharfage_shared::time::Timestamp) {
    let fresh = world.fresh();
    let mut host = |node: usize| {
        let node = node_of(world, node);
        world.agents.remove(&node).expect("it is one of them")
    };
    let agent = match op {
        Op::Notice { node, seconds, whole } => {
            let mut agent = host(*node);
            let leaves = if *whole { Leaves::Node } else { Leaves::Replicas };
            if agent.link != Link::Dead {
                agent.notice(&format!("notice-{fresh}"), *seconds, leaves, now);
            }
            agent
        }
        Op::Withdraw { node } => {
            let mut agent = host(*node);
            agent.notices.clear();
            agent
        }
        Op::Link { node, cut } => {
            let mut agent = host(*node);
            if agent.link != Link::Dead {
                agent.link = if *cut { Link::Cut } else { Link::Up };
            }
            agent
        }
        Op::RestartAgent { node } => {
            let mut agent = host(*node);
            agent.restart();
            agent
        }
        Op::Reboot { node } => {
            let mut agent = host(*node);
            agent.reboot(now);
            agent
        }
        Op::Health { node, gpu, kind } => {
            let mut agent = host(*node);
            agent.health = Some(agent.report_of(*gpu, *kind));
            // The same report under the same hash: its text names everything that differs.
            agent.health_hash = format!("{:?}", agent.health);
            agent
        }
        Op::Trouble { node, is_bad } => {
            let mut agent = host(*node);
            agent.trouble = is_bad.then(|| "the driver does not answer".to_owned());
            agent
        }
        Op::Hang { node, hangs } => {
            let mut agent = host(*node);
            agent.loads_hang = *hangs;
            agent
        }
        Op::Crash { node } => {
            let mut agent = host(*node);
            if let Some(id) = agent.replicas.keys().next().copied() {
                agent.crash(id, now);
            }
            agent
        }
        Op::Cache { node, name } => {
            let mut agent = host(*node);
            agent.cache(NAMES[*name], 1 << 30);
            agent
        }
        Op::Stray { node, gpus } => {
            let mut agent = host(*node);
            if agent.link != Link::Dead {
                agent.stray(ReplicaId(90_000 + fresh), *gpus, now);
            }
            agent
        }
        _ => return,
    };
    world.agents.insert(agent.node.clone(), agent);
}

/// Every fault ends; what operators closed is opened again; strays end.
pub fn heal(world: &mut World) {
    let now = world.now;
    for gateway in world.gateways.values_mut() {
        (gateway.is_up, gateway.is_stuck) = (true, false);
    }
    let nodes: Vec<NodeId> = world.agents.keys().cloned().collect();
    for node in &nodes {
        let mut agent = world.agents.remove(node).expect("it is one of them");
        if agent.link == Link::Dead {
            agent.reboot(now);
        }
        agent.link = Link::Up;
        (agent.trouble, agent.loads_hang) = (None, false);
        (agent.health, agent.health_hash) = (None, String::new());
        agent.notices.clear();
        let strays = agent.replicas.keys().filter(|id| id.0 > 90_000).copied();
        let strays: Vec<ReplicaId> = strays.collect();
        for stray in strays {
            agent.crash(stray, now);
        }
        world.agents.insert(node.clone(), agent);
        let retired = world.fleet().node(node).is_some_and(|row| row.intent == Intent::Retired);
        if !retired {
            world.verb(uncordon, node.as_str()).expect("an uncordon");
        }
    }
}
