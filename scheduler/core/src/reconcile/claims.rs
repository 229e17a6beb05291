//! The step that gives claims their instances and takes them back.
//!
//! An instance is bound first and held once nothing of others stands there: in between it counts
//! as pending, and nothing new is placed on it.

use std::collections::BTreeSet;

use wharfage_shared::capacity::{ComputeClass, Sku};
use wharfage_shared::ids::{ClaimId, NodeId, OrganizationId};
use wharfage_shared::order::{HeldFor, StopCause};
use wharfage_shared::time::{Millis, Timestamp};

use super::agenda::Alarm;
use super::leaving::{end, withdraw_promises};
use super::plan::Plan;
use super::reclaim::call;
use crate::capacity::claims::{allocated, decreases_at, is_short};
use crate::capacity::lending::is_fresh;
use crate::fleet::Fleet;
use crate::fleet::rows::claim::ClaimRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::claims::{next_instance, surplus};
use crate::words::event::claim::Event;
use crate::words::event::node::Event as NodeEvent;
use crate::words::node::Reach;
use crate::words::replica::Phase;

/// Looks at the claims that changed and at those whose type has new or less room, oldest first.
pub(super) fn all<'a>(
    plan: &mut Plan<'_>,
    touched: &BTreeSet<ClaimId>,
    changed: impl Iterator<Item = &'a Sku>,
) {
    let changed: BTreeSet<&Sku> = changed.collect();
    if touched.is_empty() && changed.is_empty() {
        return;
    }
    let due = plan.fleet.claims.values().filter(|row| {
        let lives = row.deleted_at.is_none() && changed.contains(&row.spec.sku);
        lives || touched.contains(&row.id)
    });
    let mut due: Vec<_> = due.map(|row| (row.created_at, row.id.clone())).collect();
    due.sort();
    for (_, id) in due {
        claim(plan, &id);
    }
}

/// Gives a claim what it is to hold.
pub fn claim(plan: &mut Plan<'_>, id: &ClaimId) {
    let Some(row) = plan.fleet.claim(id) else { return };
    let (claim, at) = (id.clone(), plan.now);
    if decreases_at(plan.policy, row, at).is_some_and(|due| due <= at) {
        let instances = row.spec.instances;
        plan.record(Event::Granted { claim: claim.clone(), instances, at });
    }
    while let Some((node, organization)) = wanted(plan.fleet, id, at) {
        if plan.fleet.node(&node).is_some_and(NodeRow::is_lent) {
            call(plan, &node, &organization);
        }
        plan.record(Event::Bound { claim: claim.clone(), node, at });
    }
    while let Some(node) = unwanted(plan.fleet, id) {
        release(plan, id, &node);
    }
    let Some(row) = plan.fleet.claim(id) else { return };
    let bound: Vec<NodeId> = row.instances.iter().cloned().collect();
    for node in bound {
        hold(plan, id, &node);
    }
    let Some(row) = plan.fleet.claim(id) else { return };
    if is_short(plan.fleet, row) && lends_now(plan.fleet, at) {
        plan.agenda.look_again(at + Millis(1), Alarm::Claim(id.clone()));
    }
    let Some(row) = plan.fleet.claim(id) else { return };
    let full = row.deleted_at.is_none() && allocated(plan.fleet, row) >= row.granted;
    if full && row.filled_at.is_none() {
        plan.record(Event::Filled { claim, at });
    }
}

/// Whether something was lent a moment ago, which may be called back a moment later.
fn lends_now(fleet: &Fleet, now: Timestamp) -> bool {
    let mut lent = fleet.index.lent.keys().filter_map(|(_, _, node)| fleet.node(node));
    lent.any(|node| is_fresh(fleet, node, now))
}

/// One more instance, where the claim lacks one that it can count on.
fn wanted(fleet: &Fleet, id: &ClaimId, now: Timestamp) -> Option<(NodeId, OrganizationId)> {
    let row = fleet.claim(id).filter(|row| is_short(fleet, row))?;
    Some((next_instance(fleet, row, now)?, row.organization.clone()))
}

fn unwanted(fleet: &Fleet, id: &ClaimId) -> Option<NodeId> {
    let row = fleet.claim(id)?;
    let keeps = if row.deleted_at.is_some() { 0 } else { row.granted as usize };
    (row.instances.len() > keeps).then(|| surplus(fleet, row)).flatten()
}

/// A bound instance serves its claim once nobody else's replica is left there.
fn hold(plan: &mut Plan<'_>, id: &ClaimId, node: &NodeId) {
    let Some(row) = plan.fleet.node(node) else { return };
    let Some(claim) = plan.fleet.claim(id) else { return };
    if row.is_allocated() || !may_hold(plan.fleet, claim, row) {
        return;
    }
    let (organization, claim) = (claim.organization.clone(), Some(id.clone()));
    let held_for = Some(HeldFor { organization, claim, compute_class: ComputeClass::Standard });
    let (node, at) = (node.clone(), plan.now);
    plan.record(NodeEvent::Held { node, held_for, at });
}

fn may_hold(fleet: &Fleet, claim: &ClaimRow, node: &NodeRow) -> bool {
    if node.reach == Reach::Lost || node.departed_at.is_some() {
        return false;
    }
    let serves = node.held_for.as_ref().map(|held| &held.organization);
    let placed = |replica: &ReplicaRow| matches!(replica.phase, Phase::Placed { .. });
    let own = serves == Some(&claim.organization) && !node.is_lent();
    let own = own && fleet.replicas_on(&node.id).all(placed);
    node.replicas.is_empty() || own
}

/// An instance leaves its claim: what stands there is evicted with its grace and rescheduled where
/// its classes allow. An owner's node leaves the fleet's use, a provider's is anybody's once empty.
fn release(plan: &mut Plan<'_>, id: &ClaimId, node: &NodeId) {
    let Some(row) = plan.fleet.node(node) else { return };
    let (was_held, owned, empty) =
        (row.is_allocated(), row.owner.is_some(), row.replicas.is_empty());
    let organization = plan.fleet.claim(id).map(|claim| claim.organization.clone());
    let at = plan.now;
    // What was kept on a claim's ground may not stand on another.
    withdraw_promises(plan, node, |_| true);
    plan.record(Event::Released { claim: id.clone(), node: node.clone(), at });
    if !was_held {
        return;
    }
    let keeps = organization.filter(|_| !owned && !empty);
    let held_for = keeps.map(|organization| HeldFor {
        organization,
        claim: None,
        compute_class: ComputeClass::Standard,
    });
    plan.record(NodeEvent::Held { node: node.clone(), held_for, at });
    let standing: Vec<ReplicaRow> = plan.fleet.replicas_on(node).cloned().collect();
    for replica in standing {
        end(plan, &replica, StopCause::ClaimEnded);
    }
}
