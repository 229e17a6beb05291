//! Figure P11 in the core: memory of 12,000 nodes, then of 100,000 replicas on them, with the view
//! published. Readings are telemetry, which the core does not keep.

mod fleet;

use self::fleet::{BenchFleet, create, spec};

const NODES: usize = 12_000;
const REPLICAS: usize = 100_000;

fn main() {
    let before = resident_kib();
    let mut fleet = BenchFleet::new(NODES);
    fleet.publish();
    let nodes = resident_kib();
    println!(
        "{NODES} nodes of 8 GPUs, heard and idle: {:.2} kB each",
        (nodes - before) as f64 / NODES as f64
    );
    // Deployments of ten, as many as have room; the rest waits.
    for number in 0..REPLICAS / 10 {
        let decided = fleet.controller.submit(fleet::NOW, create(number, spec(number, 1, 10)));
        decided.expect("the benchmark's commands are sound");
        fleet.publish();
    }
    for number in 0..NODES {
        let heartbeat = fleet.heartbeat(number, Vec::new());
        fleet.observe(heartbeat);
        fleet.publish();
    }
    let all = resident_kib();
    println!(
        "{REPLICAS} replicas, ready as far as there is room: {:.2} kB each",
        (all - nodes) as f64 / REPLICAS as f64
    );
    println!(
        "memory of the core with {NODES} nodes and {REPLICAS} replicas: {:.1} MiB",
        all as f64 / 1024.0
    );
}

/// This process's memory as the kernel counts it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB"));
    number.and_then(|number| number.trim().parse().ok()).expect("its memory is stated in kB")
}
