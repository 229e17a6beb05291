//! Which replicas of nodes that must be emptied may leave now.
//!
//! A replica that must go keeps its traffic until others serve in its stead; it needs no placement
//! of its own, because it does not count and the deployment wants a successor. Near the end of a
//! notice the agent drains by itself, and a reclaim drains at its stated time.

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Timestamp;

use crate::capacity::standing::{grace, is_emptied_for_repair};
use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;

/// A replica that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// Which.
    pub replica: ReplicaId,
    /// Why.
    pub because: StopCause,
    /// Until when.
    pub deadline: Timestamp,
}

/// Of the replicas on nodes that must be emptied, those that others stand in for: `ready` others
/// serve and `desired` are wanted. Those that serve longest stay longest.
pub fn decide(
    fleet: &Fleet,
    stayers: &[&ReplicaRow],
    ready: u32,
    desired: u32,
    now: Timestamp,
) -> Vec<Leaver> {
    let needed = desired.saturating_sub(ready) as usize;
    let mut stayers = stayers.to_vec();
    stayers.sort_by_key(|replica| {
        let is_ready = replica.phase.is_ready();
        (!is_ready, replica.since(), replica.id)
    });
    stayers.into_iter().skip(needed).map(|replica| leaver(fleet, replica, now)).collect()
}

/// Why and until when a replica of a node that must be emptied leaves: a notice gives its whole
/// window, an operator's drain gives the grace.
pub fn leaver(fleet: &Fleet, replica: &ReplicaRow, now: Timestamp) -> Leaver {
    let nodes = || replica.nodes().filter_map(|node| fleet.node(node));
    let emptied = |seat| nodes().any(|node| is_emptied_for_repair(fleet, node, seat));
    let repair = replica.phase.seat().is_some_and(emptied);
    let notices = nodes().filter_map(|node| node.notice());
    let (because, deadline) = match notices.min_by_key(|notice| notice.gone_at) {
        Some(notice) => (StopCause::NodeNoticed, notice.gone_at.max(now)),
        None if repair => (StopCause::HardwareRepair, now + grace(fleet, replica)),
        None if replica.moving.is_some() => (StopCause::Moved, now + grace(fleet, replica)),
        None => (StopCause::NodeDrained, now + grace(fleet, replica)),
    };
    Leaver { replica: replica.id, because, deadline }
}
