//! Models that cannot fit into the memory of their GPUs.

use wharfage_scheduler_core::capacity::memory;
use wharfage_scheduler_core::words::deployment::{GpuCount, Spec};

use crate::world::{World, spec};

const GIB: u64 = 1024 * 1024 * 1024;

fn of(gpus: u32, strict: bool) -> Spec {
    let gpus = GpuCount::new(gpus).expect("a count that replicas may have");
    let mut spec = Spec { gpus, ..spec("large") };
    spec.extension.strict = strict;
    spec
}

fn judged(world: &World, gpus: u32) -> Option<(bool, String)> {
    let memory = memory::of(world.fleet(), &of(gpus, false))?;
    Some((memory.is_tight(), memory.to_string()))
}

#[test]
fn weights_and_a_fifth_more_against_the_memory_of_all_gpus() {
    let mut world = World::with_nodes(1, 0);
    assert_eq!(judged(&world, 1), None, "no host has said how large it is");
    world.agent("node-1").cache("large", 132 * GIB);
    world.run(1);
    let told = |gpus| judged(&world, gpus).expect("both are known");
    let weights = "the weights are 132.0 GiB, with 20 % more 158.4 GiB";
    let one = format!("{weights}; 1 GPU of gd-8xh100ib-i128 have 79.6 GiB");
    assert_eq!(told(1), (true, one));
    let two = format!("{weights}; 2 GPUs of gd-8xh100ib-i128 have 159.2 GiB");
    assert_eq!(told(2), (false, two), "it fits, however little is left");
    world.restart_scheduler();
    assert_eq!(judged(&world, 1).map(|told| told.0), Some(true));
}

#[test]
fn what_is_known_not_to_fit_is_refused_where_it_was_asked_for() {
    let mut world = World::with_nodes(1, 0);
    world.deploy_for("acme", of(1, true)).expect("nobody knows how large it is");
    world.delete("large").expect("a delete");
    world.until(60, "it is gone", |world| world.replicas("large").is_empty());
    world.agent("node-1").cache("large", 132 * GIB);
    world.run(1);
    let refused = world.deploy_for("acme", of(1, true)).expect_err("it cannot fit");
    let text = format!("{refused:?}");
    for part in ["resources.gpuCount", "MemoryTight", "158.4 GiB", "79.6 GiB"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    world.deploy_for("acme", of(1, false)).expect("it is a warning there");
    world.replace(of(1, true)).expect_err("and is none any more");
    world.replace(of(2, true)).expect("two GPUs are enough");
    let other = Spec { weight: 7, ..of(2, true) };
    world.replace(other).expect("what does not change what it needs");
}
