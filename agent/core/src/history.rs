//! What this host has learned of its engines and models, kept across restarts of the agent: how
//! long starts and hooks took, and which versions said that they were ready when they were not.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wharfage_shared::telemetry::FalseReady;
use wharfage_shared::time::Millis;

use crate::runs::Runs;

/// Lengths kept of one kind of start: the median of few follows a change of the host soon.
const KEPT_OF_ONE: usize = 5;

/// Kinds of starts kept: the oldest is forgotten first.
const MOST_STARTS: usize = 500;

/// Versions kept that were not ready when they said so.
const MOST_VERSIONS: usize = 100;

/// All that was learned, as it lies on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Kinds of starts, the one that was seen last at the end.
    starts: VecDeque<Seen>,
    /// Versions that were not ready when they said so.
    false_ready: Vec<FalseReady>,
    /// What hooks took and wrote.
    pub runs: Runs,
}

/// One kind of start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Start {
    /// The engine.
    pub engine: String,
    /// The model's bucket.
    pub bucket: String,
    /// Its folder there.
    pub path: String,
    /// The GPUs that it was started on: `8x NVIDIA H100 80GB HBM3`.
    pub hardware: String,
    /// Whether the model lay in the host's cache already.
    pub cached: bool,
}

/// How long the two parts of a start took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// Bringing the model to the host.
    pub fetch: Millis,
    /// From the engine's start to its first proof.
    pub load: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    #[serde(flatten)]
    start: Start,
    took: VecDeque<Took>,
}

impl History {
    /// A replica was ready so long after its start.
    pub fn took(&mut self, start: Start, took: Took) {
        let known = self.starts.iter().position(|seen| seen.start == start);
        let known = known.and_then(|at| self.starts.remove(at));
        let mut seen = known.unwrap_or(Seen { start, took: VecDeque::new() });
        seen.took.push_back(took);
        while seen.took.len() > KEPT_OF_ONE {
            seen.took.pop_front();
        }
        self.starts.push_back(seen);
        while self.starts.len() > MOST_STARTS {
            self.starts.pop_front();
        }
    }

    /// How long such a start takes: the medians of the last ones. A start that only differs in
    /// what lay in the cache tells how long the engine loads, not how long the fetch takes.
    pub fn expected(&self, start: &Start) -> Option<Took> {
        if let Some(took) = self.medians(start) {
            return Some(took);
        }
        let other = self.medians(&Start { cached: !start.cached, ..start.clone() })?;
        Some(Took { fetch: Millis(0), load: other.load })
    }

    fn medians(&self, start: &Start) -> Option<Took> {
        let seen = self.starts.iter().find(|seen| seen.start == *start)?;
        let median = |part: fn(&Took) -> Millis| {
            let mut all: Vec<Millis> = seen.took.iter().map(part).collect();
            all.sort();
            all.get(all.len() / 2).copied()
        };
        Some(Took { fetch: median(|took| took.fetch)?, load: median(|took| took.load)? })
    }

    /// An engine said that it was ready and failed the generation; how often that was seen.
    pub fn was_not_ready(&mut self, engine: &str, version: &str) -> u32 {
        let of_it = |row: &&mut FalseReady| row.engine == engine && row.version == version;
        if let Some(row) = self.false_ready.iter_mut().find(of_it) {
            row.count = row.count.saturating_add(1);
            return row.count;
        }
        if self.false_ready.len() >= MOST_VERSIONS {
            self.false_ready.remove(0);
        }
        let (engine, version) = (engine.to_owned(), version.to_owned());
        self.false_ready.push(FalseReady { engine, version, count: 1 });
        1
    }

    /// Versions that were not ready when they said so.
    pub fn false_ready(&self) -> &[FalseReady] {
        &self.false_ready
    }
}
