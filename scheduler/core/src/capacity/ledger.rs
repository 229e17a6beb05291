//! The ledger: what is usable, guaranteed, committed and free, per (region, SKU) and per zone.
//!
//! *Guaranteed* to an organization = its contracts in force; a CUSTOMER claim draws on them first
//! and only its excess adds; SERVERLESS claims add. *Committed* = the larger of guaranteed and what
//! it uses that is not spot, every claimed instance counting as used. An on-demand ask needs an
//! instance that no claim holds and a sum of committed that stays within what is usable (S10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::OrganizationId;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::contract::ContractTerms;
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
    /// Of these, serving nobody and not whole: they are promised to nobody.
    #[serde(default)]
    pub impaired: u32,
    /// The sum of what is guaranteed.
    pub guaranteed: u32,
    /// The sum of what is committed: what on-demand may not exceed `usable` with.
    pub committed: u32,
    /// What is used of the standard instances, every claimed one included.
    pub used: u32,
    /// Usable and neither used nor claimed.
    pub idle: u32,
    /// Whole ones that may still be taken on demand or claimed by somebody who is guaranteed nothing.
    pub free: u32,
    /// Usable instances that are lent as spot: they come back when they are called for.
    pub reclaimable: u32,
    /// By how many instances the guarantees exceed what is usable and whole: shown, alarmed, credited.
    pub shortfall: u32,
    /// Instances declared spot that may be used now.
    pub spot_usable: u32,
    /// What is used of them.
    pub spot_used: u32,
    /// Organization by organization; a tenant is shown its own row only.
    pub organizations: BTreeMap<OrganizationId, OrganizationCapacity>,
    /// Zone by zone.
    pub zones: BTreeMap<Zone, ZoneCapacity>,
}

/// One organization's part of a row, in instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationCapacity {
    /// By Reserved contracts in force.
    pub reserved: u32,
    /// By Flex contracts in force.
    pub flex: u32,
    /// Set aside by its SERVERLESS claims.
    pub claimed_serverless: u32,
    /// The provider's instances that its CUSTOMER claims hold.
    pub claimed_customer: u32,
    /// Its own nodes that its CUSTOMER claims hold; outside every other figure.
    pub claimed_owned: u32,
    /// Contracts or CUSTOMER claims, whichever are more, and SERVERLESS claims.
    pub guaranteed: u32,
    /// Standard instances that serve it or are claimed by it.
    pub used: u32,
    /// Of these, within its contracts.
    pub used_contract: u32,
    /// Of these, beyond its contracts and SERVERLESS claims.
    pub used_on_demand: u32,
    /// The larger of guaranteed and used.
    pub committed: u32,
    /// Spot instances that serve it, declared and lent.
    pub spot_used: u32,
}

/// One zone's part of a row, in instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneCapacity {
    /// All that are enrolled, whatever their state.
    pub nodes: u32,
    /// Those that a tenant owns.
    pub owned: u32,
    /// Standard instances that may be used now.
    pub usable: u32,
    /// Standard instances that serve somebody or are claimed.
    pub used: u32,
    /// Those that claims hold or are kept for.
    pub claimed: u32,
    /// Usable and neither used nor claimed.
    pub idle: u32,
    /// What the zone and the region's sum leave for on-demand.
    pub free: u32,
    /// Lent as spot.
    pub reclaimable: u32,
    /// Instances declared spot that may be used now.
    pub spot_usable: u32,
    /// What is used of them.
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
        let shares = row.organizations.entry(contract.organization.clone()).or_default();
        match contract.terms {
            ContractTerms::Reserved { .. } => shares.reserved += contract.instances,
            ContractTerms::Flex { .. } => shares.flex += contract.instances,
        }
    }
    for row in rows.values_mut() {
        for shares in row.organizations.values_mut() {
            shares.sum_up();
            row.guaranteed += shares.guaranteed;
            row.committed += shares.committed;
        }
        row.shortfall = row.guaranteed.saturating_sub(row.whole());
        row.free = row.whole().saturating_sub(row.committed);
        for zone in row.zones.values_mut() {
            zone.free = (zone.idle + zone.reclaimable).min(row.free);
        }
    }
    rows.into_values().collect()
}

impl OrganizationCapacity {
    /// What follows from the counts.
    fn sum_up(&mut self) {
        let contracts = self.reserved + self.flex;
        let beside_serverless = self.used - self.claimed_serverless;
        self.guaranteed = contracts.max(self.claimed_customer) + self.claimed_serverless;
        self.used_contract = beside_serverless.min(contracts);
        self.used_on_demand = beside_serverless - self.used_contract;
        self.committed = contracts.max(beside_serverless) + self.claimed_serverless;
    }
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
        impaired: 0,
        guaranteed: 0,
        committed: 0,
        used: 0,
        idle: 0,
        free: 0,
        reclaimable: 0,
        shortfall: 0,
        spot_usable: 0,
        spot_used: 0,
        organizations: BTreeMap::new(),
        zones: BTreeMap::new(),
    })
}

impl LedgerRow {
    /// Usable instances with all their GPUs: what a contract may promise.
    pub fn whole(&self) -> u32 {
        self.usable - self.impaired
    }
}

/// One node's part. Owned nodes are outside usable, guaranteed and committed.
fn count(row: &mut LedgerRow, node: &NodeRow) {
    let zone = row.zones.entry(node.zone.clone()).or_default();
    zone.nodes += 1;
    let there = node.reach != Reach::Lost && node.departed_at.is_none();
    let claimed = node.claimed.as_ref().filter(|_| there);
    if node.owner.is_some() {
        zone.owned += 1;
        if let Some(claimed) = claimed {
            row.organizations.entry(claimed.organization.clone()).or_default().claimed_owned += 1;
        }
        return;
    }
    let holder = node.held_for.as_ref().filter(|_| there);
    let usable = u32::from(claimed.is_some() || holder.is_some() || node.may_place().is_ok());
    let whose = claimed.map(|claimed| &claimed.organization);
    let whose = whose.or(holder.map(|held| &held.organization));
    let mut nobody = OrganizationCapacity::default();
    let shares = match whose {
        Some(organization) => row.organizations.entry(organization.clone()).or_default(),
        None => &mut nobody,
    };
    if node.compute_class == ComputeClass::Spot {
        let used = u32::from(whose.is_some());
        zone.spot_usable += usable;
        row.spot_usable += usable;
        zone.spot_used += used;
        row.spot_used += used;
        shares.spot_used += used;
        return;
    }
    zone.usable += usable;
    row.usable += usable;
    row.impaired += if whose.is_none() && !node.is_whole() { usable } else { 0 };
    let lent = holder.is_some_and(|held| held.compute_class == ComputeClass::Spot);
    match (claimed, lent) {
        (Some(claimed), _) => {
            zone.claimed += 1;
            match claimed.capacity_type {
                CapacityType::Serverless => shares.claimed_serverless += 1,
                CapacityType::Customer => shares.claimed_customer += 1,
            }
        }
        (None, true) => {
            zone.reclaimable += 1;
            row.reclaimable += 1;
            shares.spot_used += 1;
            return;
        }
        (None, false) => {}
    }
    let used = u32::from(whose.is_some());
    zone.used += used;
    row.used += used;
    shares.used += used;
    zone.idle += usable - used;
    row.idle += usable - used;
}
