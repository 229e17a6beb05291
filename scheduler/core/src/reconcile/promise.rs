//! The step that keeps seats for replicas whose `min` needs them, and gives them once they are
//! vacant.

use std::collections::BTreeSet;

use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::order::StopCause;

use super::leaving::leave;
use super::place::seat;
use super::plan::Plan;
use crate::capacity::ask::Ask;
use crate::capacity::standing::grace;
use crate::policies::{placement, preemption};
use crate::words::event::node::Event as NodeEvent;
use crate::words::event::replica::Event;
use crate::words::replica::{Phase, Seat};

/// Takes the places of others for a pending replica: they leave with their full grace, and what
/// they leave is kept for it.
pub(super) fn make(plan: &mut Plan<'_>, replica: ReplicaId, decision: preemption::Decision) {
    let preemption::Decision { seat, victims } = decision;
    for victim in &victims {
        let Some(row) = plan.fleet.replica(*victim) else { continue };
        let deadline = plan.now + grace(plan.fleet, row);
        leave(plan, *victim, StopCause::Preempted, deadline);
    }
    let at = plan.now;
    plan.record(Event::Promised { replica, seat, victims, at });
}

/// Promised seats of a node that are vacant now are taken; those that are no seats any more are
/// given up.
pub(super) fn keep(plan: &mut Plan<'_>, node: &NodeId) {
    let Some(row) = plan.fleet.node(node) else { return };
    let promised: BTreeSet<ReplicaId> = row.slots.iter().filter_map(|slot| slot.promised).collect();
    for replica in promised {
        let Some(row) = plan.fleet.replica(replica) else { continue };
        if !preemption::is_vacant(plan.fleet, row) {
            continue;
        }
        let Phase::Promised { seat: kept, .. } = row.phase.clone() else { continue };
        let deployment = row.deployment.clone();
        let Some(of) = plan.fleet.deployment(&deployment) else { continue };
        let ask = Ask::of(plan.fleet, of);
        empty(plan, &ask, &kept);
        let Some(of) = plan.fleet.deployment(&deployment) else { continue };
        match placement::kept(plan.fleet, of, &ask, &kept) {
            Ok(decision) => seat(plan, replica, &ask, decision),
            Err(_) => withdraw(plan, replica),
        }
    }
}

/// A node that served another organization, and whose last replica is gone, serves nobody.
fn empty(plan: &mut Plan<'_>, ask: &Ask, seat: &Seat) {
    for id in seat.nodes() {
        let Some(node) = plan.fleet.node(id) else { continue };
        let of_another =
            node.held_for.as_ref().is_some_and(|held| held.organization != ask.organization);
        if of_another && node.replicas.is_empty() {
            let (node, at) = (id.clone(), plan.now);
            plan.record(NodeEvent::Held { node, held_for: None, at });
        }
    }
}

pub(super) fn withdraw(plan: &mut Plan<'_>, replica: ReplicaId) {
    let at = plan.now;
    plan.record(Event::PromiseWithdrawn { replica, at });
}

/// Whoever waits for a seat takes a free one that has turned up elsewhere.
pub(super) fn sooner(plan: &mut Plan<'_>, replica: ReplicaId) {
    let Some(row) = plan.fleet.replica(replica) else { return };
    let Some(of) = plan.fleet.deployment(&row.deployment) else { return };
    let ask = Ask::of(plan.fleet, of);
    if let Ok(decision) = placement::decide(plan.fleet, plan.policy, of, &ask) {
        withdraw(plan, replica);
        seat(plan, replica, &ask, decision);
    }
}
