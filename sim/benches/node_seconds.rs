//! P13: node-seconds that are simulated in a second of one core, with every check on.

use std::time::Instant;

use wharfage_shared::time::Millis;
use wharfage_sim::{measure, random};

fn main() {
    for (nodes, seconds) in [(10, 20_000), (100, 2_000), (1_000, 200)] {
        let began = Instant::now();
        let measured = measure::steady(nodes, Millis::from_seconds(seconds));
        assert!(measured.violations.is_empty(), "{:?}", measured.violations);
        let rate = measured.node_seconds as f64 / began.elapsed().as_secs_f64();
        let ready = measured.ready;
        println!("{nodes:>5} nodes, {ready} ready, {seconds} s: {rate:.0} node-seconds/s");
    }
    let began = Instant::now();
    let mut node_seconds = 0;
    for seed in 1..=100 {
        match random::run(seed) {
            Ok(summary) => node_seconds += summary.node_seconds,
            Err(failure) => println!("{failure}"),
        }
    }
    let rate = node_seconds as f64 / began.elapsed().as_secs_f64();
    println!("100 random worlds: {rate:.0} node-seconds/s");
}
