//! Random worlds: commands, faults and notices in any order. The world checks every rule after
//! every step; at the end all faults are healed and every deployment must reach its count (L1).

use std::collections::BTreeMap;

use proptest::prelude::*;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::money::Action as Money;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::command::{Action, access};
use wharfage_scheduler_core::words::deployment::{
    Bounds, GpuCount, Priority, Rollout, ScalingPatch, Spec,
};
use wharfage_scheduler_core::words::node::{Intent, PoolSize};
use wharfage_scheduler_core::words::policy::PlacementPolicy;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Policy, PriorityScope, capacity, explain, policies, routes};
use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass};
use wharfage_shared::ids::{NodeId, PoolId, ReplicaId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

use crate::world::{Link, SKU, World, ZONE, claimed, cordon, drain, id, spec, uncordon};

/// Names that deployments may have: few, so that operations meet.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
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
struct Shape {
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
}

fn shape() -> impl Strategy<Value = Shape> {
    let wants = (any::<bool>(), 0u32..4, 1u32..4, 0u32..3, 0u32..4, 0usize..7);
    let how = (0usize..3, 0u32..8, 0u32..8, 0u32..3, 0u32..2, 0u32..60);
    (wants, how).prop_map(|((zeta, gpus, min, spare, priority, classes), how)| {
        let (version, single, disabled, surge, gap, grace) = how;
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
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
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

fn carry_out(world: &mut World, op: &Op) {
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
fn heal(world: &mut World) {
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

/// L1: every deployment has as many ready replicas as it wants, or no node would take one more.
fn reached(world: &World) -> Result<(), String> {
    for row in world.fleet().deployments() {
        let name = &row.spec.name;
        let ready = world.ready(name).len() as u32;
        if row.deleting.is_some() {
            return Err(format!("{name} is still being deleted\n{}", world.picture()));
        }
        let waits = world.pending(name) as u32;
        // One whose node is being emptied serves on until there is room for its successor.
        if ready > row.desired || ready + waits < row.desired {
            let wants = row.desired;
            let picture = world.picture();
            return Err(format!("{name} wants {wants}: {ready} ready, {waits} wait\n{picture}"));
        }
        if waits == 0 {
            continue;
        }
        if let Some(node) = takes(world, row) {
            return Err(format!("{name} waits although {node} is free\n{}", world.picture()));
        }
    }
    Ok(())
}

/// A node that would take one more of a deployment, by a plain reading of the rows; what contracts and
/// claims guarantee to others is left out of the question.
fn takes(
    world: &World,
    row: &wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow,
) -> Option<NodeId> {
    let claims = world.fleet().claims().next().is_some();
    if claims || world.fleet().contracts().next().is_some() {
        return None;
    }
    let spec = &row.spec;
    let has = |class| spec.classes.contains(&class);
    let allowed = |node: &NodeRow| match (node.compute_class, node.is_allocated()) {
        (ComputeClass::Spot, _) => has(CapacityClass::Spot),
        (ComputeClass::Standard, true) => spec.classes.is_empty() || has(CapacityClass::Reserved),
        (ComputeClass::Standard, false) => spec.classes.is_empty() || has(CapacityClass::OnDemand),
    };
    let found = world.fleet().nodes().find(|node| {
        let free = node.slots.iter().filter(|slot| slot.is_free()).count();
        let serves = node.held_for.as_ref().map(|held| &held.organization);
        node.intent == Intent::Open
            && node.notices.is_empty()
            && allowed(node)
            && (node.claimed.is_some() == node.is_allocated())
            && (node.owner.is_none() || node.is_allocated())
            && serves.is_none_or(|organization| *organization == row.organization)
            && free >= usize::from(spec.gpus.get())
    });
    found.map(|node| node.id.clone())
}

/// What decides walks ordered sets; what explains scans every node: the best is the same.
fn decides_as_it_explains(world: &World) -> Result<(), TestCaseError> {
    let fleet = world.fleet();
    let policy = world.controller.policy();
    for row in fleet.deployments() {
        let ask = capacity::ask::Ask::of(fleet, row);
        let decided = policies::placement::decide(fleet, policy, row, &ask).ok();
        let explained = explain::deployment(fleet, policy, &row.id, world.now);
        let explained = explained.expect("the deployment exists");
        let best = explained.candidates.iter().filter_map(|candidate| match &candidate.verdict {
            explain::Verdict::Feasible(score) => Some(score.clone()),
            explain::Verdict::Rejected(_) => None,
        });
        let best = best.min();
        let decided = decided.map(|decision| decision.because.score);
        prop_assert_eq!(&decided, &best, "for {}\n{}", row.id, world.picture());
        let first = explained.candidates.first().map(|candidate| candidate.node.clone());
        if let Some(best) = best {
            prop_assert_eq!(first, Some(best.node), "explain lists the best first");
        }
    }
    Ok(())
}

/// Gateways are sent only to replicas that are ready, stay, and can be reached.
fn routes_are_true(world: &World) -> Result<(), TestCaseError> {
    let table = routes::table(world.fleet(), world.controller.term());
    for route in table.deployments.iter().flat_map(|route| &route.replicas) {
        let row = world.fleet().replica(route.id).expect("routes name known replicas");
        let stays = matches!(row.phase, Phase::Placed { .. });
        prop_assert!(stays && row.phase.is_ready(), "{} is in the routes", row.id);
    }
    Ok(())
}

/// What operators choose: priority among whom, and how seats are ranked.
fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), 0u8..4).prop_map(|(fleet, ranks)| {
        let spread = PlacementPolicy::Spread;
        let spot = PoolId::new(format!("{SKU}-spot-{}", ZONE.to_ascii_lowercase()));
        let pools = if ranks == 2 { BTreeMap::from([(spot, spread)]) } else { BTreeMap::new() };
        Policy {
            priority_scope: if fleet { PriorityScope::Fleet } else { PriorityScope::Organization },
            placement: if ranks == 3 { spread } else { PlacementPolicy::BestFit },
            placement_of_pools: pools,
            ..Policy::default()
        }
    })
}

fn live(policy: Policy, standard: usize, spot: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::under(policy);
    world.add_nodes(standard, ComputeClass::Standard);
    world.add_nodes(spot, ComputeClass::Spot);
    world.run(10);
    world.add_gateway("gw-1");
    for name in ["acme", "zeta"] {
        world.organization(name);
    }
    for op in ops {
        carry_out(&mut world, op);
        decides_as_it_explains(&world)?;
        routes_are_true(&world)?;
    }
    heal(&mut world);
    world.run(1100);
    reached(&world).map_err(TestCaseError::fail)?;
    world.replay_everything();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 96, and more where more are asked for.
        cases: ProptestConfig::default().cases * 3 / 8,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_rule_holds_in_random_worlds_and_deployments_reach_their_counts(
        policy in policy(),
        standard in 1usize..4,
        spot in 0usize..3,
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        live(policy, standard, spot, &ops)?;
    }
}

#[test]
fn a_join_admits_as_often_as_it_says() {
    let mut world = World::with_nodes(1, 0);
    let used = world.fleet().joins().filter(|join| join.used == join.uses).count();
    assert_eq!(used, 1);
    let join = world.fleet().joins().next().expect("one was made").id.clone();
    let gateway = "gw-1".into();
    let action = access::Action::EnrollGateway { gateway, join, key: "00".to_owned() };
    world.command(Action::Access(action)).expect_err("it admits nodes, once");
}
