//! Which instance a claim takes next, and which it gives back first.

use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass};
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::classes;
use crate::capacity::claims::{admits, is_available};
use crate::capacity::lending::{cost, is_callable};
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::claim::ClaimRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::replica::Phase;

/// The instance that a claim takes next: for CUSTOMER what its organization owns, then what is
/// idle, then for CUSTOMER what serves its organization already, then what is about to be empty,
/// then what is lent as spot and must be called back, where that costs least.
pub fn next_instance(fleet: &Fleet, claim: &ClaimRow, now: Timestamp) -> Option<NodeId> {
    let customer = claim.spec.capacity_type == CapacityType::Customer;
    let owned = || fleet.nodes().find(|node| is_owned(claim, node));
    let used = || fleet.nodes().find(|node| may_join(fleet, claim, node));
    let emptying = || fleet.nodes().find(|node| is_emptying(fleet, claim, node));
    let found = customer.then(owned).flatten();
    let found = found.or_else(|| idle(fleet, claim));
    let found = found.or_else(|| customer.then(used).flatten());
    let found = found.or_else(emptying).map(|node| node.id.clone());
    found.or_else(|| lent(fleet, claim, now))
}

/// The lent instance whose loss costs least.
fn lent(fleet: &Fleet, claim: &ClaimRow, now: Timestamp) -> Option<NodeId> {
    let (sku, zone) = (&claim.spec.sku, &claim.spec.zone);
    let from = (sku.clone(), zone.clone(), NodeId::new(""));
    let keys = fleet.index.lent.from(&from).map(|(key, ())| key);
    let here = keys.take_while(|(of, at, _)| of == sku && at == zone);
    let nodes = here.filter_map(|(_, _, id)| fleet.node(id));
    let callable = nodes.filter(|node| is_callable(fleet, node, now) && admits(fleet, claim, node));
    callable.map(|node| cost(fleet, node, now)).min().map(|cost| cost.node)
}

fn is_there(claim: &ClaimRow, node: &NodeRow) -> bool {
    let spec = &claim.spec;
    let same = node.sku == spec.sku && node.zone == spec.zone;
    same && node.claimed.is_none() && node.sold() == ComputeClass::Standard
}

fn is_owned(claim: &ClaimRow, node: &NodeRow) -> bool {
    let own = node.owner.as_ref() == Some(&claim.organization) && is_there(claim, node);
    own && node.held_for.is_none() && node.is_whole() && node.may_place().is_ok()
}

/// The first idle instance that is whole. All of them are alike to admission.
fn idle<'a>(fleet: &'a Fleet, claim: &ClaimRow) -> Option<&'a NodeRow> {
    let group = SeatGroup {
        sku: claim.spec.sku.clone(),
        zone: claim.spec.zone.clone(),
        class: ComputeClass::Standard,
        serves: None,
        claimed: false,
        whole: true,
    };
    let ((_, node), ()) = fleet.index.seats.get(&group)?.first()?;
    fleet.node(node).filter(|node| admits(fleet, claim, node))
}

/// In use by the claim's organization, by replicas that may stay when a claim holds it.
fn may_join(fleet: &Fleet, claim: &ClaimRow, node: &NodeRow) -> bool {
    let serves = node.held_for.as_ref().map(|held| &held.organization);
    let own = node.owner.is_none() && serves == Some(&claim.organization);
    let sound = node
        .slots
        .iter()
        .all(|slot| slot.unfit.is_none() && slot.orphan.is_none() && slot.promised.is_none());
    own && sound
        && is_there(claim, node)
        && node.may_place().is_ok()
        && fleet.replicas_on(&node.id).all(|replica| {
            let of = fleet.deployment(&replica.deployment);
            let placed = matches!(replica.phase, Phase::Placed { .. });
            let reserved = |spec| classes(spec).contains(&CapacityClass::Reserved);
            placed && of.is_some_and(|of| reserved(&of.spec))
        })
        && admits(fleet, claim, node)
}

/// Its last replica is leaving: it counts as free for a claim.
fn is_emptying(fleet: &Fleet, claim: &ClaimRow, node: &NodeRow) -> bool {
    let sound = node.slots.iter().all(|slot| {
        let nobodys = slot.promised.is_none() && slot.orphan.is_none();
        nobodys && slot.unfit.is_none()
    });
    is_there(claim, node)
        && node.owner.is_none()
        && node.held_for.is_some()
        && sound
        && node.may_place().is_ok()
        && fleet.replicas_on(&node.id).all(|row| matches!(row.phase, Phase::Leaving { .. }))
        && admits(fleet, claim, node)
}

/// The instance that a claim gives back first: one that it cannot count on, then where the least
/// work is lost; a provider's before one of its own organization's.
pub fn surplus(fleet: &Fleet, claim: &ClaimRow) -> Option<NodeId> {
    let nodes = claim.instances.iter().filter_map(|id| fleet.node(id));
    let last = nodes.min_by_key(|node| {
        let placed = fleet.replicas_on(&node.id);
        let busy: usize = placed
            .filter_map(|replica| match &replica.phase {
                Phase::Placed { seat, .. } => Some(seat.gpus_on(&node.id).len()),
                Phase::Pending { .. }
                | Phase::Promised { .. }
                | Phase::Leaving { .. }
                | Phase::Stopped { .. } => None,
            })
            .sum();
        let id = std::cmp::Reverse(node.id.clone());
        let counts = is_available(node) || node.is_coming();
        (counts, node.is_allocated(), busy, node.owner.is_some(), id)
    });
    last.map(|node| node.id.clone())
}
