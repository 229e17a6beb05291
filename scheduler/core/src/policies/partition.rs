//! Whether the silence of many nodes at once is a partition rather than their loss.

use std::collections::BTreeMap;

use wharfage_shared::capacity::Zone;
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::words::node::{Intent, Reach};
use crate::words::policy::Policy;

/// Until when each zone's silent nodes are not declared lost: more than a fifth of the zone and at
/// least three nodes fell silent within a minute.
pub fn suspected(fleet: &Fleet, policy: &Policy, now: Timestamp) -> BTreeMap<Zone, Timestamp> {
    let mut silent: BTreeMap<Zone, Vec<Timestamp>> = BTreeMap::new();
    let mut known: BTreeMap<Zone, usize> = BTreeMap::new();
    for node in fleet.nodes() {
        if node.reach == Reach::Joining || node.intent == Intent::Retired {
            continue;
        }
        *known.entry(node.zone.clone()).or_default() += 1;
        if node.reach == Reach::Silent {
            silent.entry(node.zone.clone()).or_default().push(node.reach_since);
        }
    }
    let window = Millis::from_seconds(policy.partition_window_seconds.into());
    let hold = Millis::from_seconds(policy.partition_hold_seconds.into());
    let mut held = BTreeMap::new();
    for (zone, mut since) in silent {
        since.sort_unstable();
        let together = |last: &Timestamp| {
            since.iter().filter(|at| **at <= *last && last.since(**at) <= window).count()
        };
        let most = since.iter().map(together).max().unwrap_or(0);
        let nodes = known.get(&zone).copied().unwrap_or(0);
        let share = most * 100 > nodes * usize::from(policy.partition_percent);
        let Some(newest) = since.last() else { continue };
        let until = *newest + hold;
        if share && most >= policy.partition_nodes as usize && now < until {
            held.insert(zone, until);
        }
    }
    held
}
