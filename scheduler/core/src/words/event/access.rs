//! Facts about organizations, tokens and joins. Secrets never appear, only their hashes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{JoinId, OrganizationId, TokenId};
use wharfage_shared::time::Timestamp;

use crate::words::command::access::Admits;
use crate::words::principal::Role;

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An organization was made.
    OrganizationCreated {
        /// Which.
        organization: OrganizationId,
        /// ISO 4217.
        currency: String,
        /// When.
        at: Timestamp,
    },
    /// A token was made.
    TokenCreated {
        /// Its public id.
        token: TokenId,
        /// Whose.
        organization: OrganizationId,
        /// What it may do.
        roles: BTreeSet<Role>,
        /// For people.
        name: String,
        /// SHA-256 (hex) of its secret.
        sha256: String,
        /// When.
        at: Timestamp,
    },
    /// A token was ended.
    TokenRevoked {
        /// Which.
        token: TokenId,
        /// When.
        at: Timestamp,
    },
    /// A join was made.
    JoinCreated {
        /// Its public id.
        join: JoinId,
        /// What it admits.
        admits: Admits,
        /// How often.
        uses: u32,
        /// Until when.
        expires: Timestamp,
        /// SHA-256 (hex) of its secret.
        sha256: String,
        /// When.
        at: Timestamp,
    },
    /// A join was used once more.
    JoinUsed {
        /// Which.
        join: JoinId,
    },
}
