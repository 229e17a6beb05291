//! What people are told of a replica that waits.

use serde_json::{Value, json};
use wharfage_scheduler_core::Action;
use wharfage_scheduler_core::explain::{self, Earliest, Explanation};
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::deployment::{GpuCount, Priority};
use wharfage_scheduler_core::words::node::{Pool, PoolSize};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};

use crate::world::{SKU, World, cordon, id, spec};

fn explained(world: &World, name: &str) -> Explanation {
    let replica = world.replicas(name)[0].id;
    let policy = world.controller.policy();
    explain::replica(world.fleet(), policy, replica, world.now).expect("it exists")
}

fn counterfactuals(explanation: &Explanation) -> Vec<String> {
    explanation.counterfactuals.iter().map(|other| other.sentence.clone()).collect()
}

#[test]
fn nodes_are_counted_by_the_first_rule_that_they_fail() {
    let mut world = World::with_nodes(4, 1);
    for name in ["a", "b"] {
        world.deploy(spec(name));
    }
    world.deploy_for("zeta", spec("theirs")).expect("a deployment");
    world.verb(cordon, "node-4").expect("a cordon");
    world.deploy(spec("chat"));
    let explained = explained(&world, "chat");
    let groups: Vec<(u32, &str)> =
        explained.groups.iter().map(|group| (group.nodes, group.because.as_str())).collect();
    assert_eq!(
        groups,
        [
            (2, "not enough free GPUs"),
            (1, "cordoned: a test"),
            (1, "serving another organization"),
            (1, "sold as spot, which the capacity classes do not allow"),
        ]
    );
    let summary = &explained.summary;
    assert!(
        summary.contains(
            "2 nodes: not enough free GPUs; 1: cordoned: a test; 1: serving another organization"
        ),
        "{summary}"
    );
    assert!(summary.contains("unknown: it runs once 8 GPUs of one"), "{summary}");
    let tenant = explained.for_tenant(&"acme".into()).json();
    let tenant = String::from_utf8(tenant).expect("text");
    assert!(!tenant.contains("zeta"), "others are counts only: {tenant}");
    assert!(!tenant.contains("a test"), "an operator's words are the provider's: {tenant}");
    assert!(tenant.contains("1: cordoned: the provider's decision"), "{tenant}");
    let read: Value = serde_json::from_str(&tenant).expect("JSON");
    let case = |node: &Value| (node["node"].clone(), node["verdict"]["rejected"]["rule"].clone());
    let cases = read["candidates"].as_array().expect("a list").iter().map(case);
    assert_eq!(
        cases.collect::<Vec<_>>(),
        [
            ("node-1", "not_enough_gpus"),
            ("node-2", "not_enough_gpus"),
            ("node-3", "serves_another"),
            ("node-4", "cordoned"),
            ("node-5", "class_not_allowed"),
        ]
        .map(|(node, rule)| (json!(node), json!(rule))),
        "every node is named: {tenant}"
    );
}

#[test]
fn the_earliest_event_is_the_one_that_makes_a_node_feasible() {
    let mut world = World::with_nodes(1, 0);
    for name in ["small", "other"] {
        let mut half = spec(name);
        half.gpus = GpuCount::new(4).expect("allowed");
        half.extension.grace_seconds = if name == "small" { 10 } else { 300 };
        world.deploy(half);
    }
    world.until(60, "both serve", |world| !world.ready("other").is_empty());
    world.agent("node-1").link = crate::world::Link::Cut;
    world.deploy(spec("chat"));
    world.delete("small").expect("a delete");
    assert_eq!(explained(&world, "chat").earliest, None, "four GPUs are not enough");
    world.delete("other").expect("a delete");
    let earliest = explained(&world, "chat").earliest.expect("both leave");
    assert_eq!(world.pending("chat"), 1, "nothing is kept where nobody had to go");
    assert_eq!(earliest.at.map(|at| at.since(world.now).0), Some(300_000));
}

#[test]
fn a_node_that_is_to_join_is_an_event_without_a_moment() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("first"));
    world.deploy(spec("chat"));
    let unknown = explained(&world, "chat");
    assert!(unknown.unknown.is_some() && unknown.earliest.is_none(), "{}", unknown.summary);
    let pool = world.fleet().pools().next().expect("the node's").id.clone();
    let size = PoolSize { target: 3, min: 0, max: 3 };
    world.command(Action::Node(Nodes::SizePool { pool: pool.clone(), size })).expect("a size");
    world.run(1);
    let queued = explained(&world, "chat");
    let because = format!("2 nodes are still to join the pool {pool}");
    assert_eq!(queued.earliest, Some(Earliest { at: None, because }));
    assert_eq!(queued.unknown, None);
    let node = world.add_standard("US-EAST-04A");
    let joins = explained(&world, "chat").earliest.expect("it has enrolled");
    assert_eq!(joins.because, format!("{node} can be used once it is heard and its gates pass"));
    let theirs = world.add_owned("zeta");
    let summary = explained(&world, "chat").summary;
    assert!(!summary.contains(theirs.as_str()), "others are counts only: {summary}");
}

#[test]
fn a_single_change_that_would_help_is_named() {
    let mut world = World::with_nodes(2, 1);
    world.add_node(ComputeClass::Standard, SKU, "US-EAST-06A", 8);
    let full = world.add_node(ComputeClass::Standard, SKU, "US-EAST-08A", 8);
    world.run(10);
    world.verb(cordon, full.as_str()).expect("a cordon: another zone alone is no help");
    let low = |seed: &str| {
        let mut low = spec("low");
        low.priority = Priority::new(639).expect("in range");
        low.zone = Some(Zone::new("US-EAST-04A"));
        low.runtime.config.insert("seed".to_owned(), seed.to_owned());
        low
    };
    world.deploy(low("0"));
    world.until(60, "it serves", |world| world.ready("low") == ["node-1"]);
    world.agent("node-2").loads_hang = true;
    world.replace(low("1")).expect("a rollout");
    world.run(1);
    let mut chat = spec("chat");
    chat.zone = Some(Zone::new("US-EAST-04A"));
    chat.classes = vec![CapacityClass::OnDemand];
    world.deploy(chat);
    assert_eq!(
        counterfactuals(&explained(&world, "chat")),
        [
            "would run now with priority 640",
            "would run now in US-EAST-06A",
            "would run now with SPOT among its capacity classes",
        ]
    );
    let summary = explained(&world, "chat").summary;
    let sentence = "would run now with priority 640, or in US-EAST-06A, or with SPOT among";
    assert!(summary.contains(sentence), "{summary}");
    let pools: Vec<&Pool> = world.fleet().pools().collect();
    assert_eq!(pools.len(), 4);
}

#[test]
fn whoever_is_overtaken_by_higher_priorities_is_told_so() {
    let mut world = World::with_nodes(1, 0);
    world.verb(cordon, "node-1").expect("a cordon");
    world.deploy(spec("low"));
    world.run(5);
    let mut high = spec("high");
    high.priority = Priority::new(900).expect("in range");
    world.deploy(high);
    assert_eq!(explained(&world, "low").overtaken, 0);
    assert!(explain::starved(world.fleet()).is_empty());
    world.verb(crate::world::uncordon, "node-1").expect("an uncordon");
    let explained = explained(&world, "low");
    assert_eq!(explained.overtaken, 1);
    assert_eq!(explain::starved(world.fleet()).into_iter().collect::<Vec<_>>(), [(id("low"), 1)]);
    assert!(explained.summary.contains("starved: 1 of higher priority"), "{}", explained.summary);
    assert_eq!(world.places("high"), ["node-1"]);
    assert!(world.fleet().deployment(&id("low")).is_some());
}

#[test]
fn who_was_there_before_or_is_no_higher_starves_nobody() {
    let of = |name: &str, gpus: u32, priority: u32| {
        let gpus = GpuCount::new(gpus).expect("allowed");
        let priority = Priority::new(priority).expect("in range");
        wharfage_scheduler_core::words::deployment::Spec { gpus, priority, ..spec(name) }
    };
    let mut world = World::with_nodes(1, 0);
    world.deploy(of("earlier", 4, 900));
    world.run(10);
    world.deploy(of("waits", 8, 100));
    world.run(10);
    world.deploy(of("equal", 4, 100));
    world.run(10);
    assert_eq!(world.places("equal"), ["node-1"]);
    assert!(explain::starved(world.fleet()).is_empty());
}
