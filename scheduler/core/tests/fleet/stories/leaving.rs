//! Evacuation: notices, reclaims, drains.

use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::ids::NodeId;
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::Millis;

use crate::world::{Link, START, World, drain, spec, uncordon};

fn on_spot(name: &str) -> wharfage_scheduler_core::words::deployment::Spec {
    let mut spec = spec(name);
    spec.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    spec
}

/// How the replica that stood on a node ended: why and at which second.
fn end(world: &World, node: &str) -> Option<(StopCause, u64, bool)> {
    world.fleet().replicas().find_map(|row| match &row.phase {
        Phase::Stopped { because, at, seat: Some(seat), proven } if seat.node.as_str() == node => {
            Some((*because, at.since(START).0 / 1000, *proven))
        }
        _ => None,
    })
}

#[test]
fn a_notice_places_the_successor_at_once_and_stops_the_old_one_only_when_that_is_ready() {
    let mut world = World::with_nodes(1, 1);
    world.deploy(on_spot("chat"));
    world.until(60, "it serves on spot", |world| world.ready("chat") == ["node-2"]);
    let now = world.now;
    world.agent("node-2").notice("take", 300, Leaves::Node, now);
    world.run(1);
    assert_eq!(world.places("chat"), ["node-1", "node-2"], "the successor is placed at T0");
    let mut seconds = 0;
    while world.ready("chat") == ["node-2"] {
        world.run(1);
        seconds += 1;
        assert!(seconds < 30, "the successor gets ready");
    }
    assert_eq!(world.ready("chat"), ["node-1"], "traffic moves when the successor is ready");
    world.until(30, "the old one is gone", |world| end(world, "node-2").is_some());
    let (because, _, proven) = end(&world, "node-2").expect("it has ended");
    assert_eq!((because, proven), (StopCause::NodeNoticed, true));
}

/// Found by random worlds: nobody stands in for a single copy under a notice, so that what drains
/// unheard and is not wanted gone any more must serve again.
#[test]
fn a_single_copy_that_drained_unheard_for_a_withdrawn_notice_serves_again() {
    let mut world = World::with_nodes(1, 0);
    let mut chat = spec("chat");
    chat.extension.single_copy = true;
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let (id, now) = (world.replica_on("chat", "node-1").expect("it stands"), world.now);
    let host = world.agent("node-1");
    host.link = Link::Cut;
    host.notice("take", 12, Leaves::Replicas, now);
    world.run(5);
    assert_eq!(world.agent("node-1").replicas[&id].phase, ReportedPhase::Draining);
    let host = world.agent("node-1");
    host.notices.clear();
    host.link = Link::Up;
    world.run(10);
    assert_eq!(world.ready("chat"), ["node-1"], "{}", world.picture());
}

#[test]
fn without_room_elsewhere_a_replica_serves_to_the_last_moment() {
    let mut world = World::with_nodes(0, 1);
    world.deploy(on_spot("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let now = world.now;
    world.agent("node-1").notice("take", 120, Leaves::Node, now);
    world.run(105);
    assert_eq!(world.ready("chat"), ["node-1"], "nothing else serves");
    world.run(20);
    assert!(world.ready("chat").is_empty());
    assert_eq!(world.pending("chat"), 1);
}

#[test]
fn at_the_deadline_a_node_that_leaves_is_closed_in_one_step() {
    let mut world = World::with_nodes(0, 1);
    let mut many = on_spot("chat");
    many.gpus = wharfage_scheduler_core::words::deployment::GpuCount::new(2).expect("allowed");
    many.scaling.bounds =
        wharfage_scheduler_core::words::deployment::Bounds::new(4, 4).expect("4 to 4");
    world.deploy(many);
    world.until(60, "four serve", |world| world.ready("chat").len() == 4);
    // The host vanishes without proof: nothing but the deadline ends its replicas.
    let now = world.now;
    world.agent("node-1").notice("take", 40, Leaves::Node, now);
    world.run(1);
    world.agent("node-1").link = crate::world::Link::Dead;
    world.until(45, "the node has departed", |world| {
        world.fleet().node(&NodeId::from("node-1")).is_some_and(|row| row.departed_at.is_some())
    });
    let ends: Vec<(StopCause, i64, bool)> = world
        .fleet()
        .replicas()
        .filter_map(|row| match &row.phase {
            Phase::Stopped { because, at, seat: Some(_), proven } => {
                Some((*because, at.0, *proven))
            }
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "one step: {ends:?}");
    assert_eq!((ends[0].0, ends[0].2), (StopCause::NodeNoticed, false));
    let row = world.fleet().node(&NodeId::from("node-1")).expect("the row stays");
    assert_eq!((row.free(), row.held_for.is_none()), (0, true), "without proof no slot is free");
}

#[test]
fn a_notice_that_leaves_the_node_frees_it_once_release_is_proven() {
    let mut world = World::with_nodes(0, 1);
    world.deploy(on_spot("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let now = world.now;
    world.agent("node-1").notice("take", 60, Leaves::Replicas, now);
    world.run(59);
    assert_eq!(world.places("chat").len(), 0, "nothing new during the notice");
    world.until(60, "the node serves again", |world| world.ready("chat") == ["node-1"]);
}

#[test]
fn a_withdrawn_notice_leaves_the_replica_where_it_is() {
    let mut world = World::with_nodes(0, 1);
    world.deploy(on_spot("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let before = world.replica_on("chat", "node-1");
    let now = world.now;
    world.agent("node-1").notice("take", 300, Leaves::Node, now);
    world.run(5);
    assert_eq!(world.pending("chat"), 1, "a successor is wanted");
    world.agent("node-1").notices.clear();
    world.run(10);
    assert_eq!(world.replica_on("chat", "node-1"), before);
    assert_eq!(world.replicas("chat").len(), 1, "and the successor is not wanted any more");
}

#[test]
fn a_reclaim_warns_at_0_drains_at_120_and_ends_at_420_seconds() {
    let mut world = World::with_nodes(0, 1);
    world.add_gateway("gw-1");
    world.deploy(on_spot("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let replica = world.replica_on("chat", "node-1").expect("it stands there");
    // Requests that never end keep the drain open.
    for gateway in world.gateways.values_mut() {
        gateway.in_flight.insert(replica, 1);
    }
    world.run(2);
    let (node, reason) = (NodeId::from("node-1"), "a test".to_owned());
    let (leaves, drain_after, gone_after) = (Leaves::Node, None, None);
    let action = Nodes::Reclaim { node, reason, leaves, drain_after, gone_after };
    let called = world.now;
    world.command(Action::Node(action)).expect("spot can be reclaimed");
    let mut drained = None;
    let mut ended = None;
    for _ in 0..430 {
        world.run(1);
        let seconds = world.now.since(called).0 / 1000;
        let row = world.fleet().replica(replica).expect("kept for an hour");
        match &row.phase {
            Phase::Leaving { .. } if drained.is_none() => drained = Some(seconds),
            Phase::Stopped { .. } if ended.is_none() => ended = Some(seconds),
            _ => {}
        }
    }
    assert_eq!(drained, Some(120));
    assert_eq!(ended, Some(420));
}

#[test]
fn standard_nodes_are_never_reclaimed() {
    let mut world = World::with_nodes(1, 0);
    let (node, reason) = (NodeId::from("node-1"), "a test".to_owned());
    let (leaves, drain_after, gone_after) = (Leaves::Node, None, None);
    let action = Nodes::Reclaim { node, reason, leaves, drain_after, gone_after };
    world.command(Action::Node(action)).expect_err("standard stays");
}

#[test]
fn a_drain_moves_replicas_without_a_gap_and_can_be_taken_back() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.verb(drain, "node-1").expect("a drain");
    for _ in 0..40 {
        assert_eq!(world.ready("chat").len(), 1, "one serves at every moment");
        world.run(1);
    }
    assert_eq!(world.ready("chat"), ["node-2"]);
    let row = world.fleet().node(&NodeId::from("node-1")).expect("it is known");
    assert!(row.replicas.is_empty() && row.held_for.is_none(), "the node is empty");
    world.verb(uncordon, "node-1").expect("an uncordon");
    world.run(20);
    assert_eq!(world.ready("chat"), ["node-2"], "nothing moves back");
}

#[test]
fn a_leaving_replica_is_quiet_when_every_live_gateway_let_go_of_it() {
    let mut world = World::with_nodes(1, 0);
    world.add_gateway("gw-1");
    world.add_gateway("gw-2");
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let replica = world.replica_on("chat", "node-1").expect("it stands there");
    let name = |name: &str| wharfage_shared::ids::GatewayName::from(name);
    let gateway = world.gateways.get_mut(&name("gw-2")).expect("it is there");
    gateway.in_flight.insert(replica, 1);
    world.run(2);
    world.delete("chat").expect("a delete");
    let quiet = |world: &World| match world.fleet().replica(replica).map(|row| &row.phase) {
        Some(Phase::Leaving { leaving, .. }) => leaving.quiet,
        Some(Phase::Stopped { .. }) => true,
        _ => false,
    };
    world.run(10);
    assert!(!quiet(&world), "a request is still at it");
    // The gateway's lease ends 30 s after its last report: nobody waits for the dead.
    world.gateways.get_mut(&name("gw-2")).expect("it is there").is_up = false;
    let grace = Millis::from_seconds(30);
    let told = world.now;
    world.until(31, "it is quiet, or its grace is over", quiet);
    assert!(world.now.since(told) <= grace);
}
