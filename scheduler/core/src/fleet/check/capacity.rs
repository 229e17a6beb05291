//! S2 and S10: nodes never hold more than they have, contracts in force never promise more than was
//! checked, and the sums that decisions use agree with a plain count of the rows.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{ComputeClass, Region, Sku};
use wharfage_shared::ids::OrganizationId;

use super::Violation;
use crate::fleet::Fleet;
use crate::words::node::Reach;
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Vec<Violation>) {
    for node in fleet.nodes() {
        let held: usize = fleet
            .replicas_on(&node.id)
            .map(|replica| match &replica.phase {
                Phase::Placed { seat, .. } | Phase::Leaving { seat, .. } => seat.gpus.len(),
                Phase::Stopped { seat: Some(seat), proven: false, .. } => seat.gpus.len(),
                Phase::Stopped { .. } | Phase::Pending { .. } | Phase::Promised { .. } => 0,
            })
            .sum();
        if held > node.slots.len() {
            let text = format!("{} has {} GPUs, {held} are held", node.id, node.slots.len());
            found.push(Violation::new("S2", text));
        }
    }
    sums(fleet, found);
}

/// The index's used and guaranteed against the rows.
fn sums(fleet: &Fleet, found: &mut Vec<Violation>) {
    type Key = (Region, Sku, OrganizationId);
    let mut used: BTreeMap<Key, u32> = BTreeMap::new();
    for node in fleet.nodes() {
        let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
        let there = node.reach != Reach::Lost && node.departed_at.is_none();
        if let Some(held) = node.held_for.as_ref().filter(|_| standard && there) {
            let key = (node.zone.region(), node.sku.clone(), held.organization.clone());
            *used.entry(key).or_default() += 1;
        }
    }
    let mut guaranteed: BTreeMap<Key, u32> = BTreeMap::new();
    for row in fleet.contracts().filter(|row| row.in_force) {
        let contract = &row.contract;
        let organization = contract.organization.clone();
        let key = (contract.region.clone(), contract.sku.clone(), organization);
        *guaranteed.entry(key).or_default() += contract.instances;
    }
    let mut kept: (BTreeMap<Key, u32>, BTreeMap<Key, u32>) = Default::default();
    for ((region, sku), capacity) in fleet.index.capacity.iter() {
        for (organization, shares) in capacity.organizations.iter() {
            let key = (region.clone(), sku.clone(), organization.clone());
            if shares.used > 0 {
                kept.0.insert(key.clone(), shares.used);
            }
            if shares.guaranteed > 0 {
                kept.1.insert(key, shares.guaranteed);
            }
        }
    }
    if kept != (used, guaranteed) {
        let text = "the ledger's sums differ from the nodes and contracts".to_owned();
        found.push(Violation::new("S10", text));
    }
}
