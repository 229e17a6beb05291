//! Churn: asks of 1, 2, 4 and 8 GPUs come and go on nodes of eight, and some find no node although
//! enough GPUs are free somewhere.
//!
//! Poisson arrivals, exponential lifetimes; an ask that cannot be placed is lost. Counted from the
//! fifth to the twenty-fifth lifetime.

use std::collections::BTreeMap;

use serde::Serialize;
use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::DeploymentId;

use crate::rng::Rng;
use crate::shelf::{Choice, Shelf};

/// The sizes that are asked for.
pub const SIZES: [u8; 4] = [1, 2, 4, 8];
/// GPUs of a node.
const GPUS: u8 = 8;
/// The mean of a lifetime, in microseconds.
const LIFETIME: f64 = 1e9;
/// Lifetimes before anything is counted, and when the counting ends.
const COUNTED: (f64, f64) = (5.0, 25.0);
/// More nodes than one run takes in memory.
pub const MOST_NODES: u32 = 100_000;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Nodes of eight GPUs.
    pub nodes: u32,
    /// GPUs asked for at a time, as a share of all.
    pub load: f64,
    /// How often each size is asked for, as weights.
    pub mix: [u32; 4],
    /// How a seat is chosen.
    pub choice: Choice,
    /// Moves that may make room for one ask.
    pub moves: usize,
    /// Runs, each with a seed of its own.
    pub seeds: u64,
}

/// Settings that make no sense: what is wrong and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    /// No node, or more than a run takes.
    #[error("--nodes is {got}; accepted: 1 to {MOST_NODES}")]
    Nodes {
        /// What was said.
        got: u32,
    },
    /// Not a share that a fleet can be offered.
    #[error("--load is {got}; accepted: above 0, at most 10")]
    Load {
        /// What was said.
        got: String,
    },
    /// Nothing is asked for.
    #[error("--mix has no weight above 0 within 1 to 1000000; accepted: four weights W1,W2,W4,W8")]
    Mix,
    /// More moves than a plan has.
    #[error("--moves is {got}; accepted: 0 to 8")]
    Moves {
        /// What was said.
        got: usize,
    },
    /// No run, or more than anyone waits for.
    #[error("--seeds is {got}; accepted: 1 to 10000")]
    Seeds {
        /// What was said.
        got: u64,
    },
}

/// What happened to the asks of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfSize {
    /// How many GPUs.
    pub gpus: u8,
    /// How many asked.
    pub asked: u64,
    /// Of these, how many were lost.
    pub refused: u64,
    /// Of these, how many although enough GPUs were free.
    pub refused_although_free: u64,
}

/// What happened, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How a seat was chosen.
    pub policy: Choice,
    /// Nodes.
    pub nodes: u32,
    /// Offered load.
    pub load: f64,
    /// Weights of the sizes.
    pub mix: [u32; 4],
    /// Moves that could make room for one ask.
    pub moves: usize,
    /// Runs.
    pub seeds: u64,
    /// Size by size.
    pub sizes: Vec<OfSize>,
    /// The share of the GPUs that was in use, on average.
    pub utilization: f64,
    /// Moves for each ask that was placed.
    pub moves_per_placement: f64,
}

/// Runs every seed.
pub fn run(settings: &Settings) -> Result<Outcome, BadSettings> {
    check(settings)?;
    let mut total = Tally::default();
    for seed in 1..=settings.seeds {
        one(settings, seed, &mut total);
    }
    let sizes = SIZES.iter().zip(&total.sizes);
    let sizes = sizes.map(|(gpus, counted)| OfSize { gpus: *gpus, ..*counted }).collect();
    Ok(Outcome {
        policy: settings.choice,
        nodes: settings.nodes,
        load: settings.load,
        mix: settings.mix,
        moves: settings.moves,
        seeds: settings.seeds,
        sizes,
        utilization: total.used / total.offered.max(1.0),
        moves_per_placement: total.moves as f64 / total.placed.max(1) as f64,
    })
}

fn check(settings: &Settings) -> Result<(), BadSettings> {
    let Settings { nodes, load, mix, moves, seeds, .. } = *settings;
    if !(1..=MOST_NODES).contains(&nodes) {
        return Err(BadSettings::Nodes { got: nodes });
    }
    if !(load > 0.0 && load <= 10.0) {
        return Err(BadSettings::Load { got: load.to_string() });
    }
    if mix.iter().all(|weight| *weight == 0) || mix.iter().any(|weight| *weight > 1_000_000) {
        return Err(BadSettings::Mix);
    }
    if moves > 8 {
        return Err(BadSettings::Moves { got: moves });
    }
    if !(1..=10_000).contains(&seeds) {
        return Err(BadSettings::Seeds { got: seeds });
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    sizes: [OfSize; 4],
    placed: u64,
    moves: u64,
    /// GPU-microseconds in use, and all of them.
    used: f64,
    offered: f64,
}

fn one(settings: &Settings, seed: u64, tally: &mut Tally) {
    let sku = Sku::new("gd-8xh100ib-i128");
    let nodes = vec![(sku.clone(), GPUS); settings.nodes as usize];
    let mut shelf = Shelf::new(&nodes, settings.choice, seed);
    let types = [sku];
    let mut rng = Rng::new(seed);
    let weights: u32 = settings.mix.iter().sum();
    let asked: u32 = settings.mix.iter().zip(SIZES).map(|(w, size)| w * u32::from(size)).sum();
    let mean_gpus = f64::from(asked) / f64::from(weights);
    let gap = LIFETIME * mean_gpus / (settings.load * f64::from(shelf.gpus));
    let (from, until) = (COUNTED.0 * LIFETIME, COUNTED.1 * LIFETIME);
    let mut ends: BTreeMap<(u64, u64), DeploymentId> = BTreeMap::new();
    let (mut now, mut number) = (0.0, 0u64);
    loop {
        let next = now + exponential(&mut rng, gap);
        let mut at = now;
        while let Some(entry) = ends.first_entry().filter(|entry| entry.key().0 as f64 <= next) {
            let end = entry.key().0 as f64;
            tally.use_gpus(&shelf, at.max(from), end.min(until));
            at = end;
            shelf.leave(&entry.remove());
        }
        tally.use_gpus(&shelf, at.max(from), next.min(until));
        now = next;
        if now >= until {
            return;
        }
        let mut drawn = rng.between(0, u64::from(weights) - 1);
        let mut at = 0;
        while drawn >= u64::from(settings.mix[at]) {
            drawn -= u64::from(settings.mix[at]);
            at += 1;
        }
        let lifetime = exponential(&mut rng, LIFETIME);
        let free = shelf.free;
        let placed = shelf.ask(SIZES[at], &types, settings.moves);
        if now >= from {
            tally.count(at, free, placed.as_ref().map(|(_, moves)| *moves));
        }
        if let Some((id, _)) = placed {
            number += 1;
            ends.insert(((now + lifetime) as u64, number), id);
        }
    }
}

impl Tally {
    fn use_gpus(&mut self, shelf: &Shelf, from: f64, until: f64) {
        let length = (until - from).max(0.0);
        self.used += length * f64::from(shelf.gpus - shelf.free);
        self.offered += length * f64::from(shelf.gpus);
    }

    fn count(&mut self, at: usize, free: u32, moves: Option<usize>) {
        let counted = &mut self.sizes[at];
        counted.asked += 1;
        match moves {
            Some(moves) => {
                self.placed += 1;
                self.moves += moves as u64;
            }
            None => {
                counted.refused += 1;
                counted.refused_although_free += u64::from(free >= u32::from(SIZES[at]));
            }
        }
    }
}

/// A time of an exponential distribution, in microseconds.
fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    // 53 bits, never zero.
    let share = ((rng.bits() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    -share.ln() * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_of_8(choice: Choice, moves: usize) -> (f64, f64) {
        let settings =
            Settings { nodes: 40, load: 0.95, mix: [70, 15, 10, 5], choice, moves, seeds: 2 };
        let outcome = run(&settings).expect("good settings");
        let of = outcome.sizes[3];
        (of.refused_although_free as f64 / of.asked as f64, outcome.moves_per_placement)
    }

    #[test]
    fn best_fit_refuses_less_than_chance_and_chance_less_than_spread() {
        let [best, random, spread] = [Choice::BestFit, Choice::Random, Choice::Spread]
            .map(|choice| refused_of_8(choice, 0).0);
        assert!(best < random && random < spread, "{best} {random} {spread}");
    }

    #[test]
    fn a_few_moves_make_room_for_most_of_what_best_fit_refuses() {
        let (without, _) = refused_of_8(Choice::BestFit, 0);
        let (with, moves) = refused_of_8(Choice::BestFit, 2);
        assert!(with * 2.0 < without, "{with} of {without}");
        assert!(moves < 0.1, "{moves} moves a placement");
    }

    #[test]
    fn a_seed_gives_the_same_outcome_twice() {
        assert_eq!(refused_of_8(Choice::Random, 0), refused_of_8(Choice::Random, 0));
    }

    #[test]
    fn settings_that_make_no_sense_name_the_flag_and_what_is_accepted() {
        let good = Settings {
            nodes: 1,
            load: 0.5,
            mix: [1, 0, 0, 0],
            choice: Choice::BestFit,
            moves: 0,
            seeds: 1,
        };
        let bad = [
            (Settings { nodes: 0, ..good }, "--nodes is 0"),
            (Settings { load: f64::NAN, ..good }, "--load is NaN"),
            (Settings { mix: [0; 4], ..good }, "--mix"),
            (Settings { moves: 9, ..good }, "--moves is 9"),
            (Settings { seeds: 0, ..good }, "--seeds is 0"),
        ];
        for (settings, words) in bad {
            let error = run(&settings).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains("accepted"), "{error}");
        }
    }
}
