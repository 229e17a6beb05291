//! Random worlds keep every rule. `SEEDS=5000 FROM=1 cargo test -p wharfage-sim --test random` runs
//! more of them.

use wharfage_sim::random;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn random_worlds_with_every_fault_keep_every_rule() {
    let (from, seeds) = (number("FROM", 1), number("SEEDS", 200));
    let failures: Vec<String> = (from..from + seeds)
        .filter_map(|seed| random::run(seed).err())
        .map(|failure| format!("{}\n{failure}", failure.timeline.join("\n")))
        .take(1)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Worlds that once broke a rule.
const ONCE_BROKEN: [u64; 14] =
    [30, 35, 66, 84, 89, 95, 124, 208, 209, 272, 3432, 3591, 50_109, 50_163];

#[test]
fn worlds_that_once_broke_a_rule_keep_it() {
    for seed in ONCE_BROKEN {
        if let Err(failure) = random::run(seed) {
            panic!("{}\n{failure}", failure.timeline.join("\n"));
        }
    }
}

#[test]
fn the_same_seed_lives_the_same_life_twice() {
    for seed in [3, 17, 66] {
        let (once, again) = (random::run(seed), random::run(seed));
        assert_eq!(once, again);
    }
}
