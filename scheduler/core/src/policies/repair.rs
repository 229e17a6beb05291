//! What follows from hardware that is at fault: which replicas end at once, and whose turn it is to
//! be reset or booted anew.

use std::collections::BTreeMap;

use wharfage_shared::health::Asked;
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::node::{Intent, Repair};
use crate::words::policy::Policy;
use crate::words::replica::Phase;

/// Whether the replica stood on a GPU when its fault was heard of; one that was placed later was
/// placed in the knowledge of it.
pub fn is_distrusted(fleet: &Fleet, replica: &ReplicaRow) -> bool {
    let Phase::Placed { seat, since, .. } = &replica.phase else { return false };
    seat.members().any(|(node, gpus)| {
        let asks = fleet.node(node).map(|node| node.asks.as_slice()).unwrap_or_default();
        asks.iter().any(|fact| {
            let here = fact.ask.gpu.as_ref().is_some_and(|gpu| gpus.contains(gpu));
            fact.ask.what == Asked::RestartReplica && here && *since < fact.at
        })
    })
}

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Repairs that are over.
    pub ended: Vec<(NodeId, u64)>,
    /// Repairs that begin, by node: one a node.
    pub begun: Vec<(NodeId, u64)>,
}

/// One repair a node at a time, and no more nodes at once than a share of the fleet: who asked first
/// comes first. While a brake is on none begins. What is to be drained is drained before its turn:
/// what runs on hardware at fault is better off elsewhere at once.
pub fn turns(fleet: &Fleet, policy: &Policy, now: Timestamp) -> Turns {
    let mut turns = Turns::default();
    let mut under_way = 0;
    let mut waiting: BTreeMap<(Timestamp, &NodeId), u64> = BTreeMap::new();
    for node in fleet.index.ruled.keys().filter_map(|node| fleet.node(node)) {
        let repairs = if node.intent == Intent::Retired { Vec::new() } else { node.repairs() };
        match node.doubts.repair {
            Some(repair) if repairs.iter().any(|(_, asked)| *asked == repair.incident) => {
                under_way += u32::from(holds_a_turn(policy, repair, now));
                continue;
            }
            Some(repair) => turns.ended.push((node.id.clone(), repair.incident)),
            None => {}
        }
        if let Some((since, incident)) = repairs.first() {
            waiting.insert((*since, &node.id), *incident);
        }
    }
    if fleet.brakes().next().is_none() {
        let left = most_at_once(fleet, policy).saturating_sub(under_way) as usize;
        let first = waiting.into_iter().take(left);
        turns.begun = first.map(|((_, node), incident)| (node.clone(), incident)).collect();
    }
    turns
}

/// So many nodes are repaired at once: at least one, or nothing would ever be.
pub fn most_at_once(fleet: &Fleet, policy: &Policy) -> u32 {
    let share = u64::from(fleet.index.standing) * u64::from(policy.repair_percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

/// A repair that nobody gets done does not keep others waiting for ever.
fn holds_a_turn(policy: &Policy, repair: Repair, now: Timestamp) -> bool {
    now < turn_ends(policy, repair)
}

/// When others may have the turn although the repair is not over.
pub fn turn_ends(policy: &Policy, repair: Repair) -> Timestamp {
    repair.at + Millis::from_seconds(policy.repair_turn_seconds.into())
}

/// Why what an incident asks for is not done yet, if it waits for its turn.
pub fn waits_because(fleet: &Fleet, node: &NodeRow, incident: u64) -> Option<String> {
    if !node.waits_for_repair(incident) {
        return None;
    }
    if let Some(repair) = node.doubts.repair {
        return Some(format!(
            "the repair for incident {} of this node goes first",
            repair.incident
        ));
    }
    if let Some((rule, _)) = fleet.brakes().next() {
        return Some(format!("the brake of {rule} is on"));
    }
    let others = fleet.nodes().filter(|other| other.doubts.repair.is_some());
    let names: Vec<&str> = others.map(|other| other.id.as_str()).collect();
    Some(format!("repairs of {} go first", names.join(", ")))
}
