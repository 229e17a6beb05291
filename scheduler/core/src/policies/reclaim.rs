//! Which lent node is called back for an ask that only spot stands in the way of.
//!
//! Asked for what is guaranteed, or what the region's sum admits on demand beside what is called
//! back already; never for what would still not fit, and never for spot itself. What is called back
//! for nobody any more, because its drain could not be undone, is the next one's.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::Ask;
use crate::capacity::fit::offered;
use crate::capacity::lending::{cost, is_callable, is_fresh, waiting_for};
use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;

/// Whether anything could be called back for the ask at all.
pub fn is_worth_asking(fleet: &Fleet, ask: &Ask) -> bool {
    let any = !fleet.index.lent.is_empty();
    any && ask.place_of(CapacityClass::OnDemand).is_some() && lent(fleet, &ask.sku).next().is_some()
}

/// Lent nodes of a type, in order.
fn lent<'a>(fleet: &'a Fleet, sku: &'a Sku) -> impl Iterator<Item = &'a NodeRow> {
    let from = (sku.clone(), Zone::new(""), NodeId::new(""));
    let keys = fleet.index.lent.from(&from).map(|(key, ())| key);
    let keys = keys.take_while(move |(of, _, _)| of == sku);
    keys.filter_map(|(_, _, id)| fleet.node(id))
}

/// For whom a node is called back.
fn called_for(node: &NodeRow) -> Option<&OrganizationId> {
    node.called
        .as_ref()
        .and_then(|called| called.organization.as_ref())
        .filter(|_| node.is_coming())
}

/// A node that is called back for the organization already and has room for one more of its own,
/// as long as it can still be given to it.
pub fn shared(fleet: &Fleet, ask: &Ask) -> Option<NodeId> {
    let mut still: BTreeMap<Region, bool> = BTreeMap::new();
    let coming = lent(fleet, &ask.sku).filter(|node| {
        let unclaimed = node.claimed.is_none() && called_for(node) == Some(&ask.organization);
        unclaimed && may_use(ask, node)
    });
    let mut with_room = coming.filter(|node| {
        let waiting = waiting_for(fleet, node).filter_map(|row| fleet.spec_of(row));
        let taken: usize = waiting.map(|spec| usize::from(spec.gpus.get())).sum();
        let has_room = taken + usize::from(ask.gpus) <= node.slots.len();
        let region = node.region();
        has_room && *still.entry(region.clone()).or_insert_with(|| holds(fleet, ask, region))
    });
    with_room.next().map(|node| node.id.clone())
}

/// The first node to be free of those that are called back for nobody any more and drain already,
/// if the ask would fit there and is admitted.
pub fn given_up(fleet: &Fleet, ask: &Ask, now: Timestamp) -> Option<NodeId> {
    let free = lent(fleet, &ask.sku).filter(|node| {
        let nobodys = node.called.as_ref().is_some_and(|called| called.organization.is_none());
        let room = node.slots.len() >= usize::from(ask.gpus) && node.claimed.is_none();
        nobodys && room && node.is_coming() && may_use(ask, node)
    });
    let drains = free.filter_map(|node| {
        let notice = node.reclaim().filter(|notice| notice.drain_at <= now)?;
        admits(fleet, ask, node.region()).then_some((notice.gone_at, node.id.clone()))
    });
    drains.min().map(|(_, node)| node)
}

/// The lent node whose loss costs least, if the ask would fit there and is admitted.
pub fn cheapest(fleet: &Fleet, ask: &Ask, now: Timestamp) -> Option<NodeId> {
    let mut admitted: BTreeMap<Region, bool> = BTreeMap::new();
    let fitting = lent(fleet, &ask.sku).filter(|node| {
        is_callable(fleet, node, now)
            && may_use(ask, node)
            && node.slots.len() >= usize::from(ask.gpus)
    });
    let fitting = fitting.filter(|node| {
        let region = node.region();
        *admitted.entry(region.clone()).or_insert_with(|| admits(fleet, ask, region))
    });
    fitting.map(|node| cost(fleet, node, now)).min().map(|cost| cost.node)
}

/// Whether something was lent a moment ago that the ask may want back a moment later.
pub fn is_for_later(fleet: &Fleet, ask: &Ask, now: Timestamp) -> bool {
    lent(fleet, &ask.sku).any(|node| may_use(ask, node) && is_fresh(fleet, node, now))
}

/// The call that comes last of those for an organization that has just taken an instance, where it
/// may not have both.
pub fn one_too_many(fleet: &Fleet, taken: &NodeId) -> Option<NodeId> {
    let taken = fleet.node(taken).filter(|node| node.sold() == ComputeClass::Standard)?;
    let organization = &taken.held_for.as_ref()?.organization;
    let capacity = fleet.index.capacity.get(&(taken.region(), taken.sku.clone()))?;
    let own = capacity.organizations.get(organization).filter(|own| own.called > 0)?;
    if own.used + own.called <= own.guaranteed || capacity.coming <= capacity.usable {
        return None;
    }
    let calls = lent(fleet, &taken.sku).filter(|node| {
        let unclaimed = node.claimed.is_none() && called_for(node) == Some(organization);
        unclaimed && node.region() == taken.region()
    });
    let last = calls.max_by_key(|node| (node.reclaim().map(|notice| notice.gone_at), &node.id));
    last.map(|node| node.id.clone())
}

fn may_use(ask: &Ask, node: &NodeRow) -> bool {
    ask.admits_zone(&node.zone) && offered(ask, node).is_ok()
}

/// Whether the organization may still have all that is called back for it.
fn holds(fleet: &Fleet, ask: &Ask, region: Region) -> bool {
    let Some(capacity) = fleet.index.capacity.get(&(region, ask.sku.clone())) else {
        return false;
    };
    let own = capacity.organizations.get(&ask.organization).copied().unwrap_or_default();
    own.used + own.called <= own.guaranteed || capacity.coming <= capacity.usable
}

/// Whether the organization may have one more instance in the region beside everything that is
/// called back for somebody: within its guarantee, or within what is usable.
fn admits(fleet: &Fleet, ask: &Ask, region: Region) -> bool {
    let Some(capacity) = fleet.index.capacity.get(&(region, ask.sku.clone())) else {
        return false;
    };
    let own = capacity.organizations.get(&ask.organization).copied().unwrap_or_default();
    own.used + own.called < own.guaranteed || capacity.coming < capacity.usable
}
