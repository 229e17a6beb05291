//! Replicas that crash, do not start, or are lost with their hosts.

use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Spec};
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;

use crate::world::{Link, World, drain, id, spec};

fn ends(world: &World, cause: StopCause) -> usize {
    let rows = world.fleet().replicas();
    rows.filter(|row| matches!(row.phase, Phase::Stopped { because, .. } if because == cause))
        .count()
}

#[test]
fn crashes_in_a_row_wait_longer_and_longer_up_to_five_minutes() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    let mut waits = Vec::new();
    for _ in 0..12 {
        world.until(400, "the engine runs", |world| {
            let row = world.replicas("chat").into_iter().next();
            row.is_some_and(|row| row.phase.seen().is_some())
        });
        let replica = world.replica_on("chat", "node-1").expect("it stands");
        let now = world.now;
        world.agent("node-1").crash(replica, now);
        world.until(10, "the crash is known", |world| world.places("chat").is_empty());
        let crashed = world.now;
        world.until(400, "the next one stands", |world| !world.places("chat").is_empty());
        waits.push(world.now.since(crashed).0 / 1000);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(ends(&world, StopCause::Crashed), 12);
}

#[test]
fn a_start_that_takes_too_long_is_ended_and_tried_anew() {
    let mut world = World::with_nodes(1, 0);
    let mut chat = spec("chat");
    chat.extension.start_deadline_seconds = Some(60);
    world.agent("node-1").loads_hang = true;
    world.deploy(chat);
    world.run(58);
    assert_eq!(ends(&world, StopCause::StartDeadline), 0);
    world.until(60, "it was given up", |world| ends(world, StopCause::StartDeadline) == 1);
    world.agent("node-1").loads_hang = false;
    world.until(60, "the next one serves", |world| world.ready("chat") == ["node-1"]);
}

#[test]
fn a_lost_node_keeps_its_replica_and_the_deployment_gets_another_one() {
    let mut world = World::with_nodes(2, 0);
    world.run(60);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.agent("node-1").link = Link::Cut;
    world.run(25);
    assert_eq!(world.places("chat"), ["node-1"], "silent is not lost");
    world.until(20, "a successor stands elsewhere", |world| world.places("chat").len() == 2);
    world.until(30, "it serves", |world| world.ready("chat") == ["node-2"]);
    let row = world.fleet().node(&"node-1".into()).expect("it is known");
    assert_eq!(row.free(), 0, "what may still run there keeps its slots");
}

#[test]
fn of_two_after_a_rejoin_the_one_that_serves_longest_stays() {
    let mut world = World::with_nodes(2, 0);
    world.run(60);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let old = world.replica_on("chat", "node-1");
    world.agent("node-1").link = Link::Cut;
    world.until(90, "the successor serves", |world| world.ready("chat") == ["node-2"]);
    world.agent("node-1").link = Link::Up;
    world.until(60, "one is left", |world| world.places("chat").len() == 1);
    assert_eq!(world.replica_on("chat", "node-1"), old, "it was ready all the time");
    assert_eq!(ends(&world, StopCause::Crashed), 0);
}

/// Found by random worlds.
#[test]
fn what_was_started_without_a_lease_keeps_its_grace_when_its_deployment_becomes_a_single_copy() {
    let mut world = World::with_nodes(1, 0);
    world.run(60);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let old = world.replica_on("chat", "node-1").expect("it stands");
    world.agent("node-1").link = Link::Cut;
    world.run(40);
    let mut single = spec("chat");
    single.extension.single_copy = true;
    single.scaling.bounds = Bounds::new(2, 2).expect("2 to 2");
    world.replace(single).expect("a good spec");
    assert_eq!(world.pending("chat"), 1, "one more is wanted, and the old one may still run");
    let row = world.fleet().replica(old).expect("it is there");
    assert!(row.phase.leaving().is_none(), "nobody says that it has ended: {}", world.picture());
    world.agent("node-1").link = Link::Up;
    world.add_nodes(1, ComputeClass::Standard);
    world.until(120, "two of the new settings serve", |world| {
        world.ready("chat").len() == 2 && world.replicas("chat").iter().all(|row| row.id != old)
    });
}

#[test]
fn the_successor_of_a_lost_single_copy_waits_for_lease_and_margin() {
    let mut world = World::with_nodes(2, 0);
    world.run(60);
    let mut chat: Spec = spec("chat");
    chat.extension.single_copy = true;
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let lost = |world: &World| {
        let row = world.fleet().node(&"node-1".into()).expect("it is known");
        row.reach == wharfage_scheduler_core::words::node::Reach::Lost
    };
    world.agent("node-1").link = Link::Cut;
    world.until(40, "it is lost", lost);
    let succeeded = |world: &World| world.replica_on("chat", "node-2").is_some();
    world.until(60, "a successor stands", succeeded);
    let heard = world.agent("node-1").reported_at;
    let waited = world.now.since(heard).0 / 1000;
    assert_eq!(waited, 57, "lease 30 s and margin 27 s");
}

#[test]
fn a_lost_replica_that_became_a_single_copy_later_has_no_such_lease_and_is_waited_for() {
    let mut world = World::with_nodes(2, 0);
    world.run(60);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.agent("node-1").link = Link::Cut;
    let mut single = world.spec_of("chat");
    single.extension.single_copy = true;
    world.replace(single).expect("a good spec");
    world.run(600);
    assert_eq!(world.ready("chat").len(), 0, "nobody knows whether it still runs");
    world.agent("node-1").link = Link::Up;
    world.until(70, "a successor serves", |world| world.ready("chat").len() == 1);
}

#[test]
fn a_replica_that_the_log_does_not_know_is_kept_and_shown() {
    let mut world = World::with_nodes(1, 0);
    let now = world.now;
    world.agent("node-1").stray(ReplicaId(4000), 8, now);
    world.run(10);
    world.deploy(spec("chat"));
    world.run(600);
    assert!(world.agent("node-1").replicas.contains_key(&ReplicaId(4000)), "absence kills nothing");
    let row = world.fleet().node(&"node-1".into()).expect("it is known");
    assert!(row.orphans.contains_key(&ReplicaId(4000)), "it is shown");
    assert_eq!(world.pending("chat"), 1, "its slots are taken");
    let now = world.now;
    world.agent("node-1").crash(ReplicaId(4000), now);
    world.until(30, "the slots are free again", |world| world.ready("chat") == ["node-1"]);
}

#[test]
fn the_proof_of_a_stray_is_not_lost_over_a_restart_of_the_scheduler() {
    let mut world = World::with_nodes(1, 0);
    let now = world.now;
    world.agent("node-1").stray(ReplicaId(4000), 1, now);
    world.run(5);
    world.restart_scheduler();
    let now = world.now;
    world.agent("node-1").crash(ReplicaId(4000), now);
    world.run(20);
    let row = world.fleet().node(&"node-1".into()).expect("it is known");
    assert!(row.orphans.is_empty() && row.free() == 8, "{:?}", row.orphans);
}

#[test]
fn a_host_that_boots_anew_proves_that_its_replicas_are_gone() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let first = world.replica_on("chat", "node-1");
    let now = world.now;
    world.agent("node-1").reboot(now);
    world.until(60, "another one serves", |world| {
        world.ready("chat") == ["node-1"] && world.replica_on("chat", "node-1") != first
    });
    assert_eq!(world.fleet().deployment(&id("chat")).map(|row| row.failures), Some(1));
}

fn hang(world: &mut World, node: &str, hangs: bool) {
    let replica = world.replica_on("chat", node).expect("it stands");
    let now = world.now;
    world.agent(node).hang(replica, hangs, now);
}

/// One replica is wanted and two are allowed: a successor may stand beside it.
fn with_room() -> Spec {
    let mut chat = spec("chat");
    chat.scaling.bounds = Bounds::new(1, 2).expect("1 to 2");
    chat
}

#[test]
fn a_hung_replica_is_stopped_when_another_one_serves_in_its_stead() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(with_room());
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    hang(&mut world, "node-1", true);
    world.run(58);
    assert_eq!(world.places("chat"), ["node-1"], "it may recover");
    world.until(20, "a successor is placed", |world| world.places("chat").len() == 2);
    assert_eq!(ends(&world, StopCause::Degraded), 0);
    world.until(30, "the hung one is gone", |world| world.places("chat") == ["node-2"]);
    assert_eq!(world.ready("chat"), ["node-2"]);
    world.until(30, "its end is proven", |world| ends(world, StopCause::Degraded) == 1);
}

#[test]
fn a_hung_replica_that_recovers_keeps_its_place() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(with_room());
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    hang(&mut world, "node-1", true);
    world.until(80, "a successor is placed", |world| world.places("chat").len() == 2);
    hang(&mut world, "node-1", false);
    world.until(30, "the successor goes", |world| world.places("chat") == ["node-1"]);
    assert_eq!(world.ready("chat"), ["node-1"]);
    assert_eq!(ends(&world, StopCause::Degraded), 0);
}

#[test]
fn a_hung_replica_makes_room_when_there_is_none_for_a_successor() {
    let mut world = World::with_nodes(1, 0);
    let mut chat = with_room();
    chat.gpus = GpuCount::new(8).expect("allowed");
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let hung = world.replica_on("chat", "node-1");
    hang(&mut world, "node-1", true);
    world.run(115);
    assert_eq!(world.replica_on("chat", "node-1"), hung, "it may still recover");
    world.until(60, "another one serves there", |world| {
        world.ready("chat") == ["node-1"] && world.replica_on("chat", "node-1") != hung
    });
}

#[test]
fn under_an_overload_only_one_of_a_deployment_is_given_up_at_a_time() {
    let mut world = World::with_nodes(4, 0);
    let mut chat = spec("chat");
    chat.gpus = GpuCount::new(8).expect("allowed");
    chat.scaling.bounds = Bounds::new(3, 4).expect("3 to 4");
    world.deploy(chat);
    world.until(60, "all serve", |world| world.ready("chat").len() == 3);
    for node in world.places("chat") {
        hang(&mut world, &node, true);
    }
    world.until(80, "one successor is placed", |world| world.places("chat").len() == 4);
    for _ in 0..60 {
        world.run(1);
        let starting = world.replicas("chat").iter().filter(|row| !row.was_ready).count();
        assert!(starting <= 1, "{}", world.picture());
    }
    world.until(200, "all serve again", |world| world.ready("chat").len() == 3);
    assert_eq!(ends(&world, StopCause::Degraded), 3);
}

#[test]
fn a_hung_single_copy_is_gone_before_its_successor_starts() {
    let mut world = World::with_nodes(2, 0);
    let mut chat: Spec = spec("chat");
    chat.extension.single_copy = true;
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    hang(&mut world, "node-1", true);
    world.run(115);
    assert_eq!(world.places("chat"), ["node-1"], "it may recover");
    for _ in 0..30 {
        world.run(1);
        assert!(world.places("chat").len() <= 1, "{}", world.picture());
    }
    assert_eq!(world.ready("chat").len(), 1, "{}", world.picture());
    assert_eq!(ends(&world, StopCause::Degraded), 1);
}

#[test]
fn a_hung_replica_at_its_max_leaves_before_its_successor_starts() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let hung = world.replica_on("chat", "node-1");
    hang(&mut world, "node-1", true);
    world.run(115);
    assert_eq!(world.replica_on("chat", "node-1"), hung, "it may still recover");
    world.until(60, "another one serves", |world| world.ready("chat").len() == 1);
    assert_eq!(ends(&world, StopCause::Degraded), 1);
}

#[test]
fn a_hung_replica_does_not_keep_a_draining_node_from_being_empty() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    hang(&mut world, "node-1", true);
    world.verb(drain, "node-1").expect("it may be drained");
    world.run(110);
    assert_eq!(world.places("chat"), ["node-1"], "it may still recover");
    world.until(60, "it is gone", |world| ends(world, StopCause::NodeDrained) == 1);
}
