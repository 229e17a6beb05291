//! Epochs, stale reports, stop orders.

use wharfage_scheduler_core::{Heard, Reply};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::NodeId;
use wharfage_shared::order::Order;

use crate::world::{World, spec};

fn hear(world: &mut World, heartbeat: &Heartbeat) -> HeartbeatAnswer {
    match world.hear(Heard::Heartbeat(Box::new(heartbeat.clone()))) {
        Reply::Heartbeat(Ok(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_start_asks_twice_and_gets_the_same_epoch() {
    let mut world = World::with_nodes(1, 0);
    world.agent("node-1").restart();
    let now = world.now;
    let mut asks = world.agent("node-1").heartbeat(now);
    asks.number = 1;
    let first = hear(&mut world, &asks).epoch;
    let facts = world.log.len();
    assert_eq!(hear(&mut world, &asks).epoch, first);
    assert_eq!(world.log.len(), facts, "asking again is no fact");
    asks.nonce = "another start".to_owned();
    assert!(hear(&mut world, &asks).epoch > first, "another start has another one");
}

#[test]
fn a_report_of_an_older_epoch_is_answered_with_the_newer_one_and_changes_nothing() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let now = world.now;
    let mut older = world.agent("node-1").heartbeat(now);
    world.agent("node-1").restart();
    world.run(10);
    let newer = world.agent("node-1").epoch.expect("it was numbered");
    older.number += 1000;
    older.replicas.clear();
    let before = world.fleet().clone();
    let answer = hear(&mut world, &older);
    assert_eq!(answer.epoch, newer);
    assert!(answer.desired.is_none(), "an older agent is told nothing to do");
    assert_eq!(before, *world.fleet());
}

#[test]
fn a_report_with_a_number_not_above_the_last_is_dropped() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it loads", |world| {
        world.replicas("chat").iter().any(|row| row.phase.seen().is_some())
    });
    let now = world.now;
    let stale = world.agent("node-1").heartbeat(now);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let before = world.fleet().clone();
    hear(&mut world, &stale);
    assert_eq!(before, *world.fleet(), "it would have said that the replica still loads");
}

#[test]
fn a_stop_order_stays_until_the_proof_is_in_the_log() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    let replica = world.replica_on("chat", "node-1").expect("it stands");
    world.delete("chat").expect("a delete");
    let orders = |world: &World| {
        let desired = world.controller.desired(&NodeId::from("node-1")).expect("it is known");
        desired.orders
    };
    assert!(matches!(&orders(&world)[..], [Order::Stop(stop)] if stop.replica == replica));
    world.agent("node-1").link = crate::world::Link::Cut;
    world.run(300);
    assert!(matches!(&orders(&world)[..], [Order::Stop(stop)] if stop.replica == replica));
    world.agent("node-1").link = crate::world::Link::Up;
    world.until(30, "the order is gone", |world| orders(world).is_empty());
    let row = world.fleet().node(&NodeId::from("node-1")).expect("it is known");
    assert_eq!(row.free(), 8);
}

#[test]
fn an_agent_that_has_the_newest_orders_is_not_sent_them_again() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.run(30);
    let now = world.now;
    world.agent("node-1").number += 1;
    let heartbeat = world.agent("node-1").heartbeat(now);
    assert!(hear(&mut world, &heartbeat).desired.is_none());
    let mut behind = heartbeat;
    behind.number += 1;
    behind.persisted.generation.0 -= 1;
    let sent = hear(&mut world, &behind).desired.expect("an older state is answered");
    assert_eq!(sent.version, world.agent("node-1").persisted());
}

#[test]
fn a_new_term_is_newer_than_any_generation_of_the_old_one() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.run(30);
    let before = world.agent("node-1").persisted();
    world.restart_scheduler();
    world.run(10);
    assert!(world.agent("node-1").persisted() > before);
}

#[test]
fn an_unknown_node_is_told_to_enrol() {
    let mut world = World::with_nodes(1, 0);
    let now = world.now;
    let mut stranger = world.agent("node-1").heartbeat(now);
    stranger.node = NodeId::from("stranger");
    let reply = world.hear(Heard::Heartbeat(Box::new(stranger)));
    let Reply::Heartbeat(Err(problem)) = reply else { panic!("{reply:?}") };
    assert_eq!(problem.code, "node_unknown");
}
