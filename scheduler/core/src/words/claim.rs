//! A capacity claim: instances of one type in one zone that are set aside for an organization.
//!
//! Setting aside is not using: only a deployment's capacity classes put a replica there.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityType, Sku, Zone};
use wharfage_shared::ids::{ClaimId, OrganizationId};

/// What a claim asks for. Everything but the count is fixed for its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Unique among the organization's claims.
    pub name: String,
    /// Where its instances come from.
    pub capacity_type: CapacityType,
    /// Its creator used the later name of SERVERLESS, and is answered with it.
    #[serde(default)]
    pub says_managed: bool,
    /// Of what.
    pub sku: Sku,
    /// Where.
    pub zone: Zone,
    /// How many instances.
    pub instances: u32,
}

/// The claim that a node is set aside for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Which.
    pub claim: ClaimId,
    /// Whose.
    pub organization: OrganizationId,
    /// SERVERLESS adds to what is guaranteed, CUSTOMER draws on it.
    pub capacity_type: CapacityType,
}
