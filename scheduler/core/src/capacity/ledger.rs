//! The ledger: what is usable, guaranteed, committed and free, per (region, SKU) and per zone.
//!
//! *Guaranteed* to an organization = its contracts in force. *Committed* = the larger of guaranteed
//! and what it uses that is not spot. An on-demand ask needs a sum of committed that stays within
//! what is usable (S10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::OrganizationId;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::node::Reach;

/// One (region, SKU).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Where.
    pub region: Region,
    /// Of what.
    pub sku: Sku,
    /// Standard instances of the provider that may be used now.
    pub usable: u32,
    /// The sum of what is guaranteed.
    pub guaranteed: u32,
    /// The sum of what is committed: what on-demand may not exceed `usable` with.
    pub committed: u32,
    /// What is used of the standard instances.
    pub used: u32,
    /// By how many instances the guarantees exceed what is usable: shown, alarmed, credited.
    pub shortfall: u32,
    /// Instances sold as spot that may be used now.
    pub spot_usable: u32,
    /// What is used of them.
    pub spot_used: u32,
    /// Organization by organization; a tenant is shown its own row only.
    pub organizations: BTreeMap<OrganizationId, OrganizationCapacity>,
    /// Zone by zone.
    pub zones: BTreeMap<Zone, ZoneCapacity>,
}

/// One organization's part of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationCapacity {
    /// By its contracts in force.
    pub guaranteed: u32,
    /// Standard instances that serve it.
    pub used: u32,
    /// The larger of the two.
    pub committed: u32,
    /// Spot instances that serve it.
    pub spot_used: u32,
}

/// One zone's part of a row, in instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneCapacity {
    /// All that are enrolled, whatever their state.
    pub nodes: u32,
    /// Standard instances that may be used now.
    pub usable: u32,
    /// Standard instances that serve somebody.
    pub used: u32,
    /// Usable and serving nobody.
    pub idle: u32,
    /// Spot instances that may be used now.
    pub spot_usable: u32,
    /// Spot instances that serve somebody.
    pub spot_used: u32,
}

/// Every (region, SKU) of the fleet, in order. A plain scan: what decides keeps the same sums as
/// they change, and a check compares both.
pub fn capacity(fleet: &Fleet) -> Vec<LedgerRow> {
    let mut rows: BTreeMap<(Region, Sku), LedgerRow> = BTreeMap::new();
    for node in fleet.nodes() {
        let row = row(&mut rows, node.region(), &node.sku);
        count(row, node);
    }
    for contract in fleet.contracts().filter(|row| row.in_force) {
        let contract = &contract.contract;
        let row = row(&mut rows, contract.region.clone(), &contract.sku);
        row.organizations.entry(contract.organization.clone()).or_default().guaranteed +=
            contract.instances;
    }
    for row in rows.values_mut() {
        for shares in row.organizations.values_mut() {
            shares.committed = shares.guaranteed.max(shares.used);
            row.guaranteed += shares.guaranteed;
            row.committed += shares.committed;
        }
        row.shortfall = row.guaranteed.saturating_sub(row.usable);
    }
    rows.into_values().collect()
}

fn row<'a>(
    rows: &'a mut BTreeMap<(Region, Sku), LedgerRow>,
    region: Region,
    sku: &Sku,
) -> &'a mut LedgerRow {
    rows.entry((region.clone(), sku.clone())).or_insert_with(|| LedgerRow {
        region,
        sku: sku.clone(),
        usable: 0,
        guaranteed: 0,
        committed: 0,
        used: 0,
        shortfall: 0,
        spot_usable: 0,
        spot_used: 0,
        organizations: BTreeMap::new(),
        zones: BTreeMap::new(),
    })
}

/// One node's part. Owned nodes are outside usable, guaranteed and committed.
fn count(row: &mut LedgerRow, node: &NodeRow) {
    let zone = row.zones.entry(node.zone.clone()).or_default();
    zone.nodes += 1;
    if node.owner.is_some() {
        return;
    }
    let there = node.reach != Reach::Lost && node.departed_at.is_none();
    let may_place = node.may_place().is_ok();
    let holder = node.held_for.as_ref().filter(|_| there);
    let usable = u32::from(may_place || holder.is_some());
    let used = u32::from(holder.is_some());
    let shares = holder.map(|held| row.organizations.entry(held.organization.clone()).or_default());
    match node.compute_class {
        ComputeClass::Standard => {
            zone.usable += usable;
            zone.used += used;
            zone.idle += u32::from(may_place && used == 0);
            row.usable += usable;
            row.used += used;
            if let Some(shares) = shares {
                shares.used += 1;
            }
        }
        ComputeClass::Spot => {
            zone.spot_usable += usable;
            zone.spot_used += used;
            row.spot_usable += usable;
            row.spot_used += used;
            if let Some(shares) = shares {
                shares.spot_used += 1;
            }
        }
    }
}
