//! What a dry run tells: who would be placed and who would leave, and what an hour costs more.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_scheduler_core::words::command::claims::Action as Claims;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::money::Action as Money;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::command::{Action, Command};
use wharfage_scheduler_core::words::contract::Price;
use wharfage_scheduler_core::words::deployment::{Bounds, Priority, Spec};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_scheduler_core::{Cost, CostLine, Policy, PriorityScope, WhatIf};
use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Millis;

use crate::world::{SKU, World, bytes, claimed, id, spec};

/// What a command would do; that it changes nothing is part of every story.
fn what_if(world: &World, action: Action) -> WhatIf {
    let before = bytes(world.fleet());
    let command = Command { caller: Caller::provider(), action };
    let outcome = world.controller.what_if(world.now, command).expect("a good command");
    assert_eq!(bytes(world.fleet()), before);
    outcome
}

fn create(spec: Spec) -> Action {
    let (id, organization) = (id(&spec.name), "acme".into());
    Action::Deployment(Deployments::Create { id, organization, spec: Arc::new(spec) })
}

/// So many nodes, a price list, and the organization.
fn priced(standard: usize, spot: usize) -> World {
    let mut world = World::with_nodes(standard, spot);
    world.organization("acme");
    let price = Price {
        sku: Sku::new(SKU),
        region: Region::new("US-EAST-04"),
        from: world.now,
        on_demand: "48.00".to_owned(),
        spot: Some("20.00".to_owned()),
        gpus: Some(8),
        gpu_hour: Some("6.50".to_owned()),
    };
    world.command(Action::Money(Money::Price(price))).expect("a price");
    world
}

/// The lines as `line instances rate`, and the sum.
fn told(cost: Option<Cost>) -> (Vec<String>, u64) {
    let cost = cost.expect("every price is known");
    let line = |line: &CostLine| format!("{} {} {}", line.line, line.instances, line.rate);
    (cost.lines.iter().map(line).collect(), cost.micros)
}

fn many(name: &str, count: u32) -> Spec {
    let mut spec = spec(name);
    spec.scaling.bounds = Bounds::new(count, count).expect("in order");
    spec
}

#[test]
fn an_hour_costs_more_by_the_band_that_each_new_instance_fills() {
    let mut world = priced(4, 0);
    world.sign("acme", 1, 30).expect("a Reserved contract");
    world.sign_flex("acme", 1, 86_400).expect("a Flex contract");
    world.run(1);
    let outcome = what_if(&world, create(many("chat", 3)));
    assert_eq!(outcome.placements.len(), 3);
    assert!(outcome.placements.iter().all(|placed| placed.node.is_some()));
    let lines = ["flex_usage 1 8.00", "on_demand 1 48.00", "reserved 1 0.00"];
    assert_eq!(told(outcome.cost), (lines.map(str::to_owned).to_vec(), 56_000_000));
    world.deploy(many("chat", 2));
    world.run(1);
    let outcome = what_if(&world, create(many("more", 1)));
    let expected = (vec!["on_demand 1 48.00".to_owned()], 48_000_000);
    assert_eq!(told(outcome.cost), expected, "the bands are full");
}

#[test]
fn spot_and_claims_cost_what_their_own_lines_say() {
    let world = priced(2, 1);
    let mut cheap = spec("cheap");
    cheap.classes = vec![CapacityClass::Spot];
    let expected = (vec!["spot 1 20.00".to_owned()], 20_000_000);
    assert_eq!(told(what_if(&world, create(cheap)).cost), expected);
    let claim = Claims::Create {
        id: "hold".into(),
        organization: "acme".into(),
        spec: claimed("hold", CapacityType::Serverless, 2),
    };
    let expected = (vec!["claim 2 52.00".to_owned()], 104_000_000);
    assert_eq!(told(what_if(&world, Action::Claim(claim)).cost), expected, "by the GPU-hour");
}

#[test]
fn a_create_is_told_the_cost_that_its_dry_run_told() {
    let mut world = priced(4, 1);
    world.sign("acme", 1, 30).expect("a Reserved contract");
    world.run(1);
    let claim = |name: &str, capacity_type, instances| {
        let spec = claimed(name, capacity_type, instances);
        Action::Claim(Claims::Create { id: name.into(), organization: "acme".into(), spec })
    };
    let mut cheap = spec("cheap");
    cheap.classes = vec![CapacityClass::Spot];
    let steps = [
        (claim("own", CapacityType::Customer, 1), vec!["reserved 1 0.00"]),
        (create(many("chat", 1)), vec![]),
        (create(many("more", 1)), vec!["on_demand 1 48.00"]),
        (claim("hold", CapacityType::Serverless, 1), vec!["claim 1 52.00"]),
        (create(cheap), vec!["spot 1 20.00"]),
        (create(many("late", 2)), vec!["on_demand 1 48.00"]),
    ];
    for (action, expected) in steps {
        let dry = told(what_if(&world, action.clone()).cost);
        let command = Command { caller: Caller::provider(), action };
        let mut copy = world.controller.clone();
        let priced = copy.submit_priced(world.now, command.clone()).expect("a good command");
        let told = told(priced.cost);
        assert_eq!((&told, &told.0), (&dry, &expected.into_iter().map(str::to_owned).collect()));
        world.command(command.action).expect("a good command");
        world.run(40);
    }
}

#[test]
fn without_a_price_the_cost_is_unknown_and_never_nothing() {
    let mut world = World::with_nodes(1, 0);
    world.organization("acme");
    assert_eq!(what_if(&world, create(spec("chat"))).cost, None);
}

/// `low` of an organization holds `node-2` beyond its min: the new one of a rollout.
fn low_above_its_min(world: &mut World, organization: &str) -> ReplicaId {
    world.deploy_for(organization, spec("low")).expect("a deployment");
    world.until(60, "it serves", |world| world.ready("low") == ["node-1"]);
    world.agent("node-2").loads_hang = true;
    let mut changed = spec("low");
    changed.runtime.config = BTreeMap::from([("seed".to_owned(), "1".to_owned())]);
    world.replace(changed).expect("a rollout");
    world.run(1);
    world.replica_on("low", "node-2").expect("the new one starts")
}

fn high() -> Spec {
    Spec { priority: Priority::new(900).expect("in range"), ..spec("high") }
}

#[test]
fn who_would_be_preempted_is_named_with_the_one_that_takes_the_place() {
    let mut world = priced(2, 0);
    let victim = low_above_its_min(&mut world, "acme");
    let outcome = what_if(&world, create(high()));
    let of = |name: &str| {
        let mut placed = outcome.placements.iter().filter(|it| it.deployment.is(name));
        placed.next().expect("it is told").node.clone()
    };
    assert_eq!(of("high"), Some("node-2".into()));
    assert_eq!(of("low"), None, "who takes the victim's place has none yet");
    let [parting] = outcome.leaving.as_slice() else { panic!("{:?}", outcome.leaving) };
    assert_eq!((parting.replica, parting.because), (victim, StopCause::Preempted));
    assert_eq!((&parting.deployment, &parting.node), (&id("low"), &Some("node-2".into())));
    assert_eq!(parting.until, world.now + Millis::from_seconds(30), "its grace");
    assert!(parting.sentence.contains("high (priority 900)"), "{}", parting.sentence);
    assert_eq!(outcome.others_leaving, 0);
    assert_eq!(told(outcome.cost).1, 0, "the node is paid for already");
}

#[test]
fn a_tenant_learns_of_others_who_would_leave_their_count() {
    let mut world =
        World::under(Policy { priority_scope: PriorityScope::Fleet, ..Policy::default() });
    world.add_nodes(2, ComputeClass::Standard);
    world.run(10);
    world.organization("acme");
    low_above_its_min(&mut world, "zeta");
    let caller =
        Caller { organization: "acme".into(), token: None, roles: [Role::Operator].into() };
    let command = Command { caller, action: create(high()) };
    let outcome = world.controller.what_if(world.now, command).expect("a good command");
    assert_eq!((outcome.leaving.len(), outcome.others_leaving), (0, 1));
    assert_eq!(outcome.placements.len(), 1);
    let shown = format!("{:?}{:?}", outcome.placements, outcome.leaving);
    assert!(!shown.contains("zeta") && !shown.contains("low"), "{shown}");
}

#[test]
fn what_would_be_taken_back_is_named_with_its_timeline() {
    let world = priced(0, 1);
    let reclaim = Nodes::Reclaim {
        node: "node-1".into(),
        reason: "a test".to_owned(),
        leaves: Leaves::Node,
        drain_after: None,
        gone_after: None,
    };
    let outcome = what_if(&world, Action::Node(reclaim));
    let [reclaimed] = outcome.reclaims.as_slice() else { panic!("{:?}", outcome.reclaims) };
    assert_eq!(reclaimed.node, "node-1".into());
    assert_eq!(reclaimed.drain_at.since(world.now), Millis::from_seconds(120));
    assert_eq!(reclaimed.gone_at.since(world.now), Millis::from_seconds(420));
}
