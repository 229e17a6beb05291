//! Pools that are to have a stated number of nodes, and the Capacity Finder.

use wharfage_scheduler_core::capacity::finder::{self, Wish};
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::node::PoolSize;
use wharfage_scheduler_core::{Action, Refusal};
use wharfage_shared::capacity::{CapacityType, ComputeClass, Sku, Zone};
use wharfage_shared::ids::PoolId;
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

use crate::world::{Link, SKU, World, claimed, spec};

fn size(
    world: &mut World,
    pool: &PoolId,
    target: u32,
    min: u32,
    max: u32,
) -> Result<wharfage_scheduler_core::Answer, Refusal> {
    let (pool, size) = (pool.clone(), PoolSize { target, min, max });
    world.command(Action::Node(Nodes::SizePool { pool, size }))
}

fn counts(world: &World, pool: &PoolId) -> (u32, u32) {
    let count = world.fleet().pool_count(pool).expect("it was sized");
    (count.current, count.queued)
}

#[test]
fn a_spot_pool_that_is_emptied_stays_and_wants_its_nodes_back() {
    let mut world = World::with_nodes(0, 2);
    let pool = world.fleet().nodes().next().expect("two").pool.clone();
    size(&mut world, &pool, 3, 0, 4).expect("a size");
    assert_eq!(counts(&world, &pool), (2, 1), "one is wanted");
    for node in ["node-1", "node-2"] {
        let reason = "a test".to_owned();
        let at = Some(Millis::from_seconds(1));
        let (node, leaves) = (node.into(), Leaves::Node);
        let action = Nodes::Reclaim { node, reason, leaves, drain_after: at, gone_after: at };
        world.command(Action::Node(action)).expect("spot");
    }
    world.run(5);
    assert_eq!(counts(&world, &pool), (0, 3), "all are wanted");
    world.add_nodes(1, ComputeClass::Spot);
    world.run(10);
    assert_eq!(counts(&world, &pool), (1, 2), "it refills");
}

#[test]
fn a_lost_node_is_wanted_until_it_is_back_and_a_size_makes_sense() {
    let mut world = World::with_nodes(2, 0);
    let pool = world.fleet().nodes().next().expect("two").pool.clone();
    size(&mut world, &pool, 2, 2, 2).expect("a size");
    world.run(60);
    assert_eq!(counts(&world, &pool), (2, 0));
    world.agent("node-1").link = Link::Cut;
    world.run(60);
    assert_eq!(counts(&world, &pool), (1, 1));
    world.agent("node-1").link = Link::Up;
    world.run(10);
    assert_eq!(counts(&world, &pool), (2, 0));
    size(&mut world, &pool, 1, 2, 3).expect_err("below its min");
    size(&mut world, &pool, 4, 2, 3).expect_err("above its max");
    size(&mut world, &pool, 2, 3, 2).expect_err("min above max");
    size(&mut world, &PoolId::from("nobody"), 1, 0, 2).expect_err("unknown");
}

fn wish(organization: &str, count: u32, class: ComputeClass) -> Wish {
    Wish { organization: organization.into(), sku: Sku::new(SKU), count, class }
}

#[test]
fn the_finder_puts_the_zone_first_that_has_room_for_the_caller() {
    let mut world = World::new();
    world.add_standard("US-EAST-04A");
    for _ in 0..2 {
        world.add_standard("US-EAST-04B");
    }
    world.run(10);
    world.deploy_for("zeta", spec("other")).expect("a deployment");
    world.run(10);
    let standard = ComputeClass::Standard;
    let found = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("acme", 2, standard),
        world.now,
    );
    let shown: Vec<(&str, u32, u8)> = found
        .iter()
        .map(|found| (found.zone.as_str(), found.available, found.chance_percent))
        .collect();
    assert_eq!(shown, [("US-EAST-04B", 2, 100), ("US-EAST-04A", 0, 0)]);
    world.sign("zeta", 2, 30).expect("one more is free");
    world.run(1);
    let found = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("acme", 2, standard),
        world.now,
    );
    assert_eq!((found[0].available, found[0].chance_percent), (1, 50), "one is zeta's");
    let found = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("zeta", 2, standard),
        world.now,
    );
    assert_eq!(found[0].available, 2, "what is guaranteed to it is there for it");
    let mut hold = claimed("hold", CapacityType::Serverless, 1);
    hold.zone = Zone::new("US-EAST-04B");
    world.claim_for("acme", hold).expect("the last one");
    let found = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("beta", 1, standard),
        world.now,
    );
    assert!(found.iter().all(|found| found.chance_percent == 0), "{found:?}");
}

#[test]
fn a_spot_zone_that_was_interrupted_is_worth_less() {
    let mut world = World::with_nodes(0, 2);
    let before = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("acme", 1, ComputeClass::Spot),
        world.now,
    );
    let now = world.now;
    world.agent("node-1").notice("taken", 20, Leaves::Node, now);
    world.run(10);
    let after = finder::find(
        world.fleet(),
        world.controller.policy(),
        &wish("acme", 1, ComputeClass::Spot),
        world.now,
    );
    assert_eq!((before[0].interruptions, before[0].chance_percent), (0, 100));
    assert_eq!((after[0].interruptions, after[0].chance_percent), (1, 50), "{after:?}");
}

#[test]
fn idle_standard_nodes_that_would_be_lent_can_be_had_as_spot() {
    let mut world = World::with_nodes(1, 1);
    let spot = wish("acme", 2, ComputeClass::Spot);
    let find = |world: &World| {
        let found = finder::find(world.fleet(), world.controller.policy(), &spot, world.now);
        (found[0].available, found[0].chance_percent)
    };
    assert_eq!(find(&world), (2, 100));
    world.deploy_for("zeta", spec("other")).expect("a deployment");
    world.run(10);
    assert_eq!(find(&world), (1, 50), "what serves somebody is not lent");
}

#[test]
fn interruptions_are_known_out_of_the_log_to_a_new_scheduler_for_seven_days() {
    let mut world = World::with_nodes(0, 2);
    let now = world.now;
    world.agent("node-1").notice("withdrawn", 60, Leaves::Replicas, now);
    world.run(10);
    world.agent("node-1").notices.clear();
    world.run(10);
    let now = world.now;
    world.agent("node-1").notice("taken", 20, Leaves::Node, now);
    world.run(60);
    let spot = || wish("acme", 1, ComputeClass::Spot);
    let count = |world: &World, days: u64| {
        let now = world.now + Millis::from_seconds(days * 86_400);
        finder::find(world.fleet(), world.controller.policy(), &spot(), now)[0].interruptions
    };
    assert_eq!(count(&world, 0), 1, "what was withdrawn took nothing away");
    world.restart_scheduler();
    world.run(60);
    assert_eq!((count(&world, 0), count(&world, 6), count(&world, 8)), (1, 1, 0));
}
