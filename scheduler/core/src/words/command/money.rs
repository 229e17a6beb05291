//! Commands about contracts, prices and invoices.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::contract::{Contract, Price};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Sign a contract; its whole future period is checked against capacity.
    Sign(Contract),
    /// Let a Flex contract go on as a Reserved one for the rest of its period.
    Amend {
        /// The Flex contract.
        contract: ContractId,
        /// The id of what follows it.
        id: ContractId,
        /// From when on.
        from: Timestamp,
        /// The reserved rate, decimal text per instance-hour.
        rate: String,
    },
    /// Set a list price from an instant on; never a past one that was used.
    Price(Price),
    /// State an organization's running invoice as a fact that `verify` can recompute.
    DraftInvoice {
        /// The invoice's id.
        id: String,
        /// Whose.
        organization: OrganizationId,
        /// First instant.
        from: Timestamp,
        /// First instant after it.
        to: Timestamp,
    },
}
