//! Replicas that fell back from spot, and go back to it when there is room again.

use wharfage_scheduler_core::Policy;
use wharfage_scheduler_core::words::deployment::{Bounds, Scaling, Spec};
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::notice::Leaves;

use crate::world::{Link, World, spec};

fn spot_first(replicas: u32) -> Spec {
    let bounds = Bounds::new(replicas, replicas + 2).expect("in range");
    let scaling = Scaling::coreweave(bounds, None);
    let classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    Spec { classes, scaling, ..spec("chat") }
}

/// One that serves on node-1, a standard node, since no spot was to be had; then node-2 joins, which
/// is spot.
fn fallen_back(policy: Policy, change: impl Fn(&mut Spec)) -> World {
    let mut world = World::under(policy);
    world.add_nodes(1, ComputeClass::Standard);
    world.run(10);
    let mut spec = spot_first(1);
    change(&mut spec);
    world.deploy(spec);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.add_nodes(1, ComputeClass::Spot);
    world
}

fn moving(world: &World) -> usize {
    world.replicas("chat").iter().filter(|row| row.moving.is_some()).count()
}

#[test]
fn after_a_while_it_goes_back_to_spot_and_serves_all_the_time() {
    let mut world = fallen_back(Policy::default(), |_| {});
    world.run(500);
    assert_eq!(moving(&world), 0, "spot that has just come may go again");
    world.until(160, "it sets out", |world| moving(world) == 1);
    let old = world.replica_on("chat", "node-1").expect("it stays for now");
    let new = world.replica_on("chat", "node-2").expect("it starts");
    let why = world.fleet().replica(old).and_then(|row| row.because()).unwrap_or_default();
    let says = format!("it moves: {new} on node-2 goes on in its stead, on spot, which its");
    assert!(why.starts_with(&says), "{why}");
    while !world.ready("chat").contains(&"node-2".to_owned()) {
        assert_eq!(world.ready("chat"), ["node-1"], "{}", world.picture());
        world.run(1);
    }
    world.until(60, "the old one is gone", |world| world.places("chat") == ["node-2"]);
    let said = world.fleet().replica(old).and_then(|row| row.because()).unwrap_or_default();
    assert!(said.starts_with("it goes on elsewhere: "), "{said}");
    world.run(1_000);
    assert_eq!((world.ready("chat"), moving(&world)), (vec!["node-2".to_owned()], 0));
    world.replay_everything();
}

#[test]
fn it_stays_where_the_fleet_or_its_owner_says_so_or_where_two_must_never_run() {
    type Change = fn(&mut Spec);
    let off = Policy { spot_return: false, ..Policy::default() };
    let no_budget = Policy { consolidation_moves_per_hour: 0, ..Policy::default() };
    let liked: Change = |spec| spec.classes = vec![CapacityClass::OnDemand, CapacityClass::Spot];
    let cases: [(&str, Policy, Change); 5] = [
        ("switched off", off, |_| {}),
        ("no budget", no_budget, |_| {}),
        ("left alone", Policy::default(), |spec| spec.extension.consolidation = false),
        ("never two", Policy::default(), |spec| spec.extension.single_copy = true),
        ("on-demand first", Policy::default(), liked),
    ];
    for (why, policy, change) in cases {
        let mut world = fallen_back(policy, change);
        world.run(900);
        assert_eq!((world.places("chat"), moving(&world)), (vec!["node-1".to_owned()], 0), "{why}");
    }
}

#[test]
fn consolidation_may_be_off_and_replicas_still_go_back() {
    let policy = Policy { consolidation: false, ..Policy::default() };
    let mut world = fallen_back(policy, |_| {});
    world.until(900, "it is there", |world| world.places("chat") == ["node-2"]);
}

#[test]
fn a_successor_that_does_not_start_leaves_it_where_it_is() {
    let deadline = |spec: &mut Spec| spec.extension.start_deadline_seconds = Some(40);
    let mut world = fallen_back(Policy::default(), deadline);
    world.run(10);
    world.agent("node-2").loads_hang = true;
    world.until(700, "it sets out", |world| moving(world) == 1);
    world.until(90, "it is given up", |world| moving(world) == 0);
    assert_eq!(world.ready("chat"), ["node-1"], "{}", world.picture());
    world.agent("node-2").loads_hang = false;
    world.until(1_200, "it is tried again", |world| world.places("chat") == ["node-2"]);
}

#[test]
fn spot_that_goes_again_meanwhile_costs_nobody_anything() {
    let mut world = fallen_back(Policy::default(), |_| {});
    world.run(10);
    world.agent("node-2").loads_hang = true;
    world.until(700, "it sets out", |world| moving(world) == 1);
    let now = world.now;
    world.agent("node-2").notice("n", 120, Leaves::Node, now);
    world.run(2);
    assert_eq!((world.ready("chat"), moving(&world)), (vec!["node-1".to_owned()], 0));
    world.run(300);
    assert_eq!(world.places("chat"), ["node-1"], "{}", world.picture());
}

#[test]
fn of_one_deployment_they_go_one_after_the_other() {
    let mut world = World::under(Policy::default());
    world.add_nodes(2, ComputeClass::Standard);
    world.run(10);
    let whole = wharfage_scheduler_core::words::deployment::GpuCount::new(8).expect("allowed");
    world.deploy(Spec { gpus: whole, ..spot_first(2) });
    world.until(60, "they serve", |world| world.ready("chat").len() == 2);
    world.add_nodes(2, ComputeClass::Spot);
    let mut most = 0;
    for _ in 0..1_200 {
        world.run(1);
        most = most.max(moving(&world));
        assert!(world.ready("chat").len() >= 2, "{}", world.picture());
    }
    let on_spot = |row: &&&wharfage_scheduler_core::fleet::rows::replica::ReplicaRow| matches!(&row.phase, Phase::Placed { seat, .. } if seat.node.as_str() >= "node-3");
    assert_eq!((most, world.replicas("chat").iter().filter(on_spot).count()), (1, 2));
}

#[test]
fn a_replica_on_a_lost_node_keeps_nobody_from_going_back() {
    let mut world = fallen_back(Policy::default(), |_| {});
    world.until(900, "it is there", |world| world.places("chat") == ["node-2"]);
    world.agent("node-2").link = Link::Dead;
    world.until(200, "it is lost", |world| world.ready("chat") == ["node-1"]);
    world.add_nodes(1, ComputeClass::Spot);
    world.until(900, "it goes back again", |world| world.ready("chat") == ["node-3"]);
}
