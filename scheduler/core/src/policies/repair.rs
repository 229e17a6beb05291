//! Which replicas end at once because what they run on is at fault.

use wharfage_shared::health::Asked;

use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::Phase;

/// Whether the replica stood on a GPU when its fault was heard of; one that was placed later was
/// placed in the knowledge of it.
pub fn is_distrusted(fleet: &Fleet, replica: &ReplicaRow) -> bool {
    let Phase::Placed { seat, since, .. } = &replica.phase else { return false };
    let Some(node) = fleet.node(&seat.node) else { return false };
    node.asks.iter().any(|fact| {
        let here = fact.ask.gpu.as_ref().is_some_and(|gpu| seat.gpus.contains(gpu));
        fact.ask.what == Asked::RestartReplica && here && *since < fact.at
    })
}
