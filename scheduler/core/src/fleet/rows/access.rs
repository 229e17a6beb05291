//! Organizations, tokens and joins.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{JoinId, OrganizationId, TokenId};
use wharfage_shared::time::Timestamp;

use crate::words::command::access::Admits;
use crate::words::principal::{Caller, Role};

/// A tenant, or the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationRow {
    /// Its id.
    pub id: OrganizationId,
    /// ISO 4217.
    pub currency: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its public id.
    pub id: TokenId,
    /// Whose.
    pub organization: OrganizationId,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// For people.
    pub name: String,
    /// SHA-256 (hex) of its secret.
    pub sha256: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRow {
    /// Who asks with it; nobody once it is revoked.
    pub fn caller(&self) -> Option<Caller> {
        let caller = Caller {
            organization: self.organization.clone(),
            token: Some(self.id.clone()),
            roles: self.roles.clone(),
        };
        self.revoked_at.is_none().then_some(caller)
    }
}

/// A join, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRow {
    /// Its public id.
    pub id: JoinId,
    /// What it admits.
    pub admits: Admits,
    /// How often it may be used.
    pub uses: u32,
    /// How often it was used.
    pub used: u32,
    /// Until when.
    pub expires: Timestamp,
    /// SHA-256 (hex) of its secret.
    pub sha256: String,
    /// Since when.
    pub created_at: Timestamp,
}
