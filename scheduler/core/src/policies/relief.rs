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
    /// Of these, those that leave now unless no second copy may run.
    pub leave: Vec<ReplicaId>,
}

/// Gives up the replicas whose proof has failed for `patience`, the longest degraded first: one of
/// a deployment at a time, or a fifth of the `desired` ones. An overload under which every proof is
/// late must not restart everything at once.
///
/// Each may still recover while its successor starts. It leaves once the successor serves, or when
/// nothing could be placed for as long again.
pub fn decide(wanted: &[&ReplicaRow], desired: u32, patience: Millis, now: Timestamp) -> Relief {
    let mut hung: Vec<(Timestamp, ReplicaId)> = wanted
        .iter()
        .filter_map(|replica| degraded_since(replica).map(|since| (since, replica.id)))
        .filter(|(since, _)| *since + patience <= now)
        .collect();
    hung.sort_unstable();
    hung.truncate((desired / 5).max(1) as usize);
    let is_given_up = |replica: &ReplicaRow| hung.iter().any(|(_, id)| *id == replica.id);
    let counted = || wanted.iter().filter(|replica| !is_given_up(replica));
    let starts = |replica: &&&ReplicaRow| {
        matches!(replica.phase, Phase::Placed { .. }) && !replica.was_ready
    };
    let goes = |since: Timestamp| {
        let placed = counted().filter(|replica| replica.phase.holds().is_some()).count();
        placed >= desired as usize || since + patience + patience <= now
    };
    let may_leave = counted().find(starts).is_none();
    let leave = hung.iter().filter(|(since, _)| may_leave && goes(*since)).map(|(_, id)| *id);
    Relief { leave: leave.collect(), given_up: hung.iter().map(|(_, id)| *id).collect() }
}

/// Since when its proof has failed, if it was ready before.
pub fn degraded_since(replica: &ReplicaRow) -> Option<Timestamp> {
    let Phase::Placed { seen: Some(seen), .. } = &replica.phase else { return None };
    (seen.phase == ReportedPhase::Degraded).then_some(seen.since)
}
