//! Who goes where, and in which order.

use proptest::prelude::*;
use wharfage_scheduler_core::words::deployment::{GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::policy::PlacementPolicy;
use wharfage_scheduler_core::{Policy, PriorityScope};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};

use crate::world::{World, cordon, spec, uncordon};

/// Three of acme wait, then two of zeta with the highest priority; four nodes come one by one. Who
/// stands on which.
fn turns(scope: PriorityScope) -> Vec<String> {
    let mut world = World::under(Policy { priority_scope: scope, ..Policy::default() });
    for (organization, name, priority) in [
        ("acme", "a1", 0),
        ("acme", "a2", 0),
        ("acme", "a3", 0),
        ("zeta", "z1", 1000),
        ("zeta", "z2", 1000),
    ] {
        let priority = Priority::new(priority).expect("in range");
        world.deploy_for(organization, Spec { priority, ..spec(name) }).expect("a deployment");
        world.run(1);
    }
    let mut order: Vec<String> = Vec::new();
    for _ in 0..4 {
        world.add_nodes(1, ComputeClass::Standard);
        world.run(10);
        let names = ["a1", "a2", "a3", "z1", "z2"];
        let placed = names.iter().filter(|name| !world.places(name).is_empty());
        let new: Vec<&str> =
            placed.copied().filter(|name| !order.iter().any(|old| old == name)).collect();
        order.extend(new.into_iter().map(str::to_owned));
    }
    order
}

#[test]
fn organizations_take_turns_whatever_their_priorities_unless_these_order_the_whole_fleet() {
    assert_eq!(turns(PriorityScope::Organization), ["a1", "z1", "a2", "z2"]);
    assert_eq!(turns(PriorityScope::Fleet), ["z1", "z2", "a1", "a2"]);
}

#[test]
fn the_highest_priority_is_placed_first_whatever_the_order_of_arrival() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut world = World::with_nodes(2, 0);
        for node in ["node-1", "node-2"] {
            world.verb(cordon, node).expect("a cordon");
        }
        for at in order {
            let (name, priority) = [("low", 10), ("middle", 500), ("high", 1000)][at];
            let priority = Priority::new(priority).expect("in range");
            world.deploy(wharfage_scheduler_core::words::deployment::Spec {
                priority,
                ..spec(name)
            });
            world.run(1);
        }
        world.verb(uncordon, "node-1").expect("an uncordon");
        assert_eq!(world.places("high"), ["node-1"], "arrival {order:?}");
        assert_eq!(world.pending("middle") + world.pending("low"), 2, "arrival {order:?}");
        world.verb(uncordon, "node-2").expect("an uncordon");
        assert_eq!(world.places("middle"), ["node-2"], "arrival {order:?}");
        assert_eq!(world.pending("low"), 1, "arrival {order:?}");
    }
}

#[test]
fn of_equal_priority_the_oldest_goes_first() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("running"));
    world.run(20);
    for name in ["first", "second"] {
        world.deploy(spec(name));
        world.run(1);
    }
    world.delete("running").expect("a delete");
    world.until(60, "the oldest runs", |world| world.places("first") == ["node-1"]);
    assert_eq!(world.pending("second"), 1);
}

#[test]
fn between_organizations_who_uses_less_goes_first() {
    let mut world = World::with_nodes(3, 0);
    for node in ["node-1", "node-2", "node-3"] {
        world.verb(cordon, node).expect("a cordon");
    }
    world.deploy_for("acme", spec("acme-1")).expect("a deployment");
    world.run(1);
    world.deploy_for("acme", spec("acme-2")).expect("a deployment");
    world.run(1);
    world.deploy_for("zeta", spec("zeta-1")).expect("a deployment");
    world.verb(uncordon, "node-1").expect("an uncordon");
    assert_eq!(world.places("acme-1"), ["node-1"], "nobody uses anything: the oldest");
    world.verb(uncordon, "node-2").expect("an uncordon");
    assert_eq!(world.places("zeta-1"), ["node-2"], "acme uses more");
    world.verb(uncordon, "node-3").expect("an uncordon");
    assert_eq!(world.places("acme-2"), ["node-3"]);
}

#[test]
fn what_a_min_needs_goes_before_what_waits_longer_beyond_one() {
    let mut world = World::with_nodes(2, 0);
    world.verb(cordon, "node-2").expect("a cordon");
    world.deploy(spec("older"));
    world.until(60, "it serves", |world| world.ready("older") == ["node-1"]);
    let mut changed = spec("older");
    changed.runtime.config.insert("seed".to_owned(), "1".to_owned());
    world.replace(changed).expect("a rollout");
    world.run(5);
    assert_eq!(world.pending("older"), 1);
    world.deploy(spec("newer"));
    world.verb(uncordon, "node-2").expect("an uncordon");
    assert_eq!((world.places("newer"), world.pending("older")), (vec!["node-2".to_owned()], 1));
}

#[test]
fn on_demand_never_stands_on_spot() {
    let mut world = World::with_nodes(0, 2);
    world.deploy(spec("unset"));
    let mut on_demand = spec("on-demand");
    on_demand.classes = vec![CapacityClass::OnDemand];
    world.deploy(on_demand);
    world.run(60);
    assert_eq!((world.pending("unset"), world.pending("on-demand")), (1, 1));
    world.add_nodes(2, ComputeClass::Standard);
    world.until(60, "both run", |world| {
        [world.ready("unset"), world.ready("on-demand")].concat().len() == 2
    });
    let mut places = [world.places("unset"), world.places("on-demand")].concat();
    places.sort();
    assert_eq!(places, ["node-3", "node-4"]);
}

#[test]
fn reserved_alone_means_claims_and_waits_without_one() {
    let mut world = World::with_nodes(1, 1);
    let mut reserved = spec("reserved");
    reserved.classes = vec![CapacityClass::Reserved];
    world.deploy(reserved);
    world.run(60);
    assert_eq!(world.pending("reserved"), 1);
}

#[test]
fn a_list_of_classes_is_an_order_of_preference() {
    let mut world = World::with_nodes(1, 1);
    let mut chat = spec("chat");
    chat.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    world.deploy(chat);
    assert_eq!(world.places("chat"), ["node-2"], "spot first");
    let mut second = spec("second");
    second.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    world.deploy(second);
    assert_eq!(world.places("second"), ["node-1"], "then on-demand");

    let mut world = World::with_nodes(1, 1);
    let mut chat = spec("chat");
    chat.classes = vec![CapacityClass::OnDemand, CapacityClass::Spot];
    world.deploy(chat);
    assert_eq!(world.places("chat"), ["node-1"], "on-demand first");
}

#[test]
fn room_for_whole_nodes_is_kept_first() {
    let mut world = World::with_nodes(2, 0);
    for (name, gpus, node) in
        [("a", 2, "node-1"), ("b", 4, "node-1"), ("c", 4, "node-2"), ("d", 2, "node-1")]
    {
        let mut small = spec(name);
        small.gpus = GpuCount::new(gpus).expect("allowed");
        world.deploy(small);
        assert_eq!(world.places(name), [node], "{name} with {gpus} GPUs");
    }
}

#[test]
fn where_a_pool_spreads_the_emptiest_node_comes_first() {
    let policy = Policy { placement: PlacementPolicy::Spread, ..Policy::default() };
    let mut world = World::under(policy);
    world.add_nodes(2, ComputeClass::Standard);
    world.run(10);
    for (name, gpus, node) in
        [("a", 2, "node-1"), ("b", 1, "node-2"), ("c", 1, "node-2"), ("d", 4, "node-1")]
    {
        let mut small = spec(name);
        small.gpus = GpuCount::new(gpus).expect("allowed");
        world.deploy(small);
        assert_eq!(world.places(name), [node], "{name} with {gpus} GPUs");
    }
}

#[test]
fn a_dedicated_node_serves_one_organization_at_a_time() {
    let mut world = World::with_nodes(1, 0);
    for (organization, name) in [("acme", "mine"), ("zeta", "theirs")] {
        let mut small = spec(name);
        small.gpus = GpuCount::new(1).expect("allowed");
        world.deploy_for(organization, small).expect("a deployment");
    }
    world.run(30);
    assert_eq!(world.places("mine"), ["node-1"]);
    assert_eq!(world.pending("theirs"), 1, "seven GPUs are free, and they are acme's");
    world.delete("mine").expect("a delete");
    world.until(60, "the node serves the next", |world| world.ready("theirs") == ["node-1"]);
}

#[test]
fn an_engine_or_version_that_no_node_offers_waits_and_says_so() {
    let mut world = World::with_nodes(1, 0);
    let mut other = spec("other");
    other.runtime.engine = "triton".to_owned();
    world.deploy(other);
    let mut old = spec("old");
    old.runtime.version = "0.1.0".to_owned();
    world.deploy(old);
    world.run(10);
    for name in ["other", "old"] {
        let row = world.replicas(name)[0];
        let because = row.because().expect("a pending replica says why");
        assert_eq!(because, "no node of the type offers the engine, version or hooks", "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 64, and more where more are asked for.
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever arrives in whatever order: once room appears, nobody waits whom a lower priority
    /// of the same organization and the same shape has overtaken.
    #[test]
    fn nobody_waits_behind_a_lower_priority(
        priorities in proptest::collection::vec(0u32..=1000, 1..8), room in 1usize..4,
    ) {
        let mut world = World::new();
        for (at, priority) in priorities.iter().enumerate() {
            let mut each = spec(&format!("d{at}"));
            each.priority = Priority::new(*priority).expect("in range");
            world.deploy(each);
            world.run(1);
        }
        world.add_nodes(room, ComputeClass::Standard);
        world.run(40);
        let names: Vec<String> = (0..priorities.len()).map(|at| format!("d{at}")).collect();
        let lowest_placed = names.iter().zip(&priorities)
            .filter(|(name, _)| !world.places(name).is_empty()).map(|(_, p)| *p).min();
        let highest_waiting = names.iter().zip(&priorities)
            .filter(|(name, _)| world.pending(name) > 0).map(|(_, p)| *p).max();
        if let (Some(placed), Some(waiting)) = (lowest_placed, highest_waiting) {
            // Hosts come one after another, so that the first ones see the same queue.
            prop_assert!(placed >= waiting, "{placed} stands while {waiting} waits");
        }
        let stand = names.iter().filter(|name| !world.places(name).is_empty()).count();
        prop_assert_eq!(stand, room.min(priorities.len()));
    }
}
