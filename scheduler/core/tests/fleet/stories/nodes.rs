//! Silence, partitions, restarts, hardware.

use wharfage_scheduler_core::words::node::{Health, Reach};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{NodeId, PoolId};

use crate::world::{Link, START, World, spec};

fn reach(world: &World, node: &str) -> Reach {
    world.fleet().node(&NodeId::from(node)).expect("it is known").reach
}

fn count(world: &World, reach: Reach) -> usize {
    world.fleet().nodes().filter(|node| node.reach == reach).count()
}

#[test]
fn a_scheduler_that_starts_declares_nobody_lost_for_57_seconds() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(spec("chat"));
    world.run(120);
    for agent in world.agents.values_mut() {
        agent.link = Link::Cut;
    }
    world.restart_scheduler();
    let began = world.now;
    while count(&world, Reach::Lost) == 0 {
        world.run(1);
        assert!(world.now.since(began).0 <= 60_000, "{}", world.picture());
    }
    assert_eq!(world.now.since(began).0 / 1000, 57);
}

#[test]
fn agents_that_come_back_in_time_are_never_lost_over_a_restart() {
    let mut world = World::with_nodes(3, 0);
    world.deploy(spec("chat"));
    world.run(120);
    for _ in 0..5 {
        world.restart_scheduler();
        world.run(20);
        assert_eq!(count(&world, Reach::Lost), 0);
    }
    assert_eq!(world.ready("chat").len(), 1);
    let stopped = world.fleet().replicas().count();
    assert_eq!(stopped, 1, "a restart moves nothing");
}

#[test]
fn many_nodes_silent_at_once_are_a_partition_and_nobody_is_evicted_for_30_minutes() {
    let mut world = World::with_nodes(10, 0);
    world.run(60);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    for node in ["node-1", "node-2", "node-3"] {
        world.agent(node).link = Link::Cut;
    }
    world.run(1780);
    assert_eq!(count(&world, Reach::Lost), 0, "30 % of a zone at once is a partition");
    assert_eq!(world.places("chat"), ["node-1"]);
    world.run(60);
    assert_eq!(count(&world, Reach::Lost), 3, "after 30 minutes they are lost after all");
    world.until(60, "another one serves", |world| world.ready("chat").len() == 1);
}

#[test]
fn two_silent_nodes_of_ten_are_no_partition() {
    let mut world = World::with_nodes(10, 0);
    world.run(60);
    for node in ["node-1", "node-2"] {
        world.agent(node).link = Link::Cut;
    }
    world.run(40);
    assert_eq!(count(&world, Reach::Lost), 2);
}

#[test]
fn a_fifth_of_a_zone_is_no_partition_and_one_more_is() {
    let mut world = World::with_nodes(15, 0);
    world.run(60);
    for node in ["node-1", "node-2", "node-3"] {
        world.agent(node).link = Link::Cut;
    }
    world.run(40);
    assert_eq!(count(&world, Reach::Lost), 3, "not more than a fifth");
    for node in ["node-4", "node-5", "node-6", "node-7"] {
        world.agent(node).link = Link::Cut;
    }
    world.run(100);
    assert_eq!(count(&world, Reach::Silent), 4, "four of fifteen are more");
}

#[test]
fn the_brake_is_off_again_when_the_share_falls() {
    let mut world = World::with_nodes(10, 0);
    world.run(60);
    for node in ["node-1", "node-2", "node-3"] {
        world.agent(node).link = Link::Cut;
    }
    world.run(100);
    assert_eq!(count(&world, Reach::Silent), 3);
    world.agent("node-3").link = Link::Up;
    world.run(40);
    assert_eq!((reach(&world, "node-1"), reach(&world, "node-3")), (Reach::Lost, Reach::Connected));
}

#[test]
fn a_lost_node_that_is_cordoned_is_still_cordoned_when_it_is_back() {
    let mut world = World::with_nodes(1, 0);
    world.run(60);
    world.verb(crate::world::cordon, "node-1").expect("a cordon");
    world.agent("node-1").link = Link::Cut;
    world.run(60);
    assert_eq!(reach(&world, "node-1"), Reach::Lost);
    world.agent("node-1").link = Link::Up;
    world.run(10);
    assert_eq!(reach(&world, "node-1"), Reach::Connected);
    world.deploy(spec("chat"));
    world.run(10);
    assert_eq!(world.pending("chat"), 1);
}

#[test]
fn a_node_is_fit_only_with_every_gpu_that_its_type_declares() {
    let mut world = World::new();
    world.add_node(ComputeClass::Standard, crate::world::SKU, crate::world::ZONE, 7);
    world.run(10);
    let row = world.fleet().node(&NodeId::from("node-1")).expect("it is known");
    let Health::Unfit { because } = &row.health else { panic!("{:?}", row.health) };
    assert_eq!(because, "gd-8xh100ib-i128 has 8 GPUs, 7 were found");
    world.deploy(spec("chat"));
    assert_eq!(world.pending("chat"), 1);
}

#[test]
fn trouble_with_a_gpu_takes_nothing_new_and_kills_nothing() {
    let mut world = World::with_nodes(1, 0);
    let mut small = spec("chat");
    small.gpus = wharfage_scheduler_core::words::deployment::GpuCount::new(1).expect("allowed");
    world.deploy(small.clone());
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.agent("node-1").trouble = Some("the driver does not answer".to_owned());
    world.run(10);
    small.name = "second".to_owned();
    world.deploy(small);
    world.run(20);
    assert_eq!((world.ready("chat").len(), world.pending("second")), (1, 1));
    world.agent("node-1").trouble = None;
    world.until(60, "the second one serves", |world| world.ready("second") == ["node-1"]);
}

#[test]
fn a_known_name_enrols_again_only_with_an_operators_word() {
    let mut world = World::with_nodes(1, 0);
    let (node, pool) =
        (NodeId::from("node-1"), PoolId::from("gd-8xh100ib-i128-standard-us-east-04a"));
    world.enrol(&node, &pool).expect_err("the name is in use");
    let action =
        wharfage_scheduler_core::words::command::nodes::Action::AllowRejoin { node: node.clone() };
    let action = wharfage_scheduler_core::words::command::Action::Node(action);
    world.command(action).expect("an operator's word");
    world.enrol(&node, &pool).expect("now it may");
    world.enrol(&node, &pool).expect_err("once");
    assert!(world.now > START);
}

#[test]
fn a_node_that_was_given_up_and_comes_back_waits_for_the_proof_of_what_ran_there() {
    let mut world = World::with_nodes(1, 0);
    world.run(60);
    let mut small = spec("mine");
    small.gpus = wharfage_scheduler_core::words::deployment::GpuCount::new(1).expect("allowed");
    world.deploy(small.clone());
    world.until(60, "it serves", |world| world.ready("mine") == ["node-1"]);
    world.agent("node-1").link = Link::Cut;
    world.run(40);
    let (node, reason) = (NodeId::from("node-1"), "it will not come back".to_owned());
    let retire = wharfage_scheduler_core::words::command::nodes::Action::Retire { node, reason };
    world.command(wharfage_scheduler_core::words::command::Action::Node(retire)).expect("a word");
    world.delete("mine").expect("a delete");
    small.name = "theirs".to_owned();
    world.deploy_for("zeta", small).expect("a deployment");
    world.verb(crate::world::uncordon, "node-1").expect("an operator's mind changes");
    world.agent("node-1").link = Link::Up;
    while reach(&world, "node-1") != Reach::Connected {
        world.run(1);
    }
    assert!(world.now > START, "the checks of the world hold that nobody else is placed there");
    world.until(60, "the node serves the next", |world| world.ready("theirs") == ["node-1"]);
}

#[test]
fn nodes_that_offer_the_same_share_one_list_of_it_before_and_after_a_restart() {
    let engines = |world: &World, node: &str| {
        let row = world.fleet().node(&NodeId::from(node)).expect("it has enrolled");
        std::sync::Arc::clone(&row.inventory.engines)
    };
    let share = |world: &World, one: &str, other: &str| {
        std::sync::Arc::ptr_eq(&engines(world, one), &engines(world, other))
    };
    let mut world = World::with_nodes(3, 0);
    world.run(10);
    assert!(share(&world, "node-1", "node-2") && share(&world, "node-1", "node-3"));
    world.agent("node-2").runs_alone();
    world.run(10);
    assert!(engines(&world, "node-2").iter().all(|engine| engine.gangs.is_empty()));
    assert!(!share(&world, "node-1", "node-2") && share(&world, "node-1", "node-3"));
    let gpus_share = |world: &World| {
        let row = world.fleet().node(&NodeId::from("node-1")).expect("it has enrolled");
        let gpus = &row.inventory.gpus;
        gpus.iter().all(|gpu| std::sync::Arc::ptr_eq(&gpu.name, &gpus[0].name))
    };
    assert!(gpus_share(&world), "one name for all of them");
    world.restart_scheduler();
    assert!(!share(&world, "node-1", "node-2") && share(&world, "node-1", "node-3"));
    assert!(gpus_share(&world));
}
