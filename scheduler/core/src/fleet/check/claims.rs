//! S2 for claims: an instance is set aside for one claim, of the right place, type and owner, and
//! never more than the claim is to hold or its quota allows.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{CapacityType, ComputeClass};
use wharfage_shared::ids::{ClaimId, NodeId};

use super::{Findings, Step};
use crate::fleet::Fleet;
use crate::fleet::rows::claim::ClaimRow;
use crate::words::node::Intent;
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let mut bound: BTreeMap<&ClaimId, Vec<&NodeId>> = BTreeMap::new();
    for node in fleet.nodes() {
        let held = node.held_for.as_ref().and_then(|held| held.claim.as_ref());
        if let (Some(held), None) = (held, &node.claimed) {
            found.add("S2", format!("{} serves the claim {held}, which gave it back", node.id));
        }
        let Some(claimed) = &node.claimed else { continue };
        bound.entry(&claimed.claim).or_default().push(&node.id);
        let id = &node.id;
        let Some(claim) = fleet.claim(&claimed.claim) else {
            found.add("S2", format!("{id} is set aside for the unknown claim {}", claimed.claim));
            continue;
        };
        let same = claimed.organization == claim.organization
            && claimed.capacity_type == claim.spec.capacity_type;
        let place = node.zone == claim.spec.zone && node.sku == claim.spec.sku;
        if !same || !place || node.compute_class != ComputeClass::Standard {
            found.add("S2", format!("{id} is not what the claim {} asks for", claim.id));
        }
        let customer = claim.spec.capacity_type == CapacityType::Customer;
        let own = customer && node.owner.as_ref() == Some(&claim.organization);
        if node.owner.is_some() && !own {
            found.add("S2", format!("{id} has an owner, whose claim {} is not", claim.id));
        }
        if held.is_some_and(|held| *held != claim.id) {
            found.add("S2", format!("{id} is set aside for {} and serves another", claim.id));
        }
        if claim.deleted_at.is_some() {
            found.add("S2", format!("{id} is set aside for {}, which has ended", claim.id));
        }
    }
    for claim in fleet.claims.values() {
        let listed: Vec<&NodeId> = claim.instances.iter().collect();
        let real = bound.remove(&claim.id).unwrap_or_default();
        if listed != real {
            let id = &claim.id;
            found.add("S2", format!("{id} lists {listed:?} as its instances, they are {real:?}"));
        }
        if listed.len() > claim.granted as usize {
            let (id, count, granted) = (&claim.id, listed.len(), claim.granted);
            found.add("S2", format!("{id} holds {count} instances and is to hold {granted}"));
        }
    }
    alone(fleet, found);
}

/// What serves a claim serves nobody else: what others left there is gone or under a notice.
fn alone(fleet: &Fleet, found: &mut Findings) {
    for replica in fleet.replicas() {
        let Phase::Placed { seat, .. } = &replica.phase else { continue };
        let others = seat.others.iter().map(|other| &other.node);
        for id in others.chain([&seat.node]) {
            let node = fleet.node(id);
            let Some((node, claimed)) = node.and_then(|node| Some((node, node.claimed.as_ref()?)))
            else {
                continue;
            };
            // What was lent is the claim's once it is empty: until then its notice says by when.
            let is_its_own = node.held_for.as_ref().is_some_and(|held| held.claim.is_some());
            if !is_its_own && !node.notices.is_empty() {
                continue;
            }
            if claimed.organization != replica.organization {
                let text =
                    format!("{} stands on {id}, which another's claim has taken", replica.id);
                found.add("S2", text);
            }
        }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for claim in step.after.claims() {
        let before = step.before.claim(&claim.id);
        if before.is_none_or(|before| before.granted < claim.granted) {
            within_quota(step, claim, found);
        }
    }
}

/// All CUSTOMER claims of an organization in a zone against what was set, or what it owns there
/// and has under contract in the region.
fn within_quota(step: &Step<'_>, claim: &ClaimRow, found: &mut Findings) {
    if claim.spec.capacity_type != CapacityType::Customer {
        return;
    }
    let (of, zone, sku) = (&claim.organization, &claim.spec.zone, &claim.spec.sku);
    let mut taken = 0;
    for other in step.after.claims() {
        let customer = other.spec.capacity_type == CapacityType::Customer;
        if customer
            && other.organization == *of
            && other.spec.zone == *zone
            && other.spec.sku == *sku
        {
            taken += other.granted;
        }
    }
    let set = step
        .after
        .quotas()
        .find(|(key, _)| key.organization == *of && key.zone == *zone && key.sku == *sku);
    let quota = set.map_or_else(
        || {
            let mut quota = 0;
            for node in step.after.nodes() {
                let own = node.owner.as_ref() == Some(of) && node.intent != Intent::Retired;
                quota += u32::from(own && node.zone == *zone && node.sku == *sku);
            }
            for row in step.after.contracts().filter(|row| row.in_force) {
                let contract = &row.contract;
                if contract.organization == *of
                    && contract.region == zone.region()
                    && contract.sku == *sku
                {
                    quota += contract.instances;
                }
            }
            quota
        },
        |(_, instances)| instances,
    );
    if taken > quota {
        let id = &claim.id;
        found.add("S2", format!("{id} makes {taken} claimed instances of a quota of {quota}"));
    }
}
