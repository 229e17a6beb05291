//! Line items: what a bill or an invoice charges, each amount rounded once from its exact quantity.

use std::fmt;

use serde::{Serialize, Serializer};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ClaimId, ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::money::{Currency, InstanceMs, MicroRate, Minor};

/// What a line charges for. In the order of the names, which is the order on a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineKind {
    /// Instances that a SERVERLESS claim holds.
    Claim,
    /// A later change of a final invoice.
    Correction,
    /// What we owe for time that could not be used.
    Credit,
    /// Every hour of a Flex contract.
    FlexHolding,
    /// Active hours within a Flex contract.
    FlexUsage,
    /// Active hours beyond all contracts.
    OnDemand,
    /// Every hour of a Reserved contract.
    Reserved,
    /// Active hours of spot nodes.
    Spot,
}

impl LineKind {
    /// Its name in files and APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            LineKind::Claim => "claim",
            LineKind::Correction => "correction",
            LineKind::Credit => "credit",
            LineKind::FlexHolding => "flex_holding",
            LineKind::FlexUsage => "flex_usage",
            LineKind::OnDemand => "on_demand",
            LineKind::Reserved => "reserved",
            LineKind::Spot => "spot",
        }
    }

    /// The rate type as the capacity plans name it on an invoice.
    pub fn rate_type(self) -> &'static str {
        match self {
            LineKind::Claim => "GPU-hour rate",
            LineKind::Correction => "Correction",
            LineKind::Credit => "Credit",
            LineKind::FlexHolding => "Holding rate",
            LineKind::FlexUsage => "Usage rate",
            LineKind::OnDemand => "Standard rate",
            LineKind::Reserved => "Reserved rate",
            LineKind::Spot => "Spot rate",
        }
    }
}

impl fmt::Display for LineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for LineKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a quantity costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// At a known rate.
    Priced {
        /// Per instance-hour.
        rate: MicroRate,
        /// Rounded once; negative on a credit.
        amount: Minor,
    },
    /// The terms have no price: nobody may guess one.
    NoPrice,
}

impl Charge {
    /// `quantity` at `rate`, or no price.
    pub fn of(quantity: InstanceMs, rate: Option<MicroRate>, currency: Currency) -> Self {
        match rate {
            Some(rate) => Charge::Priced { rate, amount: rate.charge(quantity, currency) },
            None => Charge::NoPrice,
        }
    }

    /// The same money the other way.
    pub fn credited(self) -> Self {
        match self {
            Charge::Priced { rate, amount } => Charge::Priced { rate, amount: -amount },
            Charge::NoPrice => Charge::NoPrice,
        }
    }

    /// The rate, where there is one.
    pub fn rate(&self) -> Option<MicroRate> {
        match *self {
            Charge::Priced { rate, .. } => Some(rate),
            Charge::NoPrice => None,
        }
    }

    /// The amount, where there is one.
    pub fn amount(&self) -> Option<Minor> {
        match *self {
            Charge::Priced { amount, .. } => Some(amount),
            Charge::NoPrice => None,
        }
    }
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who pays.
    pub organization: OrganizationId,
    /// Where.
    pub region: Region,
    /// Which instance type.
    pub sku: Sku,
    /// Under which contract; absent outside contracts.
    pub contract: Option<ContractId>,
    /// For which SERVERLESS claim; absent on all other lines.
    pub claim: Option<ClaimId>,
    /// What for.
    pub kind: LineKind,
    /// How much is charged.
    pub quantity: InstanceMs,
    /// How much of it was used: less than `quantity` where a flat line holds idle capacity.
    pub used: InstanceMs,
    /// What it costs.
    pub charge: Charge,
    /// First instant at which the rate holds within the period.
    pub start: Timestamp,
    /// End of that stretch, not part of it.
    pub end: Timestamp,
}

impl Line {
    /// The order on a bill: organization, region, SKU, line, contract, start, by code point, an
    /// absent contract first.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        fn key(line: &Line) -> impl Ord + '_ {
            let Line { organization, region, sku, kind, contract, claim, start, .. } = line;
            (organization, region, sku, kind, contract, claim, start)
        }
        key(self).cmp(&key(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_the_order_of_their_names() {
        use LineKind::*;
        let kinds = [Claim, Correction, Credit, FlexHolding, FlexUsage, OnDemand, Reserved, Spot];
        assert!(kinds.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(kinds.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }
}
