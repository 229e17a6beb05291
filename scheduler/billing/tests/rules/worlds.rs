//! Small random worlds: terms and time of a few nodes within a few dozen milliseconds, and the words
//! that examples share.

use proptest::prelude::*;
use wharfage_billing::meter::{Claim, Contributes, Interval};
use wharfage_billing::money::{Currency, MicroRate};
use wharfage_billing::terms::{Contract, Plan, Price, Terms};
use wharfage_billing::timestamp::parse_rfc3339;
use wharfage_billing::usage::Usage;
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{BootId, ClaimId, ContractId, NodeId, OrganizationId, SegmentLogId};
use wharfage_shared::segment::{Activity, SegmentKey};
use wharfage_shared::time::Timestamp;

/// The first instant of every period here.
pub const START: i64 = 1_780_272_000_000;

/// The length of a random period.
pub const LENGTH: i64 = 50;

/// So many milliseconds after the start.
pub fn at(ms: i64) -> Timestamp {
    Timestamp(START + ms)
}

/// The instant of an RFC 3339 text.
pub fn instant(text: &str) -> Timestamp {
    parse_rfc3339(text).expect("an instant")
}

/// US dollars.
pub fn usd() -> Currency {
    "USD".parse().expect("a currency")
}

/// A rate.
pub fn rate_of(text: &str) -> MicroRate {
    text.parse().expect("a rate")
}

/// A price of `sku` in the one region.
pub fn price(sku: &str, on_demand: &str, spot: Option<&str>) -> Price {
    Price {
        sku: Sku::new(sku),
        region: Region::new("US"),
        on_demand: rate_of(on_demand),
        spot: spot.map(rate_of),
        gpus: None,
        gpu_hour: None,
        from: None,
    }
}

/// A Reserved contract.
pub fn reserved(instances: u32, rate: &str) -> Band {
    Band { instances, plan: Plan::Reserved { rate: rate_of(rate) } }
}

/// A Flex contract.
pub fn flex(instances: u32, holding: &str, usage: &str) -> Band {
    let (holding_rate, usage_rate) = (rate_of(holding), rate_of(usage));
    Band { instances, plan: Plan::Flex { holding_rate, usage_rate } }
}

/// A plan and how much of it.
pub struct Band {
    instances: u32,
    plan: Plan,
}

impl Band {
    /// The contract `id` of acme for `gpu`, from and to so many milliseconds after the start.
    pub fn contract(self, id: &str, start: i64, end: i64) -> Contract {
        Contract {
            id: ContractId::from(id),
            organization: OrganizationId::from("acme"),
            sku: Sku::new("gpu"),
            region: Region::new("US"),
            instances: self.instances,
            start: at(start),
            end: at(end),
            plan: self.plan,
        }
    }
}

/// Acme's standard time on a `gpu` node.
pub fn used(node: &str, start: i64, end: i64) -> Usage {
    Usage {
        organization: OrganizationId::from("acme"),
        region: Region::new("US"),
        sku: Sku::new("gpu"),
        compute_class: ComputeClass::Standard,
        node: NodeId::from(node),
        start: at(start),
        end: at(end),
    }
}

/// The same as an interval with evidence `number` of its node.
pub fn interval(usage: &Usage, activity: Activity, number: u64) -> Interval {
    Interval {
        organization: usage.organization.clone(),
        region: usage.region.clone(),
        sku: usage.sku.clone(),
        compute_class: usage.compute_class,
        node: usage.node.clone(),
        claim: None,
        start: usage.start,
        end: usage.end,
        activity,
        contributes: Contributes::Customer,
        evidence: SegmentKey {
            node: usage.node.clone(),
            boot: BootId::from("boot"),
            log: SegmentLogId::from("log"),
            number,
        },
    }
}

/// Terms and time, by chance.
#[derive(Clone, Debug)]
pub struct World {
    /// Prices of both SKUs and up to five contracts.
    pub terms: Terms,
    /// Up to 16 stretches of up to five nodes of two organizations.
    pub intervals: Vec<Interval>,
}

impl World {
    /// The intervals as rows of a usage file: what is for the customer's account and no claim's.
    pub fn usage(&self) -> Vec<Usage> {
        let rows = self.intervals.iter().map(|interval| Usage {
            organization: interval.organization.clone(),
            region: interval.region.clone(),
            sku: interval.sku.clone(),
            compute_class: interval.compute_class,
            node: interval.node.clone(),
            start: interval.start,
            end: interval.end,
        });
        rows.collect()
    }
}

const ORGANIZATIONS: [&str; 2] = ["acme", "zeta"];
const SKUS: [&str; 2] = ["gpu", "big"];

/// Any world.
pub fn world() -> impl Strategy<Value = World> {
    let contracts = proptest::collection::vec(contract(), 0..6);
    let intervals = proptest::collection::vec(any_interval(), 0..17);
    (prices(), contracts, intervals).prop_map(|(prices, mut contracts, mut intervals)| {
        for (number, contract) in contracts.iter_mut().enumerate() {
            contract.id = ContractId::from(format!("c{number}").as_str());
        }
        for (number, interval) in (1..).zip(&mut intervals) {
            interval.evidence.number = number;
        }
        let terms = Terms::new(usd(), prices, contracts).expect("good terms");
        World { terms, intervals }
    })
}

/// Rates that round in every way once they are multiplied with a few milliseconds.
fn any_rate() -> impl Strategy<Value = MicroRate> {
    let round = prop_oneof![Just(36_000_000_000u64), Just(18_000_000_000), Just(12_345_678)];
    let micros = prop_oneof![round, 1_000_000u64..400_000_000_000];
    micros.prop_map(|micros| MicroRate::from_micros(micros).expect("within bounds"))
}

fn prices() -> impl Strategy<Value = Vec<Price>> {
    let one = || {
        let change = proptest::option::of((0..LENGTH, any_rate(), any_rate()));
        (any_rate(), any_rate(), change)
    };
    (one(), one()).prop_map(|(gpu, big)| {
        let mut prices = Vec::new();
        for (sku, (on_demand, spot, change)) in SKUS.into_iter().zip([gpu, big]) {
            let price = Price { on_demand, spot: Some(spot), ..price(sku, "0", None) };
            if let Some((from, on_demand, spot)) = change {
                let spot = Some(spot);
                prices.push(Price { on_demand, spot, from: Some(at(from)), ..price.clone() });
            }
            prices.push(price);
        }
        prices
    })
}

fn contract() -> impl Strategy<Value = Contract> {
    let plan = prop_oneof![
        any_rate().prop_map(|rate| Plan::Reserved { rate }),
        (any_rate(), any_rate())
            .prop_map(|(holding_rate, usage_rate)| Plan::Flex { holding_rate, usage_rate }),
    ];
    (0..2usize, 0..2usize, 1u32..4, -10..LENGTH, 1..70i64, plan).prop_map(
        |(organization, sku, instances, start, length, plan)| Contract {
            id: ContractId::from("c"),
            organization: OrganizationId::from(ORGANIZATIONS[organization]),
            sku: Sku::new(SKUS[sku]),
            region: Region::new("US"),
            instances,
            start: at(start),
            end: at(start + length),
            plan,
        },
    )
}

fn any_interval() -> impl Strategy<Value = Interval> {
    let activity = prop_oneof![
        6 => Just(Activity::Serving),
        1 => Just(Activity::IdleHeld),
        2 => Just(Activity::Unusable),
        1 => Just(Activity::Orphaned),
    ];
    let contributes = prop_oneof![
        8 => Just(Contributes::Customer),
        1 => Just(Contributes::Provider),
        1 => Just(Contributes::Unproven),
    ];
    let claim = prop_oneof![
        6 => Just(None),
        1 => Just(Some(CapacityType::Customer)),
        1 => Just(Some(CapacityType::Serverless)),
    ];
    let place = (0..2usize, 0..2usize, 0..5usize, prop::bool::weighted(0.2));
    let time = (-10..LENGTH, 0..40i64);
    (place, time, activity, contributes, claim).prop_map(
        |((organization, sku, node, spot), (start, length), activity, contributes, claim)| {
            let usage = Usage {
                organization: OrganizationId::from(ORGANIZATIONS[organization]),
                sku: Sku::new(SKUS[sku]),
                compute_class: if spot { ComputeClass::Spot } else { ComputeClass::Standard },
                ..used(&format!("node-{node}"), start, start + length)
            };
            let id = ClaimId::from("hold");
            let claim = claim.map(|capacity_type| Claim { id, capacity_type });
            Interval { claim, contributes, ..interval(&usage, activity, 0) }
        },
    )
}
