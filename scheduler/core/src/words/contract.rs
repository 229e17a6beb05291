//! Contracts and prices as facts of the fleet; billing's checked types say what they mean.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

/// A Reserved or Flex agreement in instances of one SKU in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Its id, unique for ever.
    pub id: ContractId,
    /// Whose.
    pub organization: OrganizationId,
    /// Where.
    pub region: Region,
    /// Of what.
    pub sku: Sku,
    /// How many instances.
    pub instances: u32,
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// What it costs.
    pub terms: ContractTerms,
}

/// Rates as decimal text per instance-hour, checked by billing when the contract is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "plan")]
pub enum ContractTerms {
    /// Flat for every hour.
    Reserved {
        /// Rate.
        rate: String,
    },
    /// Holding for every hour, usage for active ones.
    Flex {
        /// For every hour of all instances.
        holding_rate: String,
        /// Added for active hours.
        usage_rate: String,
    },
}

/// The list price of one SKU in one region from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of what.
    pub sku: Sku,
    /// Where.
    pub region: Region,
    /// From when on.
    pub from: Timestamp,
    /// On-Demand per instance-hour, decimal text.
    pub on_demand: String,
    /// Spot per instance-hour, where it is sold.
    pub spot: Option<String>,
    /// GPUs of an instance.
    pub gpus: Option<u32>,
    /// Per GPU-hour; absent = on_demand / gpus.
    pub gpu_hour: Option<String>,
}
