//! Terms as people write them: every key known, nothing checked yet.
//!
//! Rates and instants are strings here, so that a float never stands between a file and an amount.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

use super::{Contract, Place, Plan, Price, Terms, TermsError};
use crate::money::{Currency, MicroRate};
use crate::timestamp::parse_rfc3339;

/// A terms file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawTerms {
    /// ISO 4217 code.
    pub currency: String,
    /// Prices.
    #[serde(default)]
    pub price: Vec<RawPrice>,
    /// Contracts.
    #[serde(default)]
    pub contract: Vec<RawContract>,
}

/// One `[[price]]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPrice {
    /// The instance type.
    pub sku: String,
    /// Where.
    pub region: String,
    /// Decimal string per instance-hour.
    pub on_demand: String,
    /// Decimal string per instance-hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<String>,
    /// GPUs per instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Decimal string per GPU-hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_hour: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// One `[[contract]]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawContract {
    /// Its id.
    pub id: String,
    /// Whose.
    pub organization: String,
    /// `reserved` or `flex`.
    pub plan: String,
    /// The instance type.
    pub sku: String,
    /// Where.
    pub region: String,
    /// How many instances; or `gpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// How many GPUs: whole instances of a SKU whose price states its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// Decimal string; Reserved only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Decimal string; Flex only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding_rate: Option<String>,
    /// Decimal string; Flex only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_rate: Option<String>,
}

impl RawTerms {
    /// The terms, if every field is what it should be and all fit together.
    pub fn check(self) -> Result<Terms, TermsError> {
        let currency: Currency = self
            .currency
            .parse()
            .map_err(|error| TermsError::new(Place::Top, "currency", error))?;
        let prices = (1..).zip(self.price).map(|(number, price)| price.check(number));
        let prices = prices.collect::<Result<Vec<_>, _>>()?;
        let gpus_of = |sku: &Sku| prices.iter().find(|p| p.sku == *sku).and_then(|p| p.gpus);
        let contracts = (1..).zip(self.contract).map(|(number, c)| c.check(number, gpus_of));
        let contracts = contracts.collect::<Result<Vec<_>, _>>()?;
        Terms::new(currency, prices, contracts)
    }
}

impl RawPrice {
    /// The price, the `number`th of its file from 1. What several prices must keep together is
    /// checked by [`Terms::new`].
    pub fn check(self, number: usize) -> Result<Price, TermsError> {
        let rate = |field, text: &str| rate(Place::Price(number), field, text);
        let on_demand = rate("on_demand", &self.on_demand)?;
        let spot = self.spot.map(|text| rate("spot", &text)).transpose()?;
        let gpu_hour = self.gpu_hour.map(|text| rate("gpu_hour", &text)).transpose()?;
        let from =
            self.from.map(|text| instant(Place::Price(number), "from", &text)).transpose()?;
        Ok(Price {
            sku: Sku::new(&self.sku),
            region: Region::new(&self.region),
            on_demand,
            spot,
            gpus: self.gpus,
            gpu_hour,
            from,
        })
    }
}

impl RawContract {
    /// The contract, the `number`th of its file from 1; `gpus_of` says how many GPUs an instance
    /// has, where a price states it.
    pub fn check(
        self,
        number: usize,
        gpus_of: impl Fn(&Sku) -> Option<u32>,
    ) -> Result<Contract, TermsError> {
        let place = || Place::Contract(number, self.id.clone());
        let sku = Sku::new(&self.sku);
        let instances = match (self.instances, self.gpus) {
            (Some(instances), None) => instances,
            (None, Some(gpus)) => instances_of(gpus, gpus_of(&sku), &sku)
                .map_err(|problem| TermsError::new(place(), "gpus", problem))?,
            (Some(_), Some(_)) | (None, None) => {
                let problem = "accepted: exactly one of `instances` and `gpus`";
                return Err(TermsError::new(place(), "instances", problem));
            }
        };
        Ok(Contract {
            plan: self.plan(place())?,
            start: instant(place(), "start", &self.start)?,
            end: instant(place(), "end", &self.end)?,
            instances,
            sku,
            region: Region::new(&self.region),
            organization: OrganizationId::from(self.organization.as_str()),
            id: ContractId::from(self.id.as_str()),
        })
    }

    fn plan(&self, place: Place) -> Result<Plan, TermsError> {
        let given = |field, text: &Option<String>| match text {
            Some(text) => rate(place.clone(), field, text),
            None => {
                let problem = format!("missing; a {} contract needs it", self.plan);
                Err(TermsError::new(place.clone(), field, problem))
            }
        };
        let absent = |field, text: &Option<String>| match text {
            Some(_) => {
                let problem = format!("a {} contract has no such rate", self.plan);
                Err(TermsError::new(place.clone(), field, problem))
            }
            None => Ok(()),
        };
        match self.plan.as_str() {
            "reserved" => {
                absent("holding_rate", &self.holding_rate)?;
                absent("usage_rate", &self.usage_rate)?;
                Ok(Plan::Reserved { rate: given("rate", &self.rate)? })
            }
            "flex" => {
                absent("rate", &self.rate)?;
                let holding_rate = given("holding_rate", &self.holding_rate)?;
                Ok(Plan::Flex { holding_rate, usage_rate: given("usage_rate", &self.usage_rate)? })
            }
            other => {
                let problem = format!("`{other}`; accepted: reserved, flex");
                Err(TermsError::new(place, "plan", problem))
            }
        }
    }
}

/// A contract in GPUs covers whole instances: its band is filled by nodes.
fn instances_of(gpus: u32, per_instance: Option<u32>, sku: &Sku) -> Result<u32, String> {
    let Some(per_instance) = per_instance.filter(|gpus| *gpus > 0) else {
        return Err(format!(
            "no price of `{sku}` says how many GPUs an instance has; accepted: `instances`, or \
             `gpus` at the price too"
        ));
    };
    if !gpus.is_multiple_of(per_instance) {
        return Err(format!(
            "{gpus}; accepted: whole instances of `{sku}`, a multiple of {per_instance}"
        ));
    }
    Ok(gpus / per_instance)
}

fn rate(place: Place, field: &'static str, text: &str) -> Result<MicroRate, TermsError> {
    text.parse().map_err(|error| TermsError::new(place, field, error))
}

fn instant(place: Place, field: &'static str, text: &str) -> Result<Timestamp, TermsError> {
    parse_rfc3339(text).map_err(|error| TermsError::new(place, field, error))
}
