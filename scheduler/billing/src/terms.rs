//! Terms: what an hour costs and which contracts are in force. Checked once, here.
//!
//! A price holds from its `from` until the next one of the same SKU and region; a contract holds
//! in its own half-open period. Whoever holds a [`Terms`] need not check anything again.

mod raw;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

pub use self::raw::{RawContract, RawPrice, RawTerms};
use crate::money::{Currency, MicroRate};
use crate::timestamp::to_rfc3339;

/// The most instances of one contract; keeps every product of a bill within 128 bits.
pub const MOST_INSTANCES: u32 = 1_000_000;

/// What an instance of one SKU costs in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The instance type.
    pub sku: Sku,
    /// Where.
    pub region: Region,
    /// Per instance-hour beyond all contracts.
    pub on_demand: MicroRate,
    /// Per instance-hour sold as spot.
    pub spot: Option<MicroRate>,
    /// GPUs per instance.
    pub gpus: Option<u32>,
    /// Per GPU-hour; absent = `on_demand / gpus`.
    pub gpu_hour: Option<MicroRate>,
    /// From when on; absent = always.
    pub from: Option<Timestamp>,
}

impl Price {
    /// What an instance-hour of a SERVERLESS claim costs: the GPU-hour price times the GPUs, or
    /// exactly `on_demand` where no GPU-hour price is set.
    pub fn claim(&self) -> MicroRate {
        let of_gpus = self.gpu_hour.zip(self.gpus).and_then(|(rate, gpus)| rate.times(gpus));
        of_gpus.unwrap_or(self.on_demand)
    }
}

/// How a contract is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Plan {
    /// A flat rate for every hour of the contract.
    Reserved {
        /// Per instance-hour.
        rate: MicroRate,
    },
    /// A holding rate for every hour of the contract, and a usage rate for active ones.
    Flex {
        /// Per instance-hour held.
        holding_rate: MicroRate,
        /// Per instance-hour used.
        usage_rate: MicroRate,
    },
}

impl Plan {
    /// The rate that every hour of the contract costs, used or not.
    pub fn flat_rate(&self) -> MicroRate {
        match *self {
            Plan::Reserved { rate } => rate,
            Plan::Flex { holding_rate, .. } => holding_rate,
        }
    }

    /// Where the contract stands in the fill: Reserved before Flex, then the lower rate per used
    /// hour.
    fn fill_rank(&self) -> (u8, u64) {
        match *self {
            Plan::Reserved { rate } => (0, rate.micros()),
            Plan::Flex { usage_rate, .. } => (1, usage_rate.micros()),
        }
    }
}

/// A Reserved or Flex agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Its id, unique among the terms.
    pub id: ContractId,
    /// Whose.
    pub organization: OrganizationId,
    /// Of which instance type.
    pub sku: Sku,
    /// Where.
    pub region: Region,
    /// How many instances: the width of its band.
    pub instances: u32,
    /// The contract period's first instant.
    pub start: Timestamp,
    /// The contract period's end, not part of it.
    pub end: Timestamp,
    /// How it is paid.
    pub plan: Plan,
}

/// Where in the terms something is wrong. Entries are numbered from 1 in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The top of the file.
    Top,
    /// A `[[price]]`.
    Price(usize),
    /// A `[[contract]]`, with its id.
    Contract(usize, String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Top => f.write_str("terms"),
            Place::Price(number) => write!(f, "[[price]] number {number}"),
            Place::Contract(number, id) => write!(f, "[[contract]] number {number} (`{id}`)"),
        }
    }
}

/// Terms that cannot be used: where, which field, what was wrong, what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}, field `{field}`: {problem}")]
pub struct TermsError {
    /// Where.
    pub place: Place,
    /// Which field.
    pub field: &'static str,
    /// What was wrong and what is accepted.
    pub problem: String,
}

impl TermsError {
    fn new(place: Place, field: &'static str, problem: impl fmt::Display) -> Self {
        Self { place, field, problem: problem.to_string() }
    }
}

/// Checked terms: one currency, prices by SKU and region in order of time, contracts in the order
/// in which they are filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    currency: Currency,
    prices: BTreeMap<(Sku, Region), Vec<Price>>,
    contracts: BTreeMap<(OrganizationId, Region, Sku), Vec<Contract>>,
}

impl Terms {
    /// Terms of these parts, if they make sense together.
    pub fn new(
        currency: Currency,
        prices: Vec<Price>,
        contracts: Vec<Contract>,
    ) -> Result<Self, TermsError> {
        check_prices(&prices)?;
        check_contracts(&contracts)?;
        let mut terms = Self { currency, prices: BTreeMap::new(), contracts: BTreeMap::new() };
        for price in prices {
            let key = (price.sku.clone(), price.region.clone());
            terms.prices.entry(key).or_default().push(price);
        }
        for contract in contracts {
            let Contract { organization, region, sku, .. } = &contract;
            let key = (organization.clone(), region.clone(), sku.clone());
            terms.contracts.entry(key).or_default().push(contract);
        }
        for prices in terms.prices.values_mut() {
            prices.sort_by_key(|price| price.from);
        }
        for contracts in terms.contracts.values_mut() {
            contracts.sort_by(|a, b| {
                let rank = |c: &Contract| (c.plan.fill_rank(), c.start);
                rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id))
            });
        }
        Ok(terms)
    }

    /// The one currency of these terms.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// All prices of a SKU in a region, in order of time; empty where it has none.
    pub fn prices_of(&self, sku: &Sku, region: &Region) -> &[Price] {
        self.prices.get(&(sku.clone(), region.clone())).map_or(&[], Vec::as_slice)
    }

    /// The price that holds at an instant.
    pub fn price_at(&self, sku: &Sku, region: &Region, at: Timestamp) -> Option<&Price> {
        self.prices_of(sku, region).iter().rev().find(|price| price.from.is_none_or(|f| f <= at))
    }

    /// The contracts of one series in the order in which its usage fills them: Reserved, then Flex
    /// by usage rate, start and id.
    pub fn contracts_of(&self, org: &OrganizationId, region: &Region, sku: &Sku) -> &[Contract] {
        let key = (org.clone(), region.clone(), sku.clone());
        self.contracts.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Every contract, by organization, region and SKU.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.values().flatten()
    }

    /// Every price, by SKU and region.
    pub fn prices(&self) -> impl Iterator<Item = &Price> {
        self.prices.values().flatten()
    }
}

fn check_prices(prices: &[Price]) -> Result<(), TermsError> {
    let mut gpus_of: BTreeMap<&Sku, u32> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (number, price) in (1..).zip(prices) {
        let wrong = |field, problem| TermsError::new(Place::Price(number), field, problem);
        check_name(price.sku.as_str()).map_err(|problem| wrong("sku", problem))?;
        check_name(price.region.as_str()).map_err(|problem| wrong("region", problem))?;
        if let Some(earlier) = seen.insert((&price.sku, &price.region, price.from), number) {
            let from =
                price.from.map_or("no `from`".to_owned(), |f| format!("from {}", to_rfc3339(f)));
            return Err(wrong(
                "from",
                format!(
                    "number {earlier} is a price of `{}` in `{}` with {from} already; accepted: \
                     one price for each SKU, region and `from`",
                    price.sku, price.region
                ),
            ));
        }
        if let Some(gpus) = price.gpus {
            let known = *gpus_of.entry(&price.sku).or_insert(gpus);
            if !(1..=1024).contains(&gpus) || known != gpus {
                return Err(wrong(
                    "gpus",
                    format!(
                        "{gpus}; accepted: GPUs per instance from 1 to 1024, the same at each \
                         price of `{}`",
                        price.sku
                    ),
                ));
            }
        }
        if let Some(gpu_hour) = price.gpu_hour {
            let of_instance = price.gpus.and_then(|gpus| gpu_hour.times(gpus));
            if of_instance.is_none() {
                let problem =
                    "needs `gpus` (per instance), and gpus times gpu_hour up to 1000000000";
                return Err(wrong("gpu_hour", problem.to_owned()));
            }
        }
    }
    Ok(())
}

fn check_contracts(contracts: &[Contract]) -> Result<(), TermsError> {
    let mut seen = BTreeMap::new();
    for (number, contract) in (1..).zip(contracts) {
        let place = || Place::Contract(number, contract.id.to_string());
        let wrong = |field, problem: String| TermsError::new(place(), field, problem);
        let names = [
            ("id", contract.id.as_str()),
            ("organization", contract.organization.as_str()),
            ("sku", contract.sku.as_str()),
            ("region", contract.region.as_str()),
        ];
        for (field, name) in names {
            check_name(name).map_err(|problem| wrong(field, problem))?;
        }
        if let Some(earlier) = seen.insert(&contract.id, number) {
            let problem = format!("number {earlier} has this id already; accepted: an own id");
            return Err(wrong("id", problem));
        }
        if !(1..=MOST_INSTANCES).contains(&contract.instances) {
            let problem = format!("{}; accepted: 1 to {MOST_INSTANCES}", contract.instances);
            return Err(wrong("instances", problem));
        }
        if contract.end <= contract.start {
            let (start, end) = (to_rfc3339(contract.start), to_rfc3339(contract.end));
            let problem = format!("{end}; accepted: an instant after the start, {start}");
            return Err(wrong("end", problem));
        }
    }
    Ok(())
}

/// A name is one to 256 characters that print, without space around them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let prints = !name.chars().any(char::is_control) && name.trim() == name;
    if prints && !name.is_empty() && name.chars().count() <= 256 {
        return Ok(());
    }
    Err(format!("{name:?}; accepted: 1 to 256 printable characters without space around them"))
}

#[cfg(test)]
mod tests;
