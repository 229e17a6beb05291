//! P13: node-seconds that are simulated in a CPU second of one core, with every check on.

use rustix::time::{ClockId, clock_gettime};
use wharfage_shared::time::Millis;
use wharfage_sim::{measure, random};

fn main() {
    for (nodes, seconds) in [(10, 20_000), (100, 2_000), (1_000, 200)] {
        let began = cpu_seconds();
        let measured = measure::steady(nodes, Millis::from_seconds(seconds));
        assert!(measured.violations.is_empty(), "{:?}", measured.violations);
        let rate = measured.node_seconds as f64 / (cpu_seconds() - began);
        let ready = measured.ready;
        println!("{nodes:>5} nodes, {ready} ready, {seconds} s: {rate:.0} node-seconds/s of CPU");
    }
    let began = cpu_seconds();
    let mut node_seconds = 0;
    for seed in 1..=100 {
        match random::run(seed) {
            Ok(summary) => node_seconds += summary.node_seconds,
            Err(failure) => println!("{failure}"),
        }
    }
    let rate = node_seconds as f64 / (cpu_seconds() - began);
    println!("100 random worlds: {rate:.0} node-seconds/s of CPU");
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
