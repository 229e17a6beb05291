//! What the rehearsal would have cost on each plan, by the prices and contracts that the scheduler
//! knows. What has no price says so.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharfage_billing::money::{Currency, InstanceMs, MicroRate, Minor};
use wharfage_shared::capacity::{Region, Sku, Zone};

use crate::client::Client;

const MS_PER_HOUR: u128 = 3_600_000;

/// What is held, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How long each node was held, in milliseconds.
    pub nodes: BTreeMap<String, u128>,
    /// The most of them at a time.
    pub most: u64,
    /// How long the rehearsal was, in milliseconds.
    pub length_ms: u128,
    /// Whole answers that it gave.
    pub completed: u64,
}

/// What the scheduler says of prices, nodes and contracts; an answer that did not come is `Null`.
pub struct Known {
    /// `GET /api/v1/prices`.
    pub prices: Value,
    /// `GET /api/v1/contracts`.
    pub contracts: Value,
    /// `GET /api/v1/nodes`.
    pub nodes: Value,
    /// `GET /api/v1/organizations`.
    pub organizations: Value,
}

impl Known {
    /// Asks for all of it.
    pub async fn of(client: &Client) -> Self {
        let ask = async |what: &str| {
            let answer = client.get(&format!("/api/v1/{what}")).await;
            answer.ok().and_then(|answer| answer.get(what).cloned()).unwrap_or_default()
        };
        Self {
            prices: ask("prices").await,
            contracts: ask("contracts").await,
            nodes: ask("nodes").await,
            organizations: ask("organizations").await,
        }
    }
}

/// What is paid for, in one region.
struct Bought<'a> {
    known: &'a Known,
    organization: &'a str,
    sku: &'a Sku,
    region: &'a Region,
    /// What was used.
    used: InstanceMs,
    /// What would be held all the time, so that it is there at the busiest moment.
    reserved: InstanceMs,
    now: &'a str,
}

/// How a plan prices what is bought; else why it cannot.
type Pricing = fn(&Bought<'_>) -> Amount;

/// Quantities with their rates, and how they come about.
type Amount = Result<(Vec<(MicroRate, InstanceMs)>, String), String>;

/// A row for each plan, in the order in which they are asked about.
pub fn plans(known: &Known, organization: &str, sku: &str, held: &Held, now: &str) -> Vec<Value> {
    let sku = Sku::new(sku);
    let used = by_region(known, held);
    let plans: [(&str, Pricing); 4] =
        [("on_demand", on_demand), ("reserved", reserved), ("flex", flex), ("spot", spot)];
    let price = |plan: &str, of: Pricing| {
        let mut charged: Vec<(MicroRate, InstanceMs)> = Vec::new();
        let mut said = Vec::new();
        for (region, used) in used.as_ref().map_err(Clone::clone)? {
            // The busiest moment is told for all regions together: a share of it for each.
            let all: u128 = held.nodes.values().sum();
            let whole = u128::from(held.most) * held.length_ms;
            let reserved = InstanceMs(whole * used.0 / all.max(1));
            let (used, now) = (*used, now);
            let bought = Bought { known, organization, sku: &sku, region, used, reserved, now };
            let (more, sentence) = of(&bought)?;
            charged.extend(more);
            said.push(sentence);
        }
        let currency = currency(known, organization)?;
        Ok::<Value, String>(row(plan, &charged, &said.join("; "), held, currency))
    };
    let rows = plans.into_iter().map(|(plan, of)| {
        let not_priced = |because: String| {
            json!({"plan": plan, "amount": null, "because": format!("not priced: {because}")})
        };
        price(plan, of).unwrap_or_else(not_priced)
    });
    rows.collect()
}

fn row(
    plan: &str,
    charged: &[(MicroRate, InstanceMs)],
    said: &str,
    held: &Held,
    currency: Currency,
) -> Value {
    let sum = |scale: &dyn Fn(u128) -> u128| {
        let parts = charged.iter().map(|(rate, ms)| rate.charge(InstanceMs(scale(ms.0)), currency));
        Minor::sum(parts, currency).to_string()
    };
    let per_thousand = (held.completed > 0)
        .then(|| sum(&|ms| ms.saturating_mul(1_000) / u128::from(held.completed)));
    json!({
        "plan": plan,
        "amount": sum(&|ms| ms),
        "per_hour": sum(&|ms| ms.saturating_mul(MS_PER_HOUR) / held.length_ms.max(1)),
        "per_1000_requests": per_thousand,
        "currency": currency.code(),
        "because": said,
    })
}

/// Time of instances by region.
fn by_region(known: &Known, held: &Held) -> Result<BTreeMap<Region, InstanceMs>, String> {
    let mut by_region: BTreeMap<Region, InstanceMs> = BTreeMap::new();
    for (node, ms) in &held.nodes {
        let rows = known.nodes.as_array().into_iter().flatten();
        let zone =
            rows.filter(|row| row["id"] == node.as_str()).find_map(|row| row["zone"].as_str());
        let zone = zone.ok_or_else(|| format!("the zone of {node} is not known"))?;
        *by_region.entry(Zone::new(zone).region()).or_default() += InstanceMs(*ms);
    }
    if by_region.is_empty() {
        return Err("no node was held".to_owned());
    }
    Ok(by_region)
}

fn currency(known: &Known, organization: &str) -> Result<Currency, String> {
    let rows = known.organizations.as_array().into_iter().flatten();
    let mut rows = rows.filter(|row| row["id"] == organization);
    let code = rows.find_map(|row| row["currency"].as_str());
    let code = code.ok_or_else(|| format!("the currency of {organization} is not known"))?;
    code.parse().map_err(|error: wharfage_billing::money::UnknownCurrency| error.to_string())
}

impl Bought<'_> {
    /// The price that is in force, by this key of its row.
    fn price(&self, key: &str) -> Result<MicroRate, String> {
        let (sku, region) = (self.sku, self.region);
        let rows = self.known.prices.as_array().into_iter().flatten();
        let from = |row: &Value| row["from"].as_str().unwrap_or_default().to_owned();
        let row = rows
            .filter(|row| self.is_here(row) && *from(row) <= *self.now)
            .max_by_key(|row| from(row))
            .ok_or_else(|| format!("there is no price of {sku} in {region}"))?;
        rate(&row[key]).ok_or_else(|| format!("the price of {sku} in {region} has no {key}"))
    }

    fn is_here(&self, row: &Value) -> bool {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        Sku::new(text("sku")) == *self.sku && Region::new(text("region")) == *self.region
    }

    /// The contract of a plan with the lowest rate, by this key.
    fn contract(&self, plan: &str, key: &str) -> Result<&Value, String> {
        let (sku, region) = (self.sku, self.region);
        if self.known.contracts.is_null() {
            return Err("this token may not read contracts".to_owned());
        }
        let rows = self.known.contracts.as_array().into_iter().flatten();
        rows.filter(|row| row["plan"] == plan && row["in_force"] == true && self.is_here(row))
            .filter(|row| row["organization"] == self.organization)
            .filter_map(|row| Some((rate(&row[key])?.micros(), row)))
            .min_by_key(|(micros, _)| *micros)
            .map(|(_, row)| row)
            .ok_or_else(|| format!("there is no {plan} contract for {sku} in {region}"))
    }
}

fn rate(of: &Value) -> Option<MicroRate> {
    of.as_str()?.parse().ok()
}

fn hours(ms: InstanceMs) -> String {
    format!("{} instance-hours", ms.hours())
}

fn on_demand(of: &Bought<'_>) -> Amount {
    let rate = of.price("on_demand")?;
    Ok((vec![(rate, of.used)], format!("{} at {rate}", hours(of.used))))
}

fn spot(of: &Bought<'_>) -> Amount {
    let rate = of.price("spot")?;
    Ok((vec![(rate, of.used)], format!("{} at {rate}", hours(of.used))))
}

fn reserved(of: &Bought<'_>) -> Amount {
    let contract = of.contract("reserved", "rate")?;
    let rate = rate(&contract["rate"]).unwrap_or_else(zero);
    let said = format!("{} at {rate}, used or not", hours(of.reserved));
    Ok((vec![(rate, of.reserved)], said))
}

fn flex(of: &Bought<'_>) -> Amount {
    let contract = of.contract("flex", "usage_rate")?;
    let holding = rate(&contract["holding_rate"]).unwrap_or_else(zero);
    let usage = rate(&contract["usage_rate"]).unwrap_or_else(zero);
    let said =
        format!("{} held at {holding} and {} used at {usage}", hours(of.reserved), hours(of.used));
    Ok((vec![(holding, of.reserved), (usage, of.used)], said))
}

fn zero() -> MicroRate {
    MicroRate::from_micros(0).expect("zero is a rate")
}

#[cfg(test)]
mod tests {
    use super::{Held, Known, plans};
    use serde_json::{Value, json};

    fn known(contracts: Value) -> Known {
        let price = |from: &str, on_demand: &str, spot: Value| {
            json!({"sku": "GD-8x", "region": "US-1", "from": from, "on_demand": on_demand,
                "spot": spot})
        };
        Known {
            prices: json!([
                price("2026-01-01T00:00:00Z", "36.00", json!("9.00")),
                price("2026-02-01T00:00:00Z", "72.00", json!(null)),
                price("2027-01-01T00:00:00Z", "1.00", json!("1.00")),
            ]),
            contracts,
            nodes: json!([{"id": "n-1", "zone": "US-1A"}, {"id": "n-2", "zone": "US-1B"}]),
            organizations: json!([{"id": "acme", "currency": "USD"}]),
        }
    }

    /// Two nodes at the busiest moment of a hundred seconds, of which they were held 150.
    fn told(known: &Known) -> Vec<String> {
        let nodes = [("n-1".to_owned(), 100_000), ("n-2".to_owned(), 50_000)].into();
        let held = Held { nodes, most: 2, length_ms: 100_000, completed: 500 };
        let rows = plans(known, "acme", "gd-8x", &held, "2026-03-01T00:00:00Z");
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
        let line = |row: &Value| {
            ["plan", "amount", "per_hour", "per_1000_requests", "because"]
                .map(|key| text(row, key))
                .join(" | ")
        };
        rows.iter().map(line).collect()
    }

    #[test]
    fn each_plan_is_priced_by_what_was_used_or_held_and_what_has_no_price_says_so() {
        let lines = told(&known(json!([
            {"plan": "reserved", "in_force": true, "organization": "acme", "sku": "gd-8x",
             "region": "US-1", "rate": "36.00"},
            {"plan": "flex", "in_force": true, "organization": "acme", "sku": "gd-8x",
             "region": "US-1", "holding_rate": "18.00", "usage_rate": "36.00"},
            {"plan": "flex", "in_force": true, "organization": "borealis", "sku": "gd-8x",
             "region": "US-1", "holding_rate": "1.00", "usage_rate": "1.00"},
        ])));
        assert_eq!(
            lines,
            [
                "on_demand | 3.00 | 108.00 | 6.00 | 0.041667 instance-hours at 72.00",
                "reserved | 2.00 | 72.00 | 4.00 | 0.055556 instance-hours at 36.00, used or not",
                "flex | 2.50 | 90.00 | 5.00 | 0.055556 instance-hours held at 18.00 and 0.041667 \
                 instance-hours used at 36.00",
                "spot | - | - | - | not priced: the price of gd-8x in US-1 has no spot",
            ]
        );
        let lines = told(&known(json!([])));
        assert!(lines[1].ends_with("not priced: there is no reserved contract for gd-8x in US-1"));
        let lines = told(&known(json!(null)));
        assert!(lines[2].ends_with("not priced: this token may not read contracts"), "{lines:?}");
        let mut nowhere = known(json!([]));
        nowhere.nodes = json!([]);
        let lines = told(&nowhere);
        assert!(lines[0].ends_with("not priced: the zone of n-1 is not known"), "{lines:?}");
    }
}
