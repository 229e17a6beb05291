//! Facts about contracts, prices and invoices.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::contract::{Contract, Price};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A contract was signed.
    Signed {
        /// The contract.
        contract: Contract,
        /// When.
        at: Timestamp,
    },
    /// A Flex contract goes on as a Reserved one from an instant on, which cites it.
    Amended {
        /// The Flex contract: it ends where the other one begins.
        contract: ContractId,
        /// What follows it.
        by: Contract,
        /// When it was agreed.
        at: Timestamp,
    },
    /// A contract's period began: its guarantee is in force.
    ContractStarted {
        /// Which.
        contract: ContractId,
        /// When.
        at: Timestamp,
    },
    /// A contract's period is over.
    ContractEnded {
        /// Which.
        contract: ContractId,
        /// When.
        at: Timestamp,
    },
    /// A list price was set.
    PriceSet {
        /// The price.
        price: Price,
        /// When.
        at: Timestamp,
    },
    /// A running invoice was stated.
    InvoiceDrafted {
        /// The invoice.
        invoice: Box<Invoice>,
    },
}

/// An invoice as it was stated: its bytes are the fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its id.
    pub id: String,
    /// Whose.
    pub organization: OrganizationId,
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
    /// Up to when use was proven and attributed.
    pub as_of: Timestamp,
    /// When it was stated.
    pub drafted_at: Timestamp,
    /// The version of billing's rules.
    pub rules: u32,
    /// Its canonical JSON.
    pub body: String,
    /// SHA-256 of it, hex.
    pub sha256: String,
}
