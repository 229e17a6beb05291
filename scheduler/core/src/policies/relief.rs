//! Which degraded replicas are given up: an engine that hangs keeps its processes and its GPUs, so
//! nothing else ever ends it.

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::Phase;

/// What happens to the degraded replicas of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relief {
    /// They no longer count: others are wanted in their stead.
    pub given_up: Vec<ReplicaId>,
    /// Of these, those that leave now.
    pub leave: Vec<ReplicaId>,
}

/// Gives up the replicas whose proof has failed for `patience`, the longest degraded first: one of
/// a deployment at a time, or a fifth of the desired ones. An overload under which every
/// proof is late must not restart everything at once.
///
/// Each may still recover while its successor starts beside it, if the `max` has room for both, and
/// leaves once that one serves. One whose proof has failed for twice as long leaves in any case,
/// unless another one is starting.
pub fn decide(wanted: &[&ReplicaRow], counts: Counts, patience: Millis, now: Timestamp) -> Relief {
    let mut hung: Vec<(Timestamp, ReplicaId)> = wanted
        .iter()
        .filter_map(|replica| degraded_since(replica).map(|since| (since, replica.id)))
        .filter(|(since, _)| *since + patience <= now)
        .collect();
    hung.sort_unstable();
    hung.truncate((counts.desired / 5).max(1) as usize);
    let others: Vec<&&ReplicaRow> =
        wanted.iter().filter(|row| !hung.iter().any(|(_, id)| *id == row.id)).collect();
    let starting =
        others.iter().any(|row| matches!(row.phase, Phase::Placed { .. }) && !row.was_ready);
    let placed = others.iter().filter(|row| row.phase.holds().is_some()).count();
    let goes = |since: Timestamp| {
        let is_hopeless = since + patience + patience <= now;
        !starting && (placed >= counts.desired as usize || is_hopeless)
    };
    let beside = (counts.max as usize).saturating_sub(others.len().max(counts.desired as usize));
    let leave: Vec<ReplicaId> =
        hung.iter().filter(|(since, _)| goes(*since)).map(|(_, id)| *id).collect();
    let stay = hung.iter().map(|(_, id)| *id).filter(|id| !leave.contains(id)).take(beside);
    Relief { given_up: leave.iter().copied().chain(stay).collect(), leave }
}

/// How many of a deployment there should and may be.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// How many are wanted.
    pub desired: u32,
    /// How many may stand at a time.
    pub max: u32,
}

/// Whether its proof has failed for twice `patience`: nobody waits for it any longer.
pub fn is_hopeless(replica: &ReplicaRow, patience: Millis, now: Timestamp) -> bool {
    degraded_since(replica).is_some_and(|since| since + patience + patience <= now)
}

/// Since when its proof has failed, if it was ready before.
pub fn degraded_since(replica: &ReplicaRow) -> Option<Timestamp> {
    let Phase::Placed { seen: Some(seen), .. } = &replica.phase else { return None };
    (seen.phase == ReportedPhase::Degraded).then_some(seen.since)
}
