//! Nodes that may be taken away: left early, few at once, successors first.

use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::words::node::{Departure, Health};
use wharfage_scheduler_core::words::policy::Policy;
use wharfage_shared::ids::NodeId;

use crate::world::{World, spec};

/// Two nodes that serve, and two that are free.
fn serving(policy: Policy) -> World {
    let mut world = World::under(policy);
    for _ in 0..4 {
        world.add_standard("US-EAST-04A");
    }
    for name in ["chat", "code"] {
        world.deploy(spec(name));
        world.until(60, "it serves", |world| world.ready(name).len() == 1);
    }
    world
}

fn hint(world: &mut World, node: &str, id: &str, seconds: u64) {
    let now = world.now;
    world.agent(node).hint(id, seconds, now);
    world.run(6);
}

fn row<'a>(world: &'a World, node: &str) -> &'a NodeRow {
    world.fleet().node(&NodeId::from(node)).expect("it stands")
}

fn is_early(world: &World, node: &str) -> bool {
    row(world, node).doubts.early.is_some()
}

#[test]
fn hinted_nodes_are_emptied_one_after_the_other_and_serve_until_others_do() {
    let mut world = serving(Policy::default());
    let (chat, code) = (world.ready("chat").remove(0), world.ready("code").remove(0));
    hint(&mut world, &chat, "first", 1800);
    hint(&mut world, &code, "second", 600);
    assert!(is_early(&world, &chat) && !is_early(&world, &code), "one at a time");
    assert_eq!(world.places("code").join(" "), code, "the other one waits for its turn");
    let moved = |world: &World| {
        let now = [world.ready("chat"), world.ready("code")];
        now.iter().all(|ready| ready.len() == 1) && now[0][0] != chat && now[1][0] != code
    };
    let mut seconds = 0;
    while !moved(&world) {
        world.run(1);
        seconds += 1;
        for name in ["chat", "code"] {
            assert!(!world.ready(name).is_empty(), "somebody serves: {}", world.picture());
        }
        assert!(seconds < 300, "{}", world.picture());
    }
    world.run(60);
    for node in [&chat, &code] {
        let row = row(&world, node);
        assert!(row.replicas.is_empty(), "{}", world.picture());
        assert_eq!((row.departure(), &row.health), (Departure::None, &Health::Fit));
        let why = row.may_place().expect_err("nothing new goes there").to_string();
        assert!(why.contains("it may be taken away soon"), "{why}");
        world.agent(node).notices.clear();
    }
    world.run(10);
    for node in [&chat, &code] {
        assert!(row(&world, node).may_place().is_ok() && !is_early(&world, node), "open again");
    }
}

#[test]
fn a_hint_that_is_taken_back_in_time_moves_nobody_and_one_far_ahead_waits() {
    let mut world = serving(Policy::default());
    let chat = world.ready("chat");
    hint(&mut world, &chat[0], "planned", 14 * 86_400);
    world.run(60);
    assert!(!is_early(&world, &chat[0]), "it is two weeks ahead");
    assert_eq!(world.places("chat"), chat);
    let now = world.now;
    world.agent(&chat[0]).hint("rebalance", 3600, now);
    world.run(1);
    assert!(is_early(&world, &chat[0]));
    world.agent(&chat[0]).notices.clear();
    world.run(60);
    assert!(!is_early(&world, &chat[0]));
    assert_eq!(world.ready("chat").len(), 1, "{}", world.picture());
}

#[test]
fn an_operator_who_wants_no_churn_only_sees_hints() {
    let mut world = serving(Policy { leave_early_nodes: 0, ..Policy::default() });
    let chat = world.ready("chat");
    hint(&mut world, &chat[0], "rebalance", 600);
    world.run(120);
    assert_eq!(world.ready("chat"), chat);
    assert!(row(&world, &chat[0]).doubts.hint.is_none());
}
