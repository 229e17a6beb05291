//! Who goes when there are more replicas than are wanted: what serves least and least long.

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;

use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::Phase;

/// The `surplus` replicas that go, in order: those that are nowhere, those that do not serve yet,
/// then those that serve least long. The youngest of equals goes first.
pub fn decide(
    fleet: &Fleet,
    counted: &[&ReplicaRow],
    surplus: usize,
) -> Vec<(ReplicaId, StopCause)> {
    let mut order = counted.to_vec();
    order.sort_by_key(|replica| {
        let (stage, ready_since) = match &replica.phase {
            Phase::Pending { .. } => (0, None),
            Phase::Promised { .. } => (1, None),
            Phase::Placed { ready_since: None, .. } => (2, None),
            Phase::Placed { ready_since, .. } => (3, *ready_since),
            Phase::Leaving { .. } | Phase::Stopped { .. } => (4, None),
        };
        let latest_first = std::cmp::Reverse((ready_since, replica.created_at, replica.id));
        (stage, latest_first)
    });
    let going = order.into_iter().take(surplus);
    going.map(|replica| (replica.id, cause(fleet, replica))).collect()
}

/// A replica that was placed before its node was lost and heard again goes because of that.
fn cause(fleet: &Fleet, replica: &ReplicaRow) -> StopCause {
    let Phase::Placed { since, seat, .. } = &replica.phase else { return StopCause::ScaledDown };
    let mut nodes = seat.nodes().filter_map(|node| fleet.node(node));
    let returned = nodes.any(|node| node.reach_since > *since);
    if returned { StopCause::NodeLost } else { StopCause::ScaledDown }
}
