//! The recorded spot zones lived through: what served, what was lost and what it cost, for several
//! ways to take a preemption (figure of the notices).

use std::path::PathBuf;

use wharfage_shared::time::Millis;
use wharfage_sim::spot::{self, Series, Settings, Way};

/// Records with more than one instance, and how many days of each.
const RECORDS: [(&str, u32, u64); 2] = [
    ("preemption-4n-aws-2023-08-03-us-west-2c-v100_1", 4, 3),
    ("availability-16n-aws-2023-08-27-us-east-2b-v100_1", 16, 1),
];

fn main() {
    let Some(folder) = std::env::var_os("WHARFAGE_DATA").map(PathBuf::from) else {
        println!("skipped: spot (WHARFAGE_DATA names no folder of traces)");
        return;
    };
    let file = folder.join("spot/events.csv");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: spot (no spot/events.csv in WHARFAGE_DATA)");
        return;
    };
    println!("a start takes 120 s, a checkpoint 20 s, the cloud tells 120 s ahead");
    for (name, replicas, days) in RECORDS {
        let series = Series::read("spot/events.csv", &text, name).expect("a good record");
        println!("{name}: {replicas} replicas");
        println!(
            "{:<16} {:>6} {:>10} {:>12} {:>18} {:>12}",
            "", "days", "preempted", "available %", "lost replica-hours", "cost"
        );
        for way in Way::ALL {
            let outcome = spot::run(
                &series,
                &Settings {
                    way,
                    replicas,
                    length: Millis::from_seconds(days * 86_400),
                    load: Millis::from_seconds(120),
                    checkpoint: Millis::from_seconds(20),
                    seed: 1,
                },
            );
            assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
            println!(
                "{:<16} {:>6.1} {:>10} {:>12.3} {:>18.2} {:>12.2}",
                name_of(way),
                outcome.length.0 as f64 / 86_400_000.0,
                outcome.preempted,
                100.0 * outcome.available,
                outcome.lost.0 as f64 / 3_600_000.0,
                outcome.cost as f64 / 100.0,
            );
        }
    }
}

fn name_of(way: Way) -> &'static str {
    match way {
        Way::Wharfage => "wharfage",
        Way::DrainOnly => "drain only",
        Way::KillAtOnce => "kill at once",
        Way::Unheard => "nobody listens",
        Way::OnDemandOnly => "on-demand only",
    }
}
