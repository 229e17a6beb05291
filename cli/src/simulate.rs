//! `wharfage simulate`: drills on the production cores under virtual time.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wharfage_sim::{random, sheet};

use crate::args::{SimulateArgs, Simulation};
use crate::exit::Failure;

/// Runs a sheet, or random worlds.
pub fn run(args: &SimulateArgs) -> Result<(), Failure> {
    match (&args.kind, &args.sheet) {
        (Some(Simulation::Random { seeds, from }), _) => worlds(*from, *seeds),
        (None, Some(path)) => drill(path, args.seed, args.json),
        (None, None) => Err(Failure::usage("which sheet? `wharfage simulate FILE`")),
    }
}

fn drill(path: &Path, seed: u64, as_json: bool) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::data(format!("{}: cannot be read: {error}", path.display())))?;
    let outcome = sheet::run(&text, &path.display().to_string(), seed)
        .map_err(|error| Failure::data(error.to_string()))?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&json!(outcome)).unwrap_or_default());
    } else {
        for line in &outcome.timeline {
            println!("{line}");
        }
    }
    if outcome.passed {
        return Ok(());
    }
    let failures: Vec<String> = outcome.failure_lines().collect();
    Err(Failure::check(failures.join("\n")))
}

fn worlds(from: u64, seeds: u64) -> Result<(), Failure> {
    let end = from
        .checked_add(seeds)
        .ok_or_else(|| Failure::usage("--from and --seeds are too large together"))?;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(seeds)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} worlds, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (mut node_seconds, mut failed) = (0_u64, 0_u64);
    for seed in from..end {
        match random::run(seed) {
            Ok(summary) => node_seconds += summary.node_seconds,
            Err(failure) => {
                failed += 1;
                bar.suspend(|| report(&failure));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{} worlds, {node_seconds} node-seconds, {failed} failed", seeds);
    if failed > 0 {
        return Err(Failure::check(format!("{failed} of {seeds} worlds broke a rule")));
    }
    Ok(())
}

fn report(failure: &random::Failure) {
    for line in &failure.timeline {
        println!("{line}");
    }
    println!("seed {}: {}: {}", failure.seed, failure.rule, failure.found);
    println!("again: {}", failure.replay);
}
