//! What a command adds to the bill of an hour: the instances that newly serve somebody, each at the
//! rate of the band that it fills.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wharfage_billing::money::MicroRate;
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::contract::{ContractTerms, Price};
use crate::words::event::{Event, node};
use crate::words::principal::Caller;

/// What a command would add to the bill of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// In millionths of the organization's currency.
    pub micros: u64,
    /// Instances that newly serve somebody, by the line of the bill that they are on.
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

type Key = (OrganizationId, Region, Sku, Ground);

/// What the facts that made `after` of `before` cost more, as far as the caller pays it; absent
/// where a price is not known.
pub(super) fn more(
    before: &Fleet,
    after: &Fleet,
    events: &[Event],
    caller: &Caller,
    now: Timestamp,
) -> Option<Cost> {
    let mut cost = Cost::default();
    for ((organization, region, sku, ground), added) in added(before, after, events, caller) {
        let has = match ground {
            Ground::Fill => filling(after, &organization, &region, &sku).max(added),
            Ground::Claim | Ground::Spot => added,
        };
        for (line, rate, instances) in
            rates(after, &organization, &region, &sku, ground, now)?.between(has - added, has)
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

/// How many more instances serve organizations that the caller may see. Only nodes that the facts
/// give to somebody are looked at: the fleet is large, and this is told with every create.
fn added(before: &Fleet, after: &Fleet, events: &[Event], caller: &Caller) -> BTreeMap<Key, u32> {
    let given = events.iter().filter_map(|event| match event {
        Event::Node(node::Event::Held { node, .. }) => Some(node),
        _other => None,
    });
    let given: BTreeSet<&NodeId> = given.collect();
    let mut counts: BTreeMap<Key, (u32, u32)> = BTreeMap::new();
    for id in given {
        if let Some(key) = key(before, id, caller) {
            counts.entry(key).or_default().0 += 1;
        }
        if let Some(key) = key(after, id, caller) {
            counts.entry(key).or_default().1 += 1;
        }
    }
    let more = counts.into_iter().filter(|(_, (had, has))| has > had);
    more.map(|(key, (had, has))| (key, has - had)).collect()
}

/// On which account a node's time stands, if it serves somebody whom the caller may see.
fn key(fleet: &Fleet, id: &NodeId, caller: &Caller) -> Option<Key> {
    let node = fleet.node(id)?;
    let held = node.held_for.as_ref().filter(|held| caller.sees(&held.organization))?;
    let ground = ground(fleet, node);
    Some((held.organization.clone(), node.region(), node.sku.clone(), ground))
}

/// Instances that fill the organization's contracts: the ledger's count without what claims still
/// wait for, and with its own nodes, which the ledger leaves out.
fn filling(fleet: &Fleet, organization: &OrganizationId, region: &Region, sku: &Sku) -> u32 {
    let capacity = fleet.index.capacity.get(&(region.clone(), sku.clone()));
    let shares = capacity.and_then(|capacity| capacity.organizations.get(organization));
    let mut count = shares.map_or(0, |shares| shares.used);
    let claims = fleet.claims().filter(|claim| {
        let customer = claim.spec.capacity_type == CapacityType::Customer;
        customer && claim.organization == *organization && claim.spec.sku == *sku
    });
    let instances = claims.flat_map(|claim| &claim.instances).filter_map(|id| fleet.node(id));
    for node in instances.filter(|node| node.region() == *region) {
        match (node.owner.is_some(), node.is_allocated()) {
            (true, true) => count += 1,
            (false, false) => count = count.saturating_sub(1),
            (true, false) | (false, true) => {}
        }
    }
    count
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
