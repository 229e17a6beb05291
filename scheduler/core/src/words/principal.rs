//! Who asks: an organization and what its token may do there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{OrganizationId, TokenId};

/// The provider's own organization: its tokens see all.
pub const PROVIDER: &str = "provider";

/// What a token may do in its organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads deployments, replicas, nodes; sends requests.
    Viewer,
    /// Writes deployments, gateways, claims; the provider's also nodes.
    Operator,
    /// Reads usage and invoices.
    Billing,
    /// Tokens, contracts, prices, joins; includes the other three.
    Admin,
}

/// The caller of a command or a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Whose token.
    pub organization: OrganizationId,
    /// Which token; absent for the scheduler's own bootstrap and for drill sheets.
    pub token: Option<TokenId>,
    /// What it may do.
    pub roles: BTreeSet<Role>,
}

impl Caller {
    /// The provider with every role: bootstrap, drill sheets.
    pub fn provider() -> Self {
        Self { organization: PROVIDER.into(), token: None, roles: [Role::Admin].into() }
    }

    /// Whether it belongs to the provider, who sees all.
    pub fn is_provider(&self) -> bool {
        self.organization.as_str() == PROVIDER
    }

    /// Whether it holds the role (admin includes all).
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }

    /// Whether things of this organization exist for it.
    pub fn sees(&self, organization: &OrganizationId) -> bool {
        self.is_provider() || self.organization == *organization
    }
}
