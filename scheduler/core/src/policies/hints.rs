//! Nodes that may be taken away: a notice that is merely likely closes its node for what is new, and
//! has it emptied early, successors first.
//!
//! Guards the churn: only so many nodes are emptied at once, and a hint that lies far ahead waits.

use std::collections::BTreeMap;

use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::node::{Doubt, Hint, Intent, Reach};
use crate::words::policy::Policy;

/// What changes by the hints that a node's report names. One that is known stays while it is named;
/// of new ones the earliest counts.
pub fn of_report(
    node: &NodeRow,
    policy: &Policy,
    told: Vec<Hint>,
    now: Timestamp,
) -> Option<Doubt> {
    let ahead = policy.leave_early_within();
    let is_near = |hint: &Hint| hint.gone_at.since(now) <= ahead;
    let counts = |hint: &Hint| policy.leave_early_nodes > 0 && is_near(hint);
    let known = node.doubts.hint.as_ref();
    if known.is_some_and(|known| told.iter().any(|hint| hint.id == known.id && counts(hint))) {
        return None;
    }
    let near = told.into_iter().filter(counts);
    match near.min_by(|a, b| (a.gone_at, &a.id).cmp(&(b.gone_at, &b.id))) {
        Some(hint) => Some(Doubt::Hinted { hint }),
        None => known.map(|_| Doubt::HintOver),
    }
}

/// The nodes whose turn it is to be emptied: whoever may go first comes first. A node that is
/// emptied and still holds something has its turn. While a brake is on none begins.
pub fn turns(fleet: &Fleet, policy: &Policy) -> Vec<NodeId> {
    let mut under_way = 0;
    let mut waiting: BTreeMap<(Timestamp, &NodeId), ()> = BTreeMap::new();
    for node in fleet.index.hinted.keys().filter_map(|node| fleet.node(node)) {
        let Some(hint) = node.doubts.hint.as_ref().filter(|_| !node.replicas.is_empty()) else {
            continue;
        };
        let leaves_anyway = node.notice().is_some() || node.departed_at.is_some();
        let is_here = node.reach == Reach::Connected && node.intent != Intent::Retired;
        match node.doubts.early {
            Some(_) => under_way += 1,
            None if is_here && !leaves_anyway => {
                waiting.insert((hint.gone_at, &node.id), ());
            }
            None => {}
        }
    }
    if fleet.brakes().next().is_some() {
        return Vec::new();
    }
    let left = policy.leave_early_nodes.saturating_sub(under_way) as usize;
    waiting.into_keys().take(left).map(|(_, node)| node.clone()).collect()
}
