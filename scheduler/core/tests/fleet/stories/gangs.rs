//! Replicas that take several nodes: seated whole, started whole, ended whole.

use wharfage_scheduler_core::capacity::ask::Ask;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::policies::preemption;
use wharfage_scheduler_core::words::because::placement::Blocked;
use wharfage_scheduler_core::words::deployment::{GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::replica::{MemberFact, Phase};
use wharfage_scheduler_core::{PriorityScope, explain};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::{Gang, Order, StopCause};

use super::facts::{Standing, deployed, stands as stands_there};
use crate::world::{Link, World, cordon, drain, id, spec};

/// A deployment of one replica with sixteen GPUs: two nodes.
fn gang(name: &str) -> Spec {
    Spec { gpus: GpuCount::new(16).expect("16 is allowed"), ..spec(name) }
}

fn with_priority(priority: u32, spec: Spec) -> Spec {
    Spec { priority: Priority::new(priority).expect("in range"), ..spec }
}

/// The nodes of each replica of a deployment that is placed, by rank.
fn stands(world: &World, name: &str) -> Vec<Vec<String>> {
    let placed = |row: &&ReplicaRow| matches!(row.phase, Phase::Placed { .. });
    let rows = world.replicas(name).into_iter().filter(placed);
    rows.map(|row| row.nodes().map(ToString::to_string).collect()).collect()
}

/// GPUs that may be taken on a node.
fn free(world: &World, node: &str) -> u8 {
    world.fleet().node(&NodeId::from(node)).expect("it is there").free()
}

/// What the node is told of the gang.
fn told(world: &World, node: &str) -> Option<Gang> {
    let desired = world.controller.desired(&NodeId::from(node)).expect("it is there");
    let mut orders = desired.orders.into_iter();
    orders.find_map(|order| match order {
        Order::Run(run) => run.gang,
        Order::Stop(_) => None,
    })
}

fn serving(nodes: usize) -> World {
    let mut world = World::with_nodes(nodes, 0);
    world.add_gateway("gw-1");
    world.deploy(gang("large"));
    world.until(60, "the gang serves", |world| world.ready("large") == ["node-1"]);
    world
}

#[test]
fn it_is_seated_whole_or_not_at_all_and_each_member_is_told_its_part() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(gang("large"));
    world.run(20);
    let blocked = Phase::Pending { blocked: Blocked::NotTogether };
    assert_eq!(world.replicas("large")[0].phase, blocked);
    assert_eq!(free(&world, "node-1"), 8, "nothing is held of what is not enough");
    let explained =
        explain::deployment(world.fleet(), world.controller.policy(), &id("large"), world.now);
    let explained = explained.expect("it exists");
    assert_eq!(explained.groups[0].because, "free, but fewer than 2 of one zone");

    world.add_nodes(1, ComputeClass::Standard);
    world.until(60, "it serves", |world| world.ready("large") == ["node-1"]);
    assert_eq!(stands(&world, "large"), [["node-1", "node-2"]]);
    let (leader, follower) = (told(&world, "node-1"), told(&world, "node-2"));
    let (leader, follower) = (leader.expect("a member"), follower.expect("a member"));
    assert_eq!((leader.rank, leader.world_size, leader.gpus), (0, 2, 16));
    assert_eq!(leader.leader_host, "node-1.internal");
    assert_eq!(follower, Gang { rank: 1, ..leader });
    let held: Vec<_> = world.fleet().nodes().map(|node| node.held_for.is_some()).collect();
    assert_eq!(held, [true, true], "each node's time counts as before");
}

#[test]
fn its_nodes_are_of_one_zone_and_of_one_fabric() {
    let mut world = World::new();
    for zone in ["US-EAST-04A", "US-EAST-04B", "US-EAST-04B", "US-EAST-04B"] {
        world.add_standard(zone);
    }
    world.run(10);
    for (node, fabric) in [("node-2", "rail-1"), ("node-3", "rail-2"), ("node-4", "rail-1")] {
        world.agent(node).on_fabric(fabric);
    }
    world.run(5);
    world.deploy(gang("large"));
    assert_eq!(stands(&world, "large"), [["node-2", "node-4"]]);
    world.deploy(gang("other"));
    assert_eq!(world.pending("other"), 1, "node-1 and node-3 have nothing in common");
}

#[test]
fn an_engine_that_runs_on_one_node_only_is_not_offered() {
    let mut world = World::with_nodes(2, 0);
    world.agent("node-2").runs_alone();
    world.run(5);
    world.deploy(gang("large"));
    let blocked = Phase::Pending { blocked: Blocked::NotTogether };
    assert_eq!(world.replicas("large")[0].phase, blocked);
    world.agent("node-1").runs_alone();
    world.run(5);
    let blocked = Phase::Pending { blocked: Blocked::NotOffered };
    assert_eq!(world.replicas("large")[0].phase, blocked);
}

#[test]
fn any_members_end_is_the_replicas_and_its_seat_is_freed_whole() {
    let mut world = serving(2);
    let replica = world.replica_on("large", "node-1").expect("it stands there");
    let now = world.now;
    world.agent("node-2").crash(replica, now);
    world.run(1);
    let row = world.fleet().replica(replica).expect("it leaves").clone();
    assert_eq!(row.members.get(&"node-2".into()), Some(&MemberFact::Gone));
    assert!(row.phase.leaving().is_some(), "{:?}", row.phase);
    assert!(world.ready("large").is_empty(), "it takes no more traffic");
    assert_eq!(free(&world, "node-2"), 0, "what its member held is free with the others");
    world.until(60, "all of it is gone", |world| {
        world.fleet().replica(replica).is_some_and(|row| row.phase.is_over())
    });
    let row = world.fleet().replica(replica).expect("it is remembered");
    let Phase::Stopped { because, proven, .. } = &row.phase else { panic!("{:?}", row.phase) };
    assert_eq!((*because, *proven), (StopCause::Crashed, true));
    world.until(60, "another one serves", |world| world.ready("large") == ["node-1"]);
}

#[test]
fn a_notice_at_one_node_moves_all_of_it() {
    let mut world = serving(4);
    let now = world.now;
    world.agent("node-2").notice("n-1", 300, Leaves::Node, now);
    world.until(60, "its successor serves", |world| {
        world.ready("large").contains(&"node-3".to_owned())
    });
    world.until(60, "the old one is gone", |world| free(world, "node-1") == 8);
    assert_eq!(stands(&world, "large"), [["node-3", "node-4"]]);
    assert_eq!(world.ready("large"), ["node-3"]);
}

#[test]
fn at_the_end_of_a_notice_the_other_nodes_are_given_back() {
    let mut world = serving(2);
    let now = world.now;
    world.agent("node-2").notice("n-1", 60, Leaves::Node, now);
    world.until(120, "node-1 is empty", |world| free(world, "node-1") == 8);
    assert!(world.now.since(now).0 <= 62_000, "no later than the deadline");
}

#[test]
fn a_drain_of_one_node_empties_all_of_it() {
    let mut world = serving(2);
    world.verb(drain, "node-1").expect("a drain");
    world.run(20);
    assert_eq!(stands(&world, "large").len(), 1, "it serves on: there is no room for another");
    world.add_nodes(2, ComputeClass::Standard);
    world.until(90, "it moved", |world| {
        stands(world, "large").iter().all(|nodes| !nodes.contains(&"node-1".to_owned()))
            && world.ready("large").len() == 1
    });
    world.until(60, "node-1 is empty", |world| free(world, "node-1") == 8);
}

#[test]
fn without_one_of_its_nodes_it_serves_nobody_and_comes_back_with_it() {
    let mut world = serving(2);
    world.agent("node-2").link = Link::Cut;
    world.until(90, "the node is lost", |world| world.ready("large").is_empty());
    assert_eq!(stands(&world, "large").len(), 1, "absence kills nothing");
    world.agent("node-2").link = Link::Up;
    world.until(60, "it serves again", |world| world.ready("large") == ["node-1"]);
    assert_eq!(world.pending("large"), 0);
}

#[test]
fn what_is_left_of_it_is_given_back_once_its_leader_says_that_it_answers_no_more() {
    let mut world = serving(2);
    let replica = world.replica_on("large", "node-1").expect("it stands there");
    world.agent("node-2").link = Link::Dead;
    world.until(90, "the node is lost", |world| world.ready("large").is_empty());
    let now = world.now;
    world.agent("node-1").hang(replica, true, now);
    world.until(120, "node-1 is free", |world| free(world, "node-1") == 8);
    assert_eq!(free(&world, "node-2"), 0, "what nobody has proven stays held");
    world.add_nodes(1, ComputeClass::Standard);
    world.until(60, "another one serves", |world| world.ready("large") == ["node-1"]);
}

/// Four nodes: what the deployments need for their min on the first ones, and their new replicas,
/// which do not start, on the others.
fn in_the_middle_of_rollouts(lows: &[Spec]) -> World {
    let mut world = World::with_nodes(4, 0);
    for low in lows {
        world.deploy(low.clone());
    }
    world.until(60, "they serve", |world| lows.iter().all(|low| world.ready(&low.name).len() == 1));
    for node in ["node-3", "node-4"] {
        world.agent(node).loads_hang = true;
    }
    for low in lows {
        let mut newer = low.clone();
        newer.runtime.config.insert("seed".to_owned(), "1".to_owned());
        world.replace(newer).expect("another setting");
    }
    world.run(3);
    assert!(["node-3", "node-4"].iter().all(|node| free(&world, node) == 0), "{}", world.picture());
    world
}

#[test]
fn it_takes_the_places_of_lower_priorities_on_as_many_nodes_as_it_needs() {
    let lows = ["a", "b"].map(|name| with_priority(10, spec(name)));
    let mut world = in_the_middle_of_rollouts(&lows);
    world.deploy(with_priority(900, gang("large")));
    let row = world.replicas("large")[0];
    let Phase::Promised { seat, .. } = &row.phase else { panic!("{:?}", row.phase) };
    let kept: Vec<String> = seat.nodes().map(ToString::to_string).collect();
    assert_eq!((kept, row.took_from.len()), (vec!["node-3".into(), "node-4".into()], 2));
    world.until(60, "it has them", |world| stands(world, "large") == [["node-3", "node-4"]]);
    assert_eq!((world.ready("a").len(), world.ready("b").len()), (1, 1), "their min is left alone");
    world.replay_everything();
}

#[test]
fn of_one_deployment_only_what_it_holds_above_its_min_makes_room() {
    for (nodes, expected) in [(2, None), (3, Some(2))] {
        let mut world = World::with_nodes(nodes, 0);
        world.organization("acme");
        let mut fleet = world.fleet().clone();
        fleet.apply(&deployed("acme", with_priority(10, spec("low")), world.now));
        for number in 1..=nodes {
            let (node, of) = (format!("node-{number}"), "low");
            let replica = ReplicaId(number as u32);
            let (from, gpus, serves, since) = (0, 8, false, world.now);
            let each = Standing { replica, of, node: &node, from, gpus, serves, since };
            stands_there(&each).iter().for_each(|event| fleet.apply(event));
        }
        fleet.apply(&deployed("acme", with_priority(900, gang("large")), world.now));
        let row = fleet.deployment(&id("large")).expect("it was created");
        let ask = Ask::of(&fleet, row);
        let decided = preemption::decide(&fleet, PriorityScope::Organization, row, &ask);
        assert_eq!(decided.map(|it| it.victims.len()), expected, "its min is one of {nodes}");
    }
}

#[test]
fn a_seat_that_is_kept_for_it_is_given_up_whole_when_one_of_its_nodes_closes() {
    let lows = ["a", "b"].map(|name| with_priority(10, spec(name)));
    let mut world = in_the_middle_of_rollouts(&lows);
    world.deploy(with_priority(900, gang("large")));
    world.verb(cordon, "node-4").expect("a cordon");
    let kept = world.fleet().nodes().flat_map(|node| &node.slots);
    assert_eq!(kept.filter(|slot| slot.promised.is_some()).count(), 0);
    assert_eq!(world.pending("large"), 1);
}

#[test]
fn it_leaves_all_of_its_nodes_to_one_that_needs_one_of_them() {
    let low = with_priority(10, gang("low"));
    let mut world = in_the_middle_of_rollouts(std::slice::from_ref(&low));
    world.deploy(with_priority(900, spec("urgent")));
    world.until(60, "it has a place", |world| world.places("urgent").len() == 1);
    assert_eq!(world.ready("low"), ["node-1"], "the one that its min needs is left alone");
    let both = free(&world, "node-3") + free(&world, "node-4");
    assert_eq!(both, 8, "what nobody needs of it is free");
}

#[test]
fn a_rollout_replaces_it_whole() {
    let mut world = serving(4);
    let mut newer = gang("large");
    newer.runtime.config.insert("max-model-len".to_owned(), "4096".to_owned());
    world.replace(newer).expect("another setting");
    world.until(90, "the new one serves alone", |world| {
        world.ready("large") == ["node-3"] && free(world, "node-1") == 8
    });
    assert_eq!(stands(&world, "large"), [["node-3", "node-4"]]);
}
