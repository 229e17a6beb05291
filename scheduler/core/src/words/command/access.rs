//! Commands about who may do what: organizations, tokens, joins.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GatewayName, JoinId, OrganizationId, PoolId, TokenId};
use wharfage_shared::time::Timestamp;

use crate::words::principal::Role;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make an organization.
    CreateOrganization {
        /// Its id, a hostname label.
        id: OrganizationId,
        /// ISO 4217.
        currency: String,
    },
    /// Make a token.
    CreateToken {
        /// Its public id.
        id: TokenId,
        /// Whose.
        organization: OrganizationId,
        /// What it may do.
        roles: BTreeSet<Role>,
        /// For people.
        name: String,
        /// SHA-256 (hex) of its secret.
        sha256: String,
    },
    /// End a token now.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// Make a join.
    CreateJoin {
        /// Its public id.
        id: JoinId,
        /// What it admits.
        admits: Admits,
        /// How often.
        uses: u32,
        /// Until when.
        expires: Timestamp,
        /// SHA-256 (hex) of its secret.
        sha256: String,
    },
    /// A gateway process has presented a join's secret.
    EnrollGateway {
        /// The name it wants.
        gateway: GatewayName,
        /// The join.
        join: JoinId,
        /// SHA-256 (hex) of its new public key.
        key: String,
    },
}

/// What a join admits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "admits")]
pub enum Admits {
    /// Nodes of one pool.
    Nodes {
        /// Which.
        pool: PoolId,
    },
    /// Gateway processes.
    Gateways,
}
