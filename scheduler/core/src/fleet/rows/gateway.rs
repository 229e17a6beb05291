//! Gateway resources and gateway processes.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GatewayId, GatewayName, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::gateway::Spec;

/// A front door of one organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRow {
    /// Its id.
    pub id: GatewayId,
    /// Whose.
    pub organization: OrganizationId,
    /// What was asked for.
    pub spec: Spec,
    /// Since when.
    pub created_at: Timestamp,
    /// When its spec changed last.
    pub updated_at: Timestamp,
}

/// A running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayProcessRow {
    /// The name it enrolled with.
    pub name: GatewayName,
    /// SHA-256 of its public key.
    pub key: String,
    /// Since when.
    pub enrolled_at: Timestamp,
    /// Whether its lease is live, as far as the log knows.
    pub connected: bool,
    /// Since when it is so.
    pub since: Timestamp,
}
