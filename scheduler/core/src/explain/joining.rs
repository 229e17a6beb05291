//! Nodes that are on their way: nobody knows the moment, but what has to happen is known.

use wharfage_shared::capacity::{CapacityClass, ComputeClass};

use super::Candidates;
use super::when::Earliest;
use crate::capacity::ask::{Ask, ground};
use crate::fleet::Fleet;
use crate::words::because::placement::Rejection;

/// A node that has enrolled and cannot be used yet, else one that a pool waits for.
pub(super) fn earliest(fleet: &Fleet, ask: &Ask, candidates: &Candidates) -> Option<Earliest> {
    enrolled(fleet, ask, candidates).or_else(|| queued(fleet, ask))
}

fn enrolled(fleet: &Fleet, ask: &Ask, candidates: &Candidates) -> Option<Earliest> {
    let (node, waits) = candidates.iter().find_map(|candidate| {
        let waits = match candidate.rejection()? {
            Rejection::Joining => "once it is heard and its gates pass",
            Rejection::Qualifying => "once its gates pass",
            Rejection::Unproven => "once what ran there before is proven to be gone",
            _ => return None,
        };
        // What another organization owns is not this one's to wait for.
        let node = fleet.node(candidate.node).filter(|node| node.owner.is_none())?;
        ask.place_of(ground(node))?;
        Some((node, waits))
    })?;
    Some(Earliest { at: None, because: format!("{} can be used {waits}", node.id) })
}

fn queued(fleet: &Fleet, ask: &Ask) -> Option<Earliest> {
    let class = |class| match class {
        ComputeClass::Standard => CapacityClass::OnDemand,
        ComputeClass::Spot => CapacityClass::Spot,
    };
    let pools = fleet.pools().filter(|pool| {
        pool.owner.is_none()
            && pool.sku == ask.sku
            && ask.admits_zone(&pool.zone)
            && ask.place_of(class(pool.compute_class)).is_some()
    });
    let mut waits = pools.filter_map(|pool| {
        let queued = fleet.pool_count(&pool.id)?.queued;
        (queued > 0).then_some((queued, pool))
    });
    let (queued, pool) = waits.next()?;
    let nodes = if queued == 1 { "1 node is".to_owned() } else { format!("{queued} nodes are") };
    Some(Earliest { at: None, because: format!("{nodes} still to join the pool {}", pool.id) })
}
