//! What one state of the fleet costs more per hour than another: the instances that would newly
//! serve somebody, each at the rate of the band that it would fill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_billing::money::MicroRate;
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::contract::{ContractTerms, Price};
use crate::words::principal::Caller;

/// What a command would add to the bill of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// In millionths of the organization's currency.
    pub micros: u64,
    /// Instances that would newly serve somebody, by the line of the bill that they would be on.
    pub lines: Vec<CostLine>,
}

/// Instances at one rate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CostLine {
    /// Whose.
    pub organization: OrganizationId,
    /// `reserved`, `flex_usage`, `on_demand`, `spot` or `claim`.
    pub line: String,
    /// Where.
    pub region: Region,
    /// Of what.
    pub sku: Sku,
    /// How many.
    pub instances: u32,
    /// What each adds per hour, as a decimal text: nothing where it is paid for already.
    pub rate: String,
}

/// Which account the time of a node goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    /// It fills Reserved, then Flex, the rest is On-Demand.
    Fill,
    /// A SERVERLESS claim.
    Claim,
    /// Spot, declared or lent.
    Spot,
}

type Counts = BTreeMap<(OrganizationId, Region, Sku, Ground), u32>;

/// What `after` costs more than `before`, as far as the caller pays it; absent where a price is not
/// known.
pub(super) fn more(before: &Fleet, after: &Fleet, caller: &Caller, now: Timestamp) -> Option<Cost> {
    let (had, mut cost) = (held(before, caller), Cost::default());
    for (key, has) in held(after, caller) {
        let had = had.get(&key).copied().unwrap_or(0);
        let (organization, region, sku, ground) = key;
        for (line, rate, instances) in
            rates(after, &organization, &region, &sku, ground, now)?.between(had, has)
        {
            let added = rate.micros().checked_mul(instances.into())?;
            cost.micros = cost.micros.checked_add(added)?;
            cost.lines.push(CostLine {
                organization: organization.clone(),
                line: line.to_owned(),
                region: region.clone(),
                sku: sku.clone(),
                instances,
                rate: rate.to_string(),
            });
        }
    }
    cost.lines.sort();
    Some(cost)
}

/// Nodes that serve somebody whom the caller may see.
fn held(fleet: &Fleet, caller: &Caller) -> Counts {
    let mut counts = Counts::new();
    for node in fleet.nodes() {
        let Some(held) = node.held_for.as_ref().filter(|it| caller.sees(&it.organization)) else {
            continue;
        };
        let key = (held.organization.clone(), node.region(), node.sku.clone(), ground(fleet, node));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn ground(fleet: &Fleet, node: &NodeRow) -> Ground {
    if node.sold() == ComputeClass::Spot {
        return Ground::Spot;
    }
    let claim = node.held_for.as_ref().and_then(|held| fleet.claim(held.claim.as_ref()?));
    match claim.map(|claim| claim.spec.capacity_type) {
        Some(CapacityType::Serverless) => Ground::Claim,
        Some(CapacityType::Customer) | None => Ground::Fill,
    }
}

/// Rates in the order in which instances fill them; the last one has no end.
struct Rates {
    bands: Vec<(&'static str, MicroRate, u32)>,
    rest: (&'static str, MicroRate),
}

impl Rates {
    /// The instances from the `had`-th to the `has`-th, band by band.
    fn between(&self, had: u32, has: u32) -> Vec<(&'static str, MicroRate, u32)> {
        let (mut first, mut found) = (0u32, Vec::new());
        let rest = (self.rest.0, self.rest.1, u32::MAX);
        for (line, rate, room) in self.bands.iter().copied().chain([rest]) {
            let end = first.saturating_add(room);
            let inside = has.min(end).saturating_sub(had.max(first));
            if inside > 0 {
                found.push((line, rate, inside));
            }
            first = end;
        }
        found
    }
}

fn rates(
    fleet: &Fleet,
    organization: &OrganizationId,
    region: &Region,
    sku: &Sku,
    ground: Ground,
    now: Timestamp,
) -> Option<Rates> {
    let prices = fleet.prices().iter();
    let prices = prices.filter(|it| it.sku == *sku && it.region == *region && it.from <= now);
    let price = prices.max_by_key(|price| price.from)?;
    let rest = match ground {
        Ground::Fill => ("on_demand", price.on_demand.parse().ok()?),
        Ground::Claim => ("claim", by_the_gpu(price)?),
        Ground::Spot => ("spot", price.spot.as_ref()?.parse().ok()?),
    };
    let bands = match ground {
        Ground::Fill => bands(fleet, organization, region, sku)?,
        Ground::Claim | Ground::Spot => Vec::new(),
    };
    Some(Rates { bands, rest })
}

/// An instance at the GPU-hour rate; exactly On-Demand where there is none.
fn by_the_gpu(price: &Price) -> Option<MicroRate> {
    let on_demand = || price.on_demand.parse().ok();
    let Some((each, gpus)) = price.gpu_hour.as_ref().zip(price.gpus) else { return on_demand() };
    each.parse::<MicroRate>().ok()?.times(gpus)
}

/// Reserved adds nothing, then Flex: the lowest usage rate first, then the earlier start, then id.
fn bands(
    fleet: &Fleet,
    organization: &OrganizationId,
    region: &Region,
    sku: &Sku,
) -> Option<Vec<(&'static str, MicroRate, u32)>> {
    let contracts = fleet.contracts().filter(|row| row.in_force).map(|row| &row.contract);
    let here = contracts.filter(|contract| {
        contract.organization == *organization && contract.region == *region && contract.sku == *sku
    });
    let (mut reserved, mut flex) = (0u32, Vec::new());
    for contract in here {
        match &contract.terms {
            ContractTerms::Reserved { .. } => {
                reserved = reserved.saturating_add(contract.instances);
            }
            ContractTerms::Flex { usage_rate, .. } => {
                let rate: MicroRate = usage_rate.parse().ok()?;
                flex.push((rate.micros(), contract.start, &contract.id, rate, contract.instances));
            }
        }
    }
    flex.sort_by_key(|(micros, start, id, _, _)| (*micros, *start, *id));
    let flex = flex.into_iter().map(|(_, _, _, rate, room)| ("flex_usage", rate, room));
    Some([("reserved", MicroRate::from_micros(0)?, reserved)].into_iter().chain(flex).collect())
}
