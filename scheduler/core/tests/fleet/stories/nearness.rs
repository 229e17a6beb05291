//! Which GPUs of a node are taken together.

use proptest::prelude::*;
use wharfage_scheduler_core::capacity::pick::pick;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Scaling, Spec};
use wharfage_shared::ids::{GpuUuid, ReplicaId};

use crate::world::{World, spec};

/// A GPU's NVLink group and memory node.
type Place = (Option<u32>, Option<u32>);

fn of(name: &str, gpus: u32, replicas: u32) -> Spec {
    let gpus = GpuCount::new(gpus).expect("a count that replicas may have");
    let bounds = Bounds::new(replicas, replicas).expect("in range");
    Spec { gpus, scaling: Scaling::coreweave(bounds, None), ..spec(name) }
}

/// Which GPUs of node-1 a deployment's replicas have, by number.
fn taken(world: &World, name: &str) -> Vec<Vec<usize>> {
    let slots = &world.fleet().node(&"node-1".into()).expect("it is there").slots;
    let number = |gpu: &GpuUuid| slots.iter().position(|slot| slot.gpu == *gpu).expect("a slot");
    let seats = world.replicas(name).into_iter().filter_map(|row| row.phase.seat());
    seats.map(|seat| seat.gpus.iter().map(number).collect()).collect()
}

fn because(world: &World, name: &str) -> String {
    let row = world.replicas(name)[0];
    row.placement.as_ref().expect("it was placed").said()
}

#[test]
fn a_replica_stays_on_one_side_of_the_host_and_leaves_the_other_whole() {
    let mut world = World::with_nodes(1, 0);
    let sides = [0, 1, 0, 1, 0, 1, 0, 1].map(|numa| (Some(0), Some(numa)));
    world.agent("node-1").places(&sides);
    world.run(1);
    world.deploy(of("one", 1, 1));
    world.deploy(of("two", 2, 1));
    assert_eq!(taken(&world, "one"), [[0]]);
    assert_eq!(taken(&world, "two"), [[2, 4]], "beside it: memory node 1 stays whole");
    let said = because(&world, "two");
    assert!(said.ends_with("; its GPUs share NVLinks and are near memory node 0"), "{said}");
    world.deploy(of("four", 4, 1));
    assert_eq!(taken(&world, "four"), [[1, 3, 5, 7]]);
}

#[test]
fn nvlinks_count_before_the_memory_node_and_explain_says_so() {
    let mut world = World::with_nodes(1, 0);
    let bridges = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)];
    let places = bridges.map(|(nvlink, numa)| (Some(nvlink), Some(numa)));
    world.agent("node-1").places(&places);
    world.run(1);
    world.deploy(of("pair", 2, 2));
    assert_eq!(taken(&world, "pair"), [[0, 2], [1, 3]]);
    let said = because(&world, "pair");
    assert!(said.ends_with("; its GPUs share NVLinks and are near several memory nodes"), "{said}");
    let next = wharfage_scheduler_core::explain::deployment(
        world.fleet(),
        world.controller.policy(),
        &"pair".into(),
        world.now,
    );
    let summary = next.expect("it exists").summary;
    assert!(summary.contains("its GPUs share NVLinks"), "{summary}");
}

/// What the words say, by looking at every set.
fn plainly(places: &[Place], usable: &[usize], count: usize) -> Vec<usize> {
    let sets = (0u32..1 << places.len())
        .map(|set| (0..places.len()).filter(|at| set & (1 << at) != 0).collect::<Vec<usize>>());
    let fits = |set: &Vec<usize>| set.len() == count && set.iter().all(|at| usable.contains(at));
    let groups = |of: fn(&Place) -> Option<u32>, set: &[usize]| {
        let mut found: Vec<u32> = set.iter().filter_map(|at| of(&places[*at])).collect();
        found.sort_unstable();
        found.dedup();
        let members = |group: u32| -> Vec<usize> {
            (0..places.len()).filter(|at| of(&places[*at]) == Some(group)).collect()
        };
        let (mut broken, mut left) = (0, 0);
        for group in &found {
            let all = members(*group);
            let free = all.iter().filter(|at| usable.contains(at)).count();
            let rest = all.iter().filter(|at| usable.contains(at) && !set.contains(at)).count();
            broken += usize::from(free == all.len() && rest > 0);
            left += rest;
        }
        (found.len(), broken, left)
    };
    let cost = |set: &Vec<usize>| {
        let alone = set.iter().filter(|at| places[**at].0.is_none()).count();
        let (islands, broken_islands, left_islands) = groups(|place| place.0, set);
        let (numas, broken_numas, left_numas) = groups(|place| place.1, set);
        let spread = (islands + alone, numas);
        (spread, broken_islands, broken_numas, left_islands, left_numas, set.clone())
    };
    sets.filter(fits).min_by_key(cost).unwrap_or_default()
}

fn place() -> impl Strategy<Value = Place> {
    (proptest::option::weighted(0.8, 0u32..3), proptest::option::weighted(0.8, 0u32..3))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gpus_that_are_picked_are_those_of_a_plain_search(
        places in proptest::collection::vec(place(), 8),
        busy in proptest::collection::vec(any::<bool>(), 8),
        count in 1u8..9,
    ) {
        let mut world = World::with_nodes(1, 0);
        world.agent("node-1").places(&places);
        world.run(1);
        let mut node: NodeRow = world.fleet().node(&"node-1".into()).expect("there").clone();
        let mut each = busy.iter();
        node.slots.change(|slot| slot.holder = each.next().filter(|busy| **busy).map(|_| ReplicaId(1)));
        let usable: Vec<usize> = (0..8).filter(|at| !busy[*at]).collect();
        let picked = pick(&node, count).gpus;
        let picked: Vec<usize> = picked
            .iter()
            .filter_map(|gpu| node.slots.iter().position(|slot| slot.gpu == *gpu))
            .collect();
        let count = usize::from(count).min(usable.len());
        prop_assert_eq!(picked, plainly(&places, &usable, count));
    }
}
