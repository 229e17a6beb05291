//! How long a start takes, from history: where it is shorter goes first.

use wharfage_scheduler_core::explain;
use wharfage_scheduler_core::words::deployment::Spec;

use crate::world::{World, cordon, id, spec, uncordon};

const GIB: u64 = 1024 * 1024 * 1024;

/// The same model under another name.
fn same_model(name: &str) -> Spec {
    Spec { model: spec("first").model, ..spec(name) }
}

fn because(world: &World, name: &str) -> String {
    let row = world.replicas(name)[0];
    row.placement.as_ref().expect("it was placed").said()
}

/// Four idle nodes; a start without a cache took longer than the one with it, on node-3.
fn with_history() -> World {
    let mut world = World::with_nodes(4, 0);
    world.agent("node-1").loads_hang = true;
    world.deploy(spec("first"));
    world.run(20);
    world.agent("node-1").loads_hang = false;
    world.until(60, "it is ready", |world| world.ready("first") == ["node-1"]);
    world.delete("first").expect("a delete");
    world.until(60, "it is gone", |world| world.replicas("first").is_empty());
    for node in ["node-3", "node-4"] {
        world.agent(node).cache("first", GIB);
    }
    for node in ["node-1", "node-2", "node-4"] {
        world.verb(cordon, node).expect("a cordon");
    }
    world.run(2);
    world.deploy(same_model("second"));
    world.until(60, "it is ready", |world| world.ready("second") == ["node-3"]);
    for node in ["node-1", "node-2", "node-4"] {
        world.verb(uncordon, node).expect("an uncordon");
    }
    world
}

#[test]
fn a_node_with_the_model_in_its_cache_comes_before_one_without() {
    let mut world = with_history();
    world.deploy(spec("other"));
    assert_eq!(world.places("other"), ["node-1"], "nothing is known of that model");
    world.deploy(same_model("third"));
    assert_eq!(world.places("third"), ["node-4"]);
    let said = because(&world, "third");
    assert!(said.contains("s, its model lies in the cache"), "{said}");
    world.deploy(same_model("fourth"));
    assert_eq!(world.places("fourth"), ["node-2"]);
    let said = because(&world, "fourth");
    assert!(said.contains("s, its model must be fetched"), "{said}");
    world.replay_everything();
    world.restart_scheduler();
}

#[test]
fn explain_says_how_long_it_would_take_where() {
    let mut world = with_history();
    world.deploy(same_model("third"));
    let policy = world.controller.policy();
    let next = explain::deployment(world.fleet(), policy, &id("third"), world.now);
    let summary = next.expect("it exists").summary;
    assert!(summary.contains("its model must be fetched"), "{summary}");
}
