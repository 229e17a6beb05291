//! The ledger: what is usable, guaranteed, committed and free, per (region, SKU) and per zone.
//!
//! *Guaranteed* to an organization = its contracts in force. *Committed* = the larger of guaranteed
//! and what it uses that is not spot. An on-demand ask needs a sum of committed that stays within
//! what is usable (S10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{Region, Sku, Zone};
use wharfage_shared::ids::OrganizationId;

use crate::fleet::Fleet;

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

/// Every (region, SKU) of the fleet, in order.
pub fn capacity(_fleet: &Fleet) -> Vec<LedgerRow> {
    Vec::new()
}
