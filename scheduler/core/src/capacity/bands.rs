//! Which contract a node stands under at this moment: the order in which billing fills the bands.
//!
//! Totals never depend on it: it says under whose name a node is counted, the longest held first.

use std::collections::BTreeMap;

use wharfage_billing::money::MicroRate;
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{ContractId, NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::fleet::rows::node::NodeRow;
use crate::fleet::{ContractRow, Fleet};
use crate::words::contract::ContractTerms;

/// One organization's instances of a type in a region.
type Band<'a> = (&'a OrganizationId, Region, &'a Sku);

/// The contract of each node that stands under one.
pub fn contracts(fleet: &Fleet) -> BTreeMap<NodeId, ContractId> {
    let mut seats: BTreeMap<Band<'_>, Vec<&ContractRow>> = BTreeMap::new();
    for row in fleet.contracts().filter(|row| row.in_force) {
        let of = &row.contract;
        seats.entry((&of.organization, of.region.clone(), &of.sku)).or_default().push(row);
    }
    if seats.is_empty() {
        return BTreeMap::new();
    }
    let mut nodes: BTreeMap<Band<'_>, Vec<&NodeRow>> = BTreeMap::new();
    for node in fleet.nodes().filter(|node| fills(node)) {
        let Some(held) = &node.held_for else { continue };
        nodes.entry((&held.organization, node.region(), &node.sku)).or_default().push(node);
    }
    let mut found = BTreeMap::new();
    for (band, mut contracts) in seats {
        let Some(mut nodes) = nodes.remove(&band) else { continue };
        contracts.sort_by_key(|row| order(row));
        nodes.sort_by_key(|node| (node.held_since, &node.id));
        let each = contracts.iter().flat_map(|row| {
            let seats = usize::try_from(row.contract.instances).unwrap_or(usize::MAX);
            std::iter::repeat_n(&row.contract.id, seats)
        });
        found.extend(nodes.into_iter().zip(each).map(|(node, id)| (node.id.clone(), id.clone())));
    }
    found
}

/// Whether its time enters the fill: neither spot nor a SERVERLESS claim's.
fn fills(node: &NodeRow) -> bool {
    let serverless = |claimed| claimed == CapacityType::Serverless;
    let claimed = node.claimed.as_ref().map(|claimed| claimed.capacity_type);
    node.sold() == ComputeClass::Standard && !claimed.is_some_and(serverless)
}

/// Reserved, then Flex: the lowest usage rate first, then the earlier start, then the id.
fn order(row: &ContractRow) -> (Option<u64>, Timestamp, &ContractId) {
    let rate = match &row.contract.terms {
        ContractTerms::Reserved { .. } => None,
        ContractTerms::Flex { usage_rate, .. } => {
            let rate = usage_rate.parse::<MicroRate>();
            Some(rate.map_or(u64::MAX, MicroRate::micros))
        }
    };
    (rate, row.contract.start, &row.contract.id)
}
