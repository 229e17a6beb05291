//! Recorded requests under several rules for the number of replicas (P14): what each costs, how many
//! wait and how long.

use std::path::PathBuf;

use wharfage_shared::time::Millis;
use wharfage_sim::queueing::{self, Outcome, Request, Rule, Settings};

/// How long a replica loads, in seconds.
const LOADS: [u64; 3] = [30, 60, 240];

fn main() {
    let Some(folder) = std::env::var_os("WHARFAGE_DATA").map(PathBuf::from) else {
        println!("skipped: autoscaling (WHARFAGE_DATA names no folder of traces)");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(folder.join("llm").join(name));
    let (Ok(talk), Ok(draw)) = (read("arrivals_azure2023_conv.csv"), read("image_requests.csv"))
    else {
        println!("skipped: autoscaling (no llm/ in WHARFAGE_DATA)");
        return;
    };
    let talk = queueing::conversations("arrivals_azure2023_conv.csv", &talk).expect("a good file");
    let draw = queueing::images("image_requests.csv", &draw).expect("a good file");
    println!("from 1 to 32 replicas; the target is the slots of one replica");
    for (name, requests, slots) in [("conversations", &talk, 8), ("images", &draw, 1)] {
        let served: u64 = requests.iter().map(|request| request.service.0).sum();
        let work = served as f64 / 3_600_000.0 / f64::from(slots);
        println!("{name}: {} requests, {work:.1} replica-hours of work", requests.len());
        for load in LOADS {
            table(name, requests, slots, load);
        }
    }
}

fn table(name: &str, requests: &[Request], slots: u32, load: u64) {
    let settings = Settings { slots, load: Millis::from_seconds(load), min: 1, max: 32 };
    println!(
        "{:<26} {:>13} {:>9} {:>11} {:>10} {:>8}",
        format!("{name}, load {load} s"),
        "replica-hours",
        "waited %",
        "mean wait s",
        "p99 wait s",
        "changes"
    );
    let outcomes = Rule::ALL.map(|rule| (rule, queueing::run(requests, settings, rule)));
    for (rule, outcome) in &outcomes {
        println!(
            "{:<26} {:>13.2} {:>9.2} {:>11.3} {:>10.1} {:>8}",
            name_of(*rule),
            outcome.replica_hours,
            100.0 * outcome.waited,
            outcome.mean_wait,
            outcome.p99_wait,
            outcome.changes
        );
    }
    let others = || outcomes.iter().filter(|(rule, _)| !matches!(rule, Rule::Work(_)));
    let least = |of: fn(&Outcome) -> f64| others().map(|(_, it)| of(it)).fold(f64::MAX, f64::min);
    let (cost, wait) = (least(|it| it.replica_hours), least(|it| it.mean_wait));
    for (rule, work) in outcomes.iter().filter(|(rule, _)| matches!(rule, Rule::Work(_))) {
        println!(
            "{name}, load {load} s, {}: cost {:.3} x the cheapest of four, mean wait {:.3} x the \
             shortest; cheaper and no longer waits than {} of four",
            name_of(*rule),
            work.replica_hours / cost,
            work.mean_wait / wait,
            others().filter(|(_, other)| is_beaten(other, work)).count()
        );
    }
}

fn is_beaten(other: &Outcome, by: &Outcome) -> bool {
    by.replica_hours < other.replica_hours && by.mean_wait <= other.mean_wait
}

fn name_of(rule: Rule) -> String {
    match rule {
        Rule::Baseten => "Baseten's rule".to_owned(),
        Rule::CoreWeave => "CoreWeave's rule".to_owned(),
        Rule::Hpa => "Kubernetes HPA".to_owned(),
        Rule::Kpa => "Knative KPA".to_owned(),
        Rule::Work(percent) => format!("work mode at {percent} %"),
    }
}
