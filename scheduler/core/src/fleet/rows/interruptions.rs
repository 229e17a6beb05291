//! How often capacity was taken away from those who used it: the fleet's own history, out of the
//! log, so that a new scheduler knows it too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::time::{Millis, Timestamp};

/// How far back is remembered.
pub const REMEMBERED: Millis = Millis::from_seconds(28 * 86_400);

const HOUR_MS: i64 = 3_600_000;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taken {
    /// Of what.
    pub sku: Sku,
    /// Where.
    pub zone: Zone,
    /// As what it was sold then: a standard node that is lent counts as spot.
    pub class: ComputeClass,
}

/// Nodes that were taken away, by the hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(BTreeMap<i64, u32>);

impl History {
    /// One more. What is older than is remembered is forgotten: the row stays small.
    pub fn add(&mut self, at: Timestamp) {
        self.0 = self.0.split_off(&hour(at.minus(REMEMBERED)));
        *self.0.entry(hour(at)).or_default() += 1;
    }

    /// How many since then, to the hour.
    pub fn since(&self, at: Timestamp) -> u32 {
        self.0.range(hour(at)..).map(|(_, count)| *count).sum()
    }
}

fn hour(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR_MS)
}
