//! Lent spot: idle standard nodes are lent whole, and called back on the seed's timeline for whoever
//! has a right to them.

use std::collections::BTreeMap;

use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::event::node::Event as NodeEvent;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Action, Caller, Command, Event, Policy, explain, ledger};
use wharfage_shared::capacity::CapacityClass::{OnDemand, Spot};
use wharfage_shared::capacity::{CapacityType, ComputeClass, Zone};
use wharfage_shared::ids::PoolId;
use wharfage_shared::notice::Leaves;

use crate::world::{Link, SKU, World, id, spec};

/// So many replicas of eight GPUs on spot alone.
fn cheap(world: &mut World, name: &str, count: u32) {
    let mut wanted = spec(name);
    wanted.classes = vec![Spot];
    wanted.scaling.bounds = Bounds::new(count, count).expect("in order");
    world.deploy_for("zeta", wanted).expect("a deployment");
    world.run(30);
}

/// `node-1 ready`, in order.
fn waits(world: &World, name: &str) -> String {
    let rows = world.replicas(name);
    let because = rows.iter().find(|row| matches!(row.phase, Phase::Pending { .. }));
    because.and_then(|row| row.because()).unwrap_or_default()
}

fn notices(world: &World) -> Vec<(String, u64, u64)> {
    let mut told = Vec::new();
    for node in world.fleet().nodes() {
        for notice in node.notices.values() {
            assert_eq!(notice.leaves, Leaves::Replicas, "what is lent stays");
            let after = |at: wharfage_shared::time::Timestamp| at.since(notice.heard_at).0 / 1000;
            told.push((node.id.to_string(), after(notice.drain_at), after(notice.gone_at)));
        }
    }
    told
}

fn sold(world: &World, node: &str) -> ComputeClass {
    world.fleet().node(&node.into()).expect("known").sold()
}

#[test]
fn a_standard_node_is_lent_only_where_no_spot_node_fits_and_is_standard_again_when_empty() {
    let mut world = World::with_nodes(1, 1);
    cheap(&mut world, "batch", 1);
    assert_eq!(world.places("batch"), ["node-2"], "declared spot first");
    cheap(&mut world, "more", 1);
    assert_eq!(world.places("more"), ["node-1"], "then what is idle");
    assert_eq!(sold(&world, "node-1"), ComputeClass::Spot);
    let row = &ledger::capacity(world.fleet())[0];
    assert_eq!((row.usable, row.used, row.reclaimable, row.idle), (1, 0, 1, 0));
    world.delete("more").expect("it is there");
    world.until(60, "it is given back", |world| sold(world, "node-1") == ComputeClass::Standard);
    cheap(&mut world, "again", 1);
    assert_eq!(world.places("again"), ["node-1"], "nobody called it back: it is lent again");
}

#[test]
fn who_names_on_demand_too_is_lent_only_what_is_guaranteed_to_others() {
    let mut world = World::with_nodes(2, 0);
    world.sign("zeta", 1, 30).expect("one of two");
    world.run(1);
    let mut wanted = spec("chat");
    wanted.classes = vec![Spot, OnDemand];
    wanted.scaling.bounds = Bounds::new(2, 2).expect("in order");
    world.deploy(wanted);
    world.until(60, "both serve", |world| world.ready("chat").len() == 2);
    let sold = ["node-1", "node-2"].map(|node| sold(&world, node));
    assert_eq!(sold, [ComputeClass::Standard, ComputeClass::Spot]);
}

#[test]
fn an_on_demand_ask_that_only_spot_stands_in_the_way_of_calls_the_cheapest_back_in_time() {
    let mut world = World::with_nodes(2, 0);
    cheap(&mut world, "old", 1);
    world.run(60);
    cheap(&mut world, "young", 1);
    world.until(60, "both serve", |world| world.ready("young").len() == 1);
    world.deploy(spec("chat"));
    assert_eq!(notices(&world), [("node-2".to_owned(), 120, 420)], "what served least is lost");
    let because = waits(&world, "chat");
    assert!(because.starts_with("will run at 2026-01-05T00:"), "{because}");
    assert!(because.ends_with("reclaims node-2, which is lent as spot"), "{because}");
    let replica = world.replicas("chat")[0].id;
    let told = explain::replica(world.fleet(), &Policy::default(), replica, world.now);
    let earliest = told.expect("it is known").earliest.expect("it is known when");
    assert_eq!(earliest.at.map(|at| at.since(world.now).0), Some(420_000));
    world.run(118);
    assert_eq!(world.ready("young"), ["node-2"], "it serves until its drain");
    world.until(302, "it runs", |world| world.ready("chat") == ["node-2"]);
    assert_eq!((world.ready("old").len(), world.pending("young")), (1, 1));
    assert_eq!(sold(&world, "node-2"), ComputeClass::Standard);
}

#[test]
fn where_fewer_serve_less_is_lost_however_long_they_have() {
    let mut world = World::with_nodes(2, 0);
    cheap(&mut world, "old", 1);
    world.run(60);
    let mut pair = Spec { classes: vec![Spot], ..spec("pair") };
    pair.gpus = GpuCount::new(4).expect("allowed");
    pair.scaling.bounds = Bounds::new(2, 2).expect("in order");
    world.deploy_for("zeta", pair).expect("a deployment");
    world.until(60, "both serve", |world| world.ready("pair") == ["node-2", "node-2"]);
    world.deploy(spec("chat"));
    assert_eq!(notices(&world), [("node-1".to_owned(), 120, 420)]);
}

#[test]
fn a_guarantee_is_given_although_all_that_is_idle_was_lent() {
    let mut world = World::with_nodes(2, 0);
    world.sign("acme", 1, 30).expect("two are there");
    world.run(1);
    cheap(&mut world, "batch", 2);
    world.deploy_for("beta", spec("extra")).expect("a deployment");
    world.deploy_for("beta", spec("beyond")).expect("a deployment");
    assert_eq!(notices(&world).len(), 1, "on demand: what is guaranteed to acme is not for beta");
    world.deploy(spec("chat"));
    assert_eq!(notices(&world).len(), 2, "its contract is called for");
    world.until(460, "both run", |world| {
        world.ready("chat").len() + world.ready("extra").len() + world.ready("beyond").len() == 2
    });
    assert_eq!(world.ready("chat").len(), 1, "{}", world.picture());
}

#[test]
fn what_fits_beside_each_other_calls_one_node_back_and_what_still_would_not_fit_none() {
    let mut world = World::with_nodes(3, 0);
    cheap(&mut world, "batch", 3);
    let mut small = spec("small");
    small.gpus = GpuCount::new(4).expect("allowed");
    small.scaling.bounds = Bounds::new(2, 2).expect("in order");
    world.deploy(small);
    assert_eq!(notices(&world).len(), 1, "two of four GPUs share a node");
    let mut elsewhere = spec("elsewhere");
    elsewhere.zone = Some(Zone::new("US-EAST-04B"));
    world.deploy(elsewhere);
    let mut other = spec("other");
    other.runtime.version = "9.9.9".to_owned();
    world.deploy(other);
    assert_eq!(notices(&world).len(), 1, "another zone and another engine gain nothing");
}

#[test]
fn who_needs_it_no_more_calls_it_back_no_more_until_its_drain() {
    let mut world = World::with_nodes(1, 0);
    cheap(&mut world, "batch", 1);
    world.deploy(spec("chat"));
    world.run(60);
    assert_eq!(notices(&world).len(), 1);
    world.delete("chat").expect("it is there");
    world.run(10);
    assert_eq!((notices(&world).len(), world.ready("batch").len()), (0, 1), "it stays");
    world.deploy(spec("late"));
    world.run(130);
    world.delete("late").expect("it is there");
    world.run(60);
    assert_eq!(world.pending("batch"), 1, "it was drained, and what was called back is not lent");
    assert_eq!(sold(&world, "node-1"), ComputeClass::Standard);
}

#[test]
fn what_was_called_back_is_not_lent_again_within_the_hour() {
    let mut world = World::with_nodes(1, 0);
    cheap(&mut world, "batch", 1);
    world.deploy(spec("chat"));
    world.until(460, "it runs", |world| world.ready("chat").len() == 1);
    world.delete("chat").expect("it is there");
    world.run(60);
    let told = explain::deployment(world.fleet(), &Policy::default(), &id("batch"), world.now);
    let groups = told.expect("it is known").groups;
    assert_eq!(groups[0].because, "not lent as spot: it was called back lately");
    assert_eq!(world.pending("batch"), 1);
    world.restart_scheduler();
    world.run(60);
    world.until(3600, "the hour is over", |world| world.ready("batch").len() == 1);
    let again = world
        .log
        .iter()
        .rposition(|event| matches!(event, Event::Node(NodeEvent::Lendable { .. })));
    assert!(again.is_some(), "that it may be lent again is a fact");
}

#[test]
fn a_claim_calls_lent_nodes_back_and_shows_them_as_pending() {
    let mut world = World::with_nodes(2, 0);
    cheap(&mut world, "batch", 2);
    world.claim("hold", CapacityType::Serverless, 1).expect("one can be called back");
    assert_eq!((world.counts("hold"), notices(&world).len()), ((0, 1), 1));
    world.claim("more", CapacityType::Serverless, 2).expect_err("one is left");
    world.until(460, "it has it", |world| world.counts("hold") == (1, 0));
    world.claim("brief", CapacityType::Serverless, 1).expect("the other one");
    world.unclaim("brief").expect("it is there");
    world.run(5);
    assert_eq!((notices(&world).len(), world.ready("batch").len()), (0, 1), "it may stay");
}

#[test]
fn a_claim_waits_for_its_own_organizations_spot_to_leave_too() {
    let mut world = World::with_nodes(1, 0);
    cheap(&mut world, "batch", 1);
    let own = crate::world::claimed("hold", CapacityType::Serverless, 1);
    world.claim_for("zeta", own).expect("it can be called back");
    world.run(60);
    assert_eq!((world.counts("hold"), world.ready("batch").len()), ((0, 1), 1), "spot until then");
    world.until(400, "it has it", |world| world.counts("hold") == (1, 0));
}

#[test]
fn a_lost_node_that_was_called_back_is_replaced_by_another() {
    let mut world = World::with_nodes(2, 0);
    cheap(&mut world, "batch", 2);
    world.deploy(spec("chat"));
    let called = notices(&world)[0].0.clone();
    world.agent(&called).link = Link::Cut;
    world.run(60);
    let now = notices(&world);
    let other = if called == "node-1" { "node-2" } else { "node-1" };
    assert!(now.iter().any(|(node, ..)| node == other), "{now:?}");
    world.until(460, "it runs", |world| world.ready("chat") == [other]);
}

#[test]
fn an_operator_may_take_a_lent_node_back_and_no_other_standard_one() {
    let mut world = World::with_nodes(2, 0);
    cheap(&mut world, "batch", 1);
    let reclaim = |node: &str| {
        let (node, reason, leaves) = (node.into(), "a test".to_owned(), Leaves::Node);
        let action = Nodes::Reclaim { node, reason, leaves, drain_after: None, gone_after: None };
        Action::Node(action)
    };
    world.command(reclaim("node-2")).expect_err("it is idle and standard");
    world.command(reclaim("node-1")).expect("it is lent");
    world.until(160, "it moved", |world| world.ready("batch") == ["node-2"]);
    world.until(60, "it is standard", |world| sold(world, "node-1") == ComputeClass::Standard);
    assert!(notices(&world).is_empty(), "nothing is left to be taken back");
}

#[test]
fn lending_is_switched_off_by_fleet_and_by_pool_and_superchips_are_never_lent() {
    let pool = PoolId::new(format!("{SKU}-standard-us-east-04a"));
    for (lend_idle, lend_idle_of_pools, lends) in [
        (false, BTreeMap::new(), 0),
        (true, BTreeMap::from([(pool.clone(), false)]), 0),
        (false, BTreeMap::from([(pool, true)]), 1),
    ] {
        let policy = Policy { lend_idle, lend_idle_of_pools, ..Policy::default() };
        let mut world = World::under(policy);
        world.add_nodes(1, ComputeClass::Standard);
        world.run(10);
        cheap(&mut world, "batch", 1);
        assert_eq!(world.ready("batch").len(), lends);
    }
    let mut world = World::new();
    world.add_node(ComputeClass::Standard, "gb200-4x", "US-EAST-04A", 4);
    world.run(10);
    let mut wanted = spec("batch");
    wanted.sku = wharfage_shared::capacity::Sku::new("gb200-4x");
    (wanted.gpus, wanted.classes) = (GpuCount::new(4).expect("allowed"), vec![Spot]);
    world.deploy(wanted);
    world.run(30);
    assert_eq!(world.pending("batch"), 1);
}

#[test]
fn a_dry_run_says_who_would_be_called_back_and_changes_nothing() {
    let mut world = World::with_nodes(1, 0);
    cheap(&mut world, "batch", 1);
    let (organization, mut wanted) = (world.organization("acme"), spec("chat"));
    wanted.classes = vec![OnDemand];
    let action =
        Deployments::Create { id: id("chat"), organization, spec: std::sync::Arc::new(wanted) };
    let command = Command { caller: Caller::provider(), action: Action::Deployment(action) };
    let outcome = world.controller.what_if(world.now, command).expect("a deployment");
    let told: Vec<(&str, u64)> = outcome
        .reclaims
        .iter()
        .map(|it| (it.node.as_str(), it.gone_at.since(world.now).0))
        .collect();
    assert_eq!(told, [("node-1", 420_000)]);
    assert!(outcome.placements[0].because.contains("reclaims node-1"), "{outcome:?}");
    assert!(notices(&world).is_empty());
}

#[test]
fn what_is_called_back_for_one_is_not_given_to_another_meanwhile() {
    let mut world = World::with_nodes(2, 0);
    let here = |name: &str| Spec { zone: Some(Zone::new("US-EAST-04A")), ..spec(name) };
    let mut batch = Spec { classes: vec![Spot], ..here("batch") };
    batch.scaling.bounds = Bounds::new(2, 2).expect("in order");
    world.deploy_for("zeta", batch).expect("a deployment");
    world.run(30);
    world.add_standard("US-EAST-04B");
    world.run(10);
    world.sign("beta", 2, 30).expect("two of three");
    world.run(1);
    world.deploy(here("chat"));
    assert_eq!(notices(&world).len(), 1, "only spot stands in its way");
    world.deploy_for("gamma", spec("later")).expect("a deployment");
    assert_eq!(world.pending("later"), 1, "node-3 is idle, and one of three is called back");
    assert_eq!(notices(&world).len(), 1, "nor is another one called back for it");
    world.sign("gamma", 1, 30).expect_err("nor is it for a contract");
    let mut elsewhere = crate::world::claimed("hold", CapacityType::Serverless, 1);
    elsewhere.zone = Zone::new("US-EAST-04B");
    world.claim_for("gamma", elsewhere).expect_err("nor is it for a claim");
    world.until(460, "chat runs", |world| world.ready("chat").len() == 1);
    assert_eq!(world.pending("later"), 1);
}

#[test]
fn whoever_takes_an_instance_in_place_of_what_is_called_back_ends_the_call() {
    let mut world = World::with_nodes(2, 0);
    world.sign("acme", 1, 30).expect("one of two");
    world.run(1);
    cheap(&mut world, "one", 1);
    cheap(&mut world, "two", 1);
    let gpus = GpuCount::new(1).expect("allowed");
    world.deploy_for("zeta", Spec { gpus, ..spec("small") }).expect("a deployment");
    let called = notices(&world)[0].0.clone();
    let priority = Priority::new(900).expect("in range");
    world.deploy_for("zeta", Spec { priority, ..spec("large") }).expect("a deployment");
    assert_eq!(notices(&world).len(), 1, "acme's is not for zeta");
    let (leaves, stays) = if called == "node-1" { ("two", "one") } else { ("one", "two") };
    world.delete(leaves).expect("it is there");
    world.until(60, "it has the other node", |world| world.places("large").len() == 1);
    assert_eq!((notices(&world).len(), world.ready(stays)), (0, vec![called]));
    assert_eq!(world.pending("small"), 1, "there is nothing more for zeta");
}

#[test]
fn nothing_is_placed_for_what_stays_after_all_where_its_node_is_called_back_no_more() {
    let mut world = World::with_nodes(1, 0);
    let gpus = GpuCount::new(4).expect("allowed");
    let half = Spec { classes: vec![Spot], gpus, ..spec("half") };
    world.deploy_for("zeta", half).expect("a deployment");
    world.until(60, "it serves", |world| world.ready("half") == ["node-1"]);
    world.deploy(spec("chat"));
    world.run(5);
    assert_eq!((notices(&world).len(), world.pending("half")), (1, 1), "its successor waits");
    world.delete("chat").expect("it is there");
    world.run(5);
    assert_eq!((notices(&world).len(), world.replicas("half").len()), (0, 1));
    let placed = |event: &&Event| matches!(event, Event::Replica(Replicas::Placed { .. }));
    assert_eq!(
        world.log.iter().filter(placed).count(),
        1,
        "half of node-1 is free, and not needed"
    );
}

#[test]
fn nobody_is_moved_for_one_that_waits_for_a_node_that_is_called_back() {
    let mut world = World::with_nodes(2, 0);
    for (name, gpus) in [("a", 4), ("b", 4), ("c", 4)] {
        let mut half = spec(name);
        half.gpus = GpuCount::new(gpus).expect("allowed");
        world.deploy(half);
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    world.delete("b").expect("it goes");
    world.run(40);
    world.add_nodes(1, ComputeClass::Standard);
    world.run(10);
    cheap(&mut world, "batch", 1);
    assert_eq!(sold(&world, "node-3"), ComputeClass::Spot);
    world.deploy(spec("big"));
    world.run(100);
    assert!(waits(&world, "big").ends_with("reclaims node-3, which is lent as spot"));
    let moves = |world: &World| world.fleet().replicas().any(|row| row.moving.is_some());
    assert!(!moves(&world), "room is on its way: half of each node is free, and nobody moves");
    world.agent("node-3").link = Link::Cut;
    world.until(120, "others move once nothing comes back", moves);
    world.until(120, "it serves", |world| world.ready("big").len() == 1);
}

#[test]
fn what_was_lent_a_moment_ago_is_called_back_a_moment_later() {
    let mut world = World::with_nodes(1, 0);
    world.verb(crate::world::cordon, "node-1").expect("an operator may");
    let first = Priority::new(300).expect("in range");
    world.deploy(Spec { classes: vec![Spot], priority: first, ..spec("first") });
    world.deploy(spec("second"));
    world.run(10);
    world.verb(crate::world::uncordon, "node-1").expect("an operator may");
    world.until(1, "it is lent", |world| sold(world, "node-1") == ComputeClass::Spot);
    assert!(notices(&world).is_empty(), "nobody starts under a warning");
    world.run(1);
    assert_eq!(notices(&world), [("node-1".to_owned(), 120, 420)]);
    world.until(460, "it runs", |world| world.ready("second") == ["node-1"]);
}
