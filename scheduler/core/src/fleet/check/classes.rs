//! S3: no replica is placed on capacity that its classes forbid, and a dedicated node holds one
//! organization. Superchips are never spot.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Tenancy};
use wharfage_shared::ids::{NodeId, OrganizationId};

use super::{Findings, Step, held_on, name};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::{Phase, Seat};

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    for node in fleet.nodes() {
        if node.compute_class == ComputeClass::Spot && superchip(node.sku.as_str()) {
            let (id, sku) = (&node.id, &node.sku);
            found.add("S3", format!("{id} is sold as spot, which {sku} never is"));
        }
    }
    let mut serves: BTreeMap<&NodeId, &OrganizationId> = BTreeMap::new();
    for row in fleet.replicas() {
        for (node, _) in held_on(row) {
            check_on(fleet, row, node, &mut serves, found);
        }
    }
}

/// One replica on one of its nodes.
fn check_on<'a>(
    fleet: &'a Fleet,
    row: &'a ReplicaRow,
    node: &NodeId,
    serves: &mut BTreeMap<&'a NodeId, &'a OrganizationId>,
    found: &mut Findings,
) {
    let Some(node) = fleet.node(node) else { return };
    let who = name(fleet, row);
    let fresh = match (&row.phase, fleet.deployment(&row.deployment)) {
        (Phase::Placed { since, .. }, Some(of)) => *since > of.updated_at,
        _ => false,
    };
    if let Some(of) = fleet.deployment(&row.deployment).filter(|_| fresh) {
        stands(&who, of, node, found);
    }
    if node.tenancy == Tenancy::Dedicated {
        let first = serves.entry(&node.id).or_insert(&row.organization);
        if **first != row.organization {
            let (a, b) = (first, &row.organization);
            found.add("S3", format!("{} is dedicated and holds {a} and {b}", node.id));
        }
    }
    let held_for = node.held_for.as_ref().map(|held| &held.organization);
    let there = matches!(row.phase, Phase::Placed { .. }) && node.departed_at.is_none();
    if there && held_for != Some(&row.organization) {
        let whom = held_for.map_or("nobody", |organization| organization.as_str());
        found.add("S3", format!("{who} stands there while the node serves {whom}"));
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for (row, seat) in step.placed_on() {
        let of = step.after.deployment(&row.deployment);
        let node = step.after.node(&seat.node);
        let (Some(of), Some(node)) = (of, node) else { continue };
        let who = name(step.after, row);
        stands(&who, of, node, found);
        if node.sku != of.spec.sku {
            found.add("S3", format!("{who} asks for {} and got {}", of.spec.sku, node.sku));
        }
        zones(step.after, &who, of, &seat, found);
    }
    for (row, seat) in step.placed() {
        together(step.after, row, seat, found);
    }
}

/// The members of a gang are of one zone, on one fabric and on one ground.
fn together(fleet: &Fleet, row: &ReplicaRow, seat: &Seat, found: &mut Findings) {
    let Some(leader) = fleet.node(&seat.node) else { return };
    for member in &seat.others {
        let Some(node) = fleet.node(&member.node) else { continue };
        let same = node.zone == leader.zone
            && node.inventory.fabric == leader.inventory.fabric
            && node.claimed.is_some() == leader.claimed.is_some()
            && sold(node) == sold(leader);
        if !same {
            let who = name(fleet, row);
            found.add("S3", format!("{who} stretches over {} and {}", leader.id, node.id));
        }
    }
}

/// The zones of its gateways and its own limit.
fn zones(fleet: &Fleet, who: &str, of: &DeploymentRow, seat: &Seat, found: &mut Findings) {
    let Some(node) = fleet.node(&seat.node) else { return };
    let served = of.spec.gateways.is_empty()
        || of.spec.gateways.iter().any(|id| {
            fleet.gateway(id).is_some_and(|gateway| gateway.spec.zones.contains(&node.zone))
        });
    let limited = of.spec.zone.as_ref().is_some_and(|zone| *zone != node.zone);
    if !served || limited {
        found.add("S3", format!("{who} was placed in {}, outside its zones", node.zone));
    }
}

fn stands(who: &str, of: &DeploymentRow, node: &NodeRow, found: &mut Findings) {
    if !allowed(of, node) {
        let what = match (sold(node), &node.claimed) {
            (ComputeClass::Spot, _) => "spot",
            (ComputeClass::Standard, None) => "standard",
            (ComputeClass::Standard, Some(_)) => "claimed",
        };
        found.add("S3", format!("{who} stands on {what} capacity, which its classes forbid"));
    }
}

/// How a node is sold at this moment: a standard one may be lent as spot.
pub(super) fn sold(node: &NodeRow) -> ComputeClass {
    match (&node.held_for, node.compute_class) {
        (Some(held), ComputeClass::Standard) => held.compute_class,
        (_, declared) => declared,
    }
}

/// Unset = claims, then on-demand: never spot. RESERVED means what a claim holds, ON_DEMAND what
/// none does.
pub(super) fn allowed(of: &DeploymentRow, node: &NodeRow) -> bool {
    let classes = &of.spec.classes;
    match (sold(node), &node.claimed) {
        (ComputeClass::Spot, _) => classes.contains(&CapacityClass::Spot),
        (ComputeClass::Standard, None) => {
            classes.is_empty() || classes.contains(&CapacityClass::OnDemand)
        }
        (ComputeClass::Standard, Some(_)) => {
            classes.is_empty() || classes.contains(&CapacityClass::Reserved)
        }
    }
}

fn superchip(sku: &str) -> bool {
    let sku = sku.to_ascii_lowercase();
    sku.contains("gh200") || sku.contains("gb200") || sku.contains("gb300")
}
