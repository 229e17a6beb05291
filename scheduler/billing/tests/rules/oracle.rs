//! An oracle that shares no code with the sweep: it looks at every millisecond on its own and
//! counts nodes one by one.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_billing::meter::{Contributes, Interval};
use wharfage_billing::terms::{Contract, Plan, Terms};
use wharfage_billing::{Line, LineKind};
use wharfage_shared::capacity::{CapacityType, ComputeClass};
use wharfage_shared::segment::Activity;
use wharfage_shared::time::Timestamp;

/// Organization, SKU, line, contract or claim, rate in micros.
pub type Key = (String, String, &'static str, String, u64);

/// Milliseconds by line and by account.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Instance-milliseconds of every line.
    pub lines: BTreeMap<Key, u128>,
    /// Milliseconds of every account.
    pub accounts: BTreeMap<&'static str, u128>,
}

/// The lines of a bill in the oracle's words.
pub fn lines_by_key<'a>(lines: impl Iterator<Item = &'a Line>) -> BTreeMap<Key, u128> {
    let mut by_key = BTreeMap::new();
    for line in lines {
        let under = line.contract.as_ref().map(|contract| contract.to_string());
        let under = under.or(line.claim.as_ref().map(|claim| claim.to_string()));
        let key = (
            line.organization.to_string(),
            line.sku.to_string(),
            line.kind.as_str(),
            under.unwrap_or_default(),
            line.charge.rate().map_or(0, |rate| rate.micros()),
        );
        *by_key.entry(key).or_default() += line.quantity.0;
    }
    by_key
}

/// Counts every millisecond of the period.
pub fn count(terms: &Terms, intervals: &[Interval], from: Timestamp, to: Timestamp) -> Counted {
    let mut counted = Counted::default();
    let mut series: BTreeSet<(&str, &str)> =
        terms.contracts().map(|c| (c.organization.as_str(), c.sku.as_str())).collect();
    series.extend(intervals.iter().map(|i| (i.organization.as_str(), i.sku.as_str())));
    for ms in from.0..to.0 {
        for (organization, sku) in &series {
            let now: Vec<&Interval> = intervals
                .iter()
                .filter(|i| i.organization.as_str() == *organization && i.sku.as_str() == *sku)
                .filter(|i| i.start.0 <= ms && ms < i.end.0)
                .collect();
            one_millisecond(terms, organization, sku, ms, &now, &mut counted);
        }
    }
    counted
}

fn one_millisecond(
    terms: &Terms,
    organization: &str,
    sku: &str,
    ms: i64,
    now: &[&Interval],
    counted: &mut Counted,
) {
    let mut line = |kind, under: &str, rate| {
        let key = (organization.to_owned(), sku.to_owned(), kind, under.to_owned(), rate);
        *counted.lines.entry(key).or_default() += 1;
    };
    let mut price = None;
    for candidate in terms.prices().filter(|price| price.sku.as_str() == sku) {
        let from = candidate.from.map_or(i64::MIN, |from| from.0);
        if from <= ms && price.is_none_or(|(_, best)| from >= best) {
            price = Some((candidate, from));
        }
    }
    let price = price.expect("the worlds have prices at all times").0;
    let mut seats: Vec<&Contract> = Vec::new();
    for contract in terms.contracts() {
        let own = contract.organization.as_str() == organization && contract.sku.as_str() == sku;
        if own && contract.start.0 <= ms && ms < contract.end.0 {
            for _ in 0..contract.instances {
                let flat = match contract.plan {
                    Plan::Reserved { rate } => ("reserved", rate),
                    Plan::Flex { holding_rate, .. } => ("flex_holding", holding_rate),
                };
                line(flat.0, contract.id.as_str(), flat.1.micros());
                seats.push(contract);
            }
        }
    }
    seats.sort_by_key(|contract| match contract.plan {
        Plan::Reserved { rate } => (0, rate.micros(), contract.start, contract.id.clone()),
        Plan::Flex { usage_rate, .. } => {
            (1, usage_rate.micros(), contract.start, contract.id.clone())
        }
    });
    let mut account = |name| *counted.accounts.entry(name).or_default() += 1;
    let mut works = 0;
    let mut fails = 0;
    for (stream, node) in now.iter().map(|i| (stream(i), &i.node)).collect::<BTreeSet<_>>() {
        let here = now.iter().filter(|i| self::stream(i) == stream && i.node == *node);
        let state = here.map(|interval| state(interval)).max().expect("it stands there");
        match (stream, state) {
            (_, State::Unproven) => account("unproven"),
            (_, State::Provider) => account("provider"),
            (Stream::Fill, State::Works) => works += 1,
            (Stream::Fill, State::Fails) => fails += 1,
            (Stream::Spot, State::Works) => {
                line("spot", "", price.spot.expect("spot has a price").micros());
                account("spot");
            }
            (Stream::Spot, State::Fails) => account("provider"),
            (Stream::Claim, State::Works) => {
                line("claim", "hold", price.on_demand.micros());
                account("claim");
            }
            (Stream::Claim, State::Fails) => {
                line("claim", "hold", price.on_demand.micros());
                line("credit", "hold", price.on_demand.micros());
                account("provider");
            }
        }
    }
    for seat in 0..works + fails {
        let contract = seats.get(seat);
        match (contract.map(|contract| contract.plan), seat < works) {
            (Some(Plan::Reserved { .. }), true) => account("reserved"),
            (Some(Plan::Flex { usage_rate, .. }), true) => {
                line("flex_usage", contract.expect("seated").id.as_str(), usage_rate.micros());
                account("flex");
            }
            (Some(plan), false) => {
                line("credit", contract.expect("seated").id.as_str(), plan.flat_rate().micros());
                account("provider");
            }
            (None, true) => {
                line("on_demand", "", price.on_demand.micros());
                account("on_demand");
            }
            (None, false) => account("provider"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Fill,
    Spot,
    Claim,
}

fn stream(interval: &Interval) -> Stream {
    let claimed = interval.claim.as_ref().map(|claim| claim.capacity_type);
    match (claimed, interval.compute_class) {
        (Some(CapacityType::Serverless), _) => Stream::Claim,
        (_, ComputeClass::Spot) => Stream::Spot,
        (_, ComputeClass::Standard) => Stream::Fill,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unproven,
    Works,
    Fails,
    Provider,
}

fn state(interval: &Interval) -> State {
    if interval.contributes == Contributes::Unproven {
        return State::Unproven;
    }
    let ours = interval.contributes == Contributes::Provider;
    if ours || interval.activity == Activity::Orphaned {
        return State::Provider;
    }
    match interval.activity {
        Activity::Unusable | Activity::Quarantined => State::Fails,
        _ => State::Works,
    }
}

/// Whether an amount is its exact value rounded once, half to even, in cents.
pub fn is_rounded_half_even(line: &Line) -> bool {
    let (Some(rate), Some(amount)) = (line.charge.rate(), line.charge.amount()) else {
        return false;
    };
    let sign = if line.kind == LineKind::Credit { -1 } else { 1 };
    let cents = amount.units() * sign;
    let (exact, divisor) = ((line.quantity.0 * u128::from(rate.micros())) as i128, 36_000_000_000);
    let twice_off = (exact - cents * divisor) * 2;
    twice_off.abs() < divisor || (twice_off.abs() == divisor && cents % 2 == 0)
}
