//! `wharfage simulate`: drills on the production cores under virtual time.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wharfage_sim::{Choice, autoscaling, churn, random, replay, sheet};

use crate::args::{
    AutoscalingArgs, ChurnArgs, PlacementArgs, PlacementChoice, SimulateArgs, Simulation,
};
use crate::exit::Failure;
use crate::files;

/// Runs a sheet, or random worlds.
pub fn run(args: &SimulateArgs) -> Result<(), Failure> {
    match (&args.kind, &args.sheet) {
        (Some(Simulation::Random { seeds, from }), _) => worlds(*from, *seeds),
        (Some(Simulation::Churn(args)), _) => churn(args),
        (Some(Simulation::Placement(args)), _) => placement(args),
        (Some(Simulation::Autoscaling(args)), _) => scaling(args),
        (None, Some(path)) => drill(path, args.seed, args.json),
        (None, None) => Err(Failure::usage("which sheet? `wharfage simulate FILE`")),
    }
}

fn drill(path: &Path, seed: u64, as_json: bool) -> Result<(), Failure> {
    let text = files::text(path)?;
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

fn choice(policy: PlacementChoice) -> Choice {
    match policy {
        PlacementChoice::BestFit => Choice::BestFit,
        PlacementChoice::Spread => Choice::Spread,
        PlacementChoice::Random => Choice::Random,
    }
}

fn churn(args: &ChurnArgs) -> Result<(), Failure> {
    let mix = <[u32; 4]>::try_from(args.mix.as_slice()).map_err(|_| {
        let got = args.mix.len();
        Failure::usage(format!("--mix has {got} weights; accepted: four, W1,W2,W4,W8"))
    })?;
    let settings = churn::Settings {
        nodes: args.nodes,
        load: args.load,
        mix,
        choice: choice(args.policy),
        moves: args.moves,
        seeds: args.seeds,
    };
    let outcome = churn::run(&settings).map_err(|error| Failure::usage(error.to_string()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!(outcome)).unwrap_or_default());
        return Ok(());
    }
    println!("gpus      asked    refused   although enough were free");
    for of in &outcome.sizes {
        let share = 100.0 * of.refused_although_free as f64 / of.asked.max(1) as f64;
        let (gpus, asked, refused) = (of.gpus, of.asked, of.refused);
        println!(
            "{gpus:>4} {asked:>10} {refused:>10} {:>10} ({share:.2} %)",
            of.refused_although_free
        );
    }
    println!("utilization {:.2} %", 100.0 * outcome.utilization);
    println!("moves per placement {:.4}", outcome.moves_per_placement);
    Ok(())
}

fn placement(args: &PlacementArgs) -> Result<(), Failure> {
    let (nodes, pods) = (files::text(&args.nodes)?, files::text(&args.pods)?);
    let names = [args.nodes.display().to_string(), args.pods.display().to_string()];
    let trace = replay::Trace::read([&names[0], &names[1]], &nodes, &pods)
        .map_err(|error| Failure::data(error.to_string()))?;
    let outcome = trace.run(choice(args.policy), args.seeds);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!(outcome)).unwrap_or_default());
        return Ok(());
    }
    let replay::Outcome { nodes, gpus, pods, .. } = &outcome;
    println!("{nodes} nodes, {gpus} GPUs, {pods} whole-GPU pods");
    for at in &outcome.at {
        let replay::Allocated { demand_percent, median, least, most } = at;
        println!("asked {demand_percent} %: given {median:.2} % [{least:.2} to {most:.2}]");
    }
    Ok(())
}

/// Decides at each row of a load; without `--json` as a CSV of the changes.
fn scaling(args: &AutoscalingArgs) -> Result<(), Failure> {
    let (settings, load) = (files::text(&args.settings)?, files::text(&args.load)?);
    let bad = |error: autoscaling::Error| Failure::data(error.to_string());
    let name = args.settings.display().to_string();
    let settings = autoscaling::Settings::read(&name, &settings).map_err(bad)?;
    let name = args.load.display().to_string();
    let outcome = autoscaling::run(&settings, &name, &load).map_err(bad)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!(outcome)).unwrap_or_default());
    } else {
        print!("{}", outcome.csv());
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
