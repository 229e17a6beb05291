//! An instance quota: how many instances an organization's CUSTOMER claims may take in a zone.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{Sku, Zone};
use wharfage_shared::ids::OrganizationId;

/// What a quota is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaKey {
    /// Whose.
    pub organization: OrganizationId,
    /// Where.
    pub zone: Zone,
    /// Of what.
    pub sku: Sku,
}
