//! Replicas that move so that a waiting one fits, and those that stay where they are.

use wharfage_scheduler_core::words::deployment::{GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Event, Policy, explain};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Millis;

use crate::world::{World, cordon, spec};

fn of(name: &str, gpus: u32, priority: u32) -> Spec {
    let gpus = GpuCount::new(gpus).expect("allowed");
    Spec { gpus, priority: Priority::new(priority).expect("in range"), ..spec(name) }
}

/// `a` holds half of node-1 and `c` half of node-2: eight GPUs are free and no whole node. `a`
/// starts sooner, so that it is the one to move.
fn scattered(policy: Policy, change: impl Fn(&mut Spec)) -> World {
    scattered_after(15, policy, change)
}

/// The same, where `c` starts so many seconds later than it would.
fn scattered_after(seconds: u64, policy: Policy, change: impl Fn(&mut Spec)) -> World {
    let mut world = World::under(policy);
    world.add_nodes(2, ComputeClass::Standard);
    world.run(10);
    for name in ["a", "b", "c"] {
        let mut spec = of(name, 4, 100);
        change(&mut spec);
        world.deploy(spec);
        if name == "c" {
            world.agent("node-2").loads_hang = true;
            world.run(seconds);
            world.agent("node-2").loads_hang = false;
        }
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    world.delete("b").expect("it goes");
    let freed = |world: &World| world.fleet().nodes().all(|node| node.free() == 4);
    world.until(60, "each node has four free", freed);
    world
}

fn moves(world: &World) -> usize {
    let rows = world.fleet().replicas();
    let moved = rows.filter(|row| match &row.phase {
        Phase::Placed { .. } => row.moving.is_some(),
        Phase::Leaving { leaving, .. } => leaving.because == StopCause::Moved,
        Phase::Stopped { because, .. } => *because == StopCause::Moved,
        Phase::Pending { .. } | Phase::Promised { .. } => false,
    });
    moved.count()
}

fn waits_for_moves(world: &World) -> bool {
    world.replicas("big").iter().any(|row| !row.moves.is_empty())
}

#[test]
fn one_goes_on_elsewhere_before_it_leaves_and_what_waits_gets_the_whole_node() {
    let mut world = scattered(Policy::default(), |_| {});
    world.deploy(of("big", 8, 100));
    world.run(20);
    assert_eq!(moves(&world), 0, "nobody is moved for what has just come");
    world.until(60, "room is made", waits_for_moves);
    let (big, a) = (world.replicas("big")[0].clone(), world.replicas("a").len());
    assert!(matches!(&big.phase, Phase::Promised { seat, .. } if seat.node.as_str() == "node-1"));
    assert_eq!(a, 2, "the successor stands beside the one that moves");
    let [old, new] = [world.replica_on("a", "node-1"), world.replica_on("a", "node-2")];
    let (old, new) = (old.expect("it stays for now"), new.expect("it starts"));
    let took = world.fleet().deployment(&"a".into()).and_then(|of| of.last_start);
    let took = took.expect("it has started once");
    assert_eq!(
        big.because().as_deref(),
        Some(
            format!(
                "{old} to node-2 moves from node-1 to make room for it, of all plans the one that \
                 loads least ({took})"
            )
            .as_str()
        )
    );
    let why = world.fleet().replica(old).and_then(|row| row.because());
    let says = format!(
        "it moves: {new} on node-2 goes on in its stead, so that {} of big fits here",
        big.id
    );
    assert_eq!(why, Some(says));
    let explained = explain::replica(world.fleet(), &Policy::default(), big.id, world.now);
    let explained = explained.expect("it is there");
    assert!(explained.summary.contains("moves from node-1 to make room"), "{}", explained.summary);
    let when = explained.earliest.expect("a start takes a while").because;
    assert!(when.starts_with("what moves from node-1 starts elsewhere within"), "{when}");
    while world.places("big").is_empty() {
        assert!(!world.ready("a").is_empty(), "a serves all the time\n{}", world.picture());
        world.run(1);
    }
    assert_eq!(world.ready("a"), ["node-2"]);
    world.until(60, "it serves", |world| world.ready("big") == ["node-1"]);
    let row = world.fleet().replica(old).expect("it is remembered").because();
    let said = row.unwrap_or_default();
    assert!(said.starts_with("it goes on elsewhere: "), "{said}");
    assert_eq!(moves(&world), 1);
    world.replay_everything();
}

#[test]
fn nobody_moves_where_the_fleet_says_so_or_its_budget_is_used_up() {
    for (consolidation, budget) in [(false, 60), (true, 0)] {
        let consolidation_moves_per_hour = budget;
        let policy = Policy { consolidation, consolidation_moves_per_hour, ..Policy::default() };
        let mut world = scattered(policy, |_| {});
        world.deploy(of("big", 8, 900));
        world.run(120);
        assert_eq!((moves(&world), world.pending("big")), (0, 1));
    }
}

/// What explain says of moves that would make room for `big`.
fn told(world: &World) -> String {
    let row = world.replicas("big").into_iter().next().expect("it waits").id;
    let policy = world.controller.policy();
    let explained = explain::replica(world.fleet(), policy, row, world.now).expect("it is there");
    let said = explained.moves.unwrap_or_default();
    assert!(explained.summary.contains(&said), "{}", explained.summary);
    said
}

#[test]
fn explain_says_that_a_move_would_help_and_what_stands_in_the_way() {
    type Change = fn(&mut Spec);
    let stays: Change = |spec| spec.extension.consolidation = false;
    let single: Change = |spec| spec.extension.single_copy = true;
    let policies: [(bool, u32, Change, &str); 5] = [
        (false, 60, |_| {}, ", and consolidation is switched off"),
        (true, 0, |_| {}, ", and 0 moves an hour are allowed"),
        (true, 60, stays, ", and their deployments say `consolidation: false`"),
        (true, 60, |_| {}, ", which is decided every 30s for what waits as long"),
        (true, 60, single, ""),
    ];
    for (consolidation, budget, change, why) in policies {
        let consolidation_moves_per_hour = budget;
        let policy = Policy { consolidation, consolidation_moves_per_hour, ..Policy::default() };
        let mut world = scattered(policy, change);
        world.deploy(of("big", 8, 900));
        world.run(5);
        let a = world.replica_on("a", "node-1").expect("it serves");
        let moves = format!("moving {a} to node-2 would make room on node-1{why}");
        assert_eq!(told(&world), if why.is_empty() { String::new() } else { moves });
    }
}

#[test]
fn what_must_not_move_stays_and_so_does_a_higher_priority() {
    type Change = fn(&mut Spec);
    let stays: [(&str, u32, Change); 3] = [
        ("its owner wants it so", 100, |spec| spec.extension.consolidation = false),
        ("two of it must never run", 100, |spec| spec.extension.single_copy = true),
        ("it has the higher priority", 99, |_| {}),
    ];
    for (why, priority, change) in stays {
        let mut world = scattered(Policy::default(), change);
        world.deploy(of("big", 8, priority));
        world.run(120);
        assert_eq!((moves(&world), world.pending("big")), (0, 1), "{why}");
    }
}

#[test]
fn who_moves_goes_to_ground_that_it_likes_as_much() {
    let (spot, on_demand) = (CapacityClass::Spot, CapacityClass::OnDemand);
    for (classes, moved) in [(vec![on_demand, spot], 0), (vec![spot, on_demand], 1)] {
        let mut world = World::with_nodes(1, 1);
        for (name, classes) in [("x", vec![spot]), ("stays", vec![spot]), ("a", classes)] {
            world.deploy(Spec { classes, ..of(name, 4, 100) });
            world.until(60, "it serves", |world| world.ready(name).len() == 1);
        }
        assert_eq!(world.ready("a"), at_node_1(), "the spot node is full");
        world.delete("x").expect("it goes");
        world.run(40);
        world.deploy(of("big", 8, 100));
        world.run(120);
        assert_eq!((moves(&world), world.ready("big").len()), (moved, moved));
    }
}

#[test]
fn the_plan_that_loads_least_is_chosen() {
    let mut world = scattered_after(0, Policy::default(), |_| {});
    world.deploy(of("big", 8, 100));
    world.until(90, "it serves", |world| world.ready("big") == ["node-2"]);
    assert_eq!((world.places("a"), world.places("c")), (at_node_1(), at_node_1()));
}

fn at_node_1() -> Vec<String> {
    vec!["node-1".to_owned()]
}

#[test]
fn a_successor_that_does_not_start_leaves_everybody_where_they_are() {
    let deadline = |spec: &mut Spec| spec.extension.start_deadline_seconds = Some(40);
    let mut world = scattered(Policy::default(), deadline);
    world.agent("node-2").loads_hang = true;
    world.deploy(of("big", 8, 100));
    world.until(60, "room is made", waits_for_moves);
    world.until(90, "it is given up", |world| !waits_for_moves(world));
    assert_eq!(world.pending("big"), 1);
    assert_eq!(world.ready("a"), ["node-1"], "nobody had left yet");
    world.agent("node-2").loads_hang = false;
    world.until(400, "it is tried again", |world| world.ready("big").len() == 1);
}

#[test]
fn a_notice_or_a_cordon_on_the_freed_node_ends_the_plan() {
    for by_notice in [true, false] {
        let mut world = scattered(Policy::default(), |_| {});
        world.agent("node-2").loads_hang = true;
        world.deploy(of("big", 8, 100));
        world.until(60, "room is made", waits_for_moves);
        let now = world.now;
        if by_notice {
            world.agent("node-1").notice("n", 600, Leaves::Node, now);
        } else {
            world.verb(cordon, "node-1").expect("a cordon");
        }
        world.run(2);
        assert!(!waits_for_moves(&world), "{}", world.picture());
        assert_eq!(world.ready("a"), ["node-1"]);
        let successors = usize::from(by_notice);
        assert_eq!(world.places("a").len(), 1 + successors, "one is wanted under a notice");
    }
}

#[test]
fn what_waits_takes_a_seat_that_is_free_sooner_and_nobody_has_moved() {
    let mut world = scattered(Policy::default(), |_| {});
    world.agent("node-2").loads_hang = true;
    world.deploy(of("big", 8, 100));
    world.until(60, "room is made", waits_for_moves);
    world.add_nodes(1, ComputeClass::Standard);
    world.until(60, "it serves there", |world| world.ready("big") == ["node-3"]);
    assert_eq!((world.ready("a"), world.places("a").len()), (at_node_1(), 1));
    assert_eq!(moves(&world), 0);
}

#[test]
fn two_may_move_for_one() {
    let mut world = World::with_nodes(3, 0);
    let holders = [("a", 2), ("b", 2), ("x", 4), ("c", 2), ("d", 2), ("y", 4), ("e", 2), ("f", 2)];
    for (name, gpus) in holders {
        world.deploy(of(name, gpus, 100));
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    for name in ["x", "y"] {
        world.delete(name).expect("it goes");
    }
    let freed = |world: &World| world.fleet().nodes().all(|node| node.free() == 4);
    world.until(60, "each node has four free", freed);
    world.deploy(of("big", 8, 100));
    world.until(120, "it serves", |world| world.ready("big").len() == 1);
    assert_eq!(moves(&world), 2);
}

#[test]
fn the_budget_is_one_of_every_hour() {
    let policy = Policy { consolidation_moves_per_hour: 1, ..Policy::default() };
    let mut world = scattered(policy, |_| {});
    world.deploy(of("big", 8, 100));
    world.until(120, "it serves", |world| world.ready("big") == ["node-1"]);
    let moved_at = world.now;
    world.delete("big").expect("it goes");
    world.until(60, "it is gone", |world| world.replicas("big").is_empty());
    world.deploy(of("d", 4, 100));
    world.until(60, "it serves", |world| world.ready("d") == ["node-1"]);
    world.delete("c").expect("it goes");
    world.deploy(of("next", 8, 100));
    world.run(3400);
    assert_eq!(world.pending("next"), 1, "the budget is used up");
    let next = world.replicas("next")[0].id;
    let policy = world.controller.policy();
    let told = explain::replica(world.fleet(), policy, next, world.now).expect("it waits").moves;
    let told = told.expect("a move would help");
    let (before, wait) = told.rsplit_once(": the next in ").expect("it says when");
    assert!(before.ends_with(", and of 1 moves an hour 0 are left"), "{told}");
    let begun = world.log.iter().rev().find_map(|event| match event {
        Event::Replica(Replicas::RoomMade { at, .. }) => Some(*at),
        _other => None,
    });
    let allowed = begun.expect("one has moved") + Millis::from_seconds(3600);
    assert_eq!(wait, allowed.since(world.now).to_string());
    world.until(300, "it serves", |world| world.ready("next").len() == 1);
    assert!(world.now.since(moved_at).0 >= 3_500_000);
}

#[test]
fn a_full_node_is_emptied_where_only_its_zone_will_do() {
    let mut world = World::with_nodes(1, 0);
    world.add_standard("US-EAST-04B");
    world.run(10);
    for (name, zone) in [("a", None), ("b", Some("US-EAST-04B"))] {
        let zone = zone.map(wharfage_shared::capacity::Zone::new);
        world.deploy(Spec { zone, ..of(name, 4, 100) });
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    world.deploy(of("c", 4, 100));
    world.until(60, "it serves", |world| world.ready("c") == ["node-1"]);
    let zone = Some(wharfage_shared::capacity::Zone::new("US-EAST-04A"));
    world.deploy(Spec { zone, ..of("here", 4, 100) });
    world.until(120, "it serves", |world| world.ready("here") == ["node-1"]);
    assert_eq!(moves(&world), 1);
}

#[test]
fn who_moves_gets_gpus_that_are_near_each_other() {
    let mut world = World::with_nodes(2, 0);
    for node in ["node-1", "node-2"] {
        let sides = [0, 1, 0, 1, 0, 1, 0, 1].map(|numa| (Some(0), Some(numa)));
        world.agent(node).places(&sides);
    }
    world.run(1);
    // Node-1 keeps a pair on its first side and a single one on its second.
    let holders = [("a", 2), ("b", 1), ("x", 4), ("c", 4), ("y", 1)];
    for (name, gpus) in holders {
        world.deploy(of(name, gpus, 100));
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    for name in ["x", "y"] {
        world.delete(name).expect("it goes");
    }
    world.run(40);
    world.deploy(of("big", 8, 100));
    world.until(120, "it serves", |world| world.ready("big").len() == 1);
    let moved = world.replicas("c")[0];
    let seat = moved.phase.seat().expect("it stands");
    let gpus = [1, 3, 5, 7].map(|gpu| format!("GPU-node-1-{gpu}").as_str().into());
    assert_eq!(*seat.gpus, gpus, "the free side of the host, not the first that are free");
    let placement = moved.placement.as_ref().expect("it was placed");
    let said = placement.sentence.of(&placement.score);
    assert!(said.ends_with("its GPUs share NVLinks and are near memory node 1"), "{said}");
}
