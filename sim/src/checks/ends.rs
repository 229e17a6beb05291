//! Liveness, once every fault is over: L1 (what is wanted stands where it can), L3 (constant load
//! changes no count).

use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::deployment::Spec;
use wharfage_scheduler_core::words::node::{Health, Intent, Reach};
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::time::Millis;

use super::facts::{Facts, class_allows};
use crate::stage::Stage;

/// Under constant load a count changes at most so often within the time that is looked at.
const MOST_CHANGES: usize = 2;

/// What was placed so long ago should have been ready.
const START: Millis = Millis::from_seconds(120);

/// Why nothing may be placed on a node, if so: read from its row, axis by axis.
pub(crate) fn nobody_may_place(node: &NodeRow) -> Option<String> {
    match &node.reach {
        Reach::Connected => {}
        reach @ (Reach::Joining | Reach::Silent | Reach::Lost) => {
            return Some(format!("is {reach:?}"));
        }
    }
    match &node.health {
        Health::Fit => {}
        health @ (Health::Qualifying | Health::Unfit { .. }) => {
            return Some(format!("is {health:?}"));
        }
    }
    match &node.intent {
        Intent::Open => {}
        intent @ (Intent::Cordoned { .. } | Intent::Draining { .. } | Intent::Retired) => {
            return Some(format!("is {intent:?}"));
        }
    }
    if let Some(notice) = node.notices.keys().next() {
        return Some(format!("is under notice {notice}"));
    }
    let held = node.held_for.as_ref().and_then(|held| held.claim.as_ref());
    if let Some(claimed) = node.claimed.as_ref().filter(|claimed| held != Some(&claimed.claim)) {
        return Some(format!("is kept for the claim {}", claimed.claim));
    }
    node.departed_at.map(|_| "has departed".to_owned())
}

/// L1: nothing that could stand is missing.
pub(crate) fn everything_stands(facts: &Facts, stage: &mut Stage) {
    let fleet = &facts.fleet;
    let is_there = |row: &ReplicaRow| {
        let is_lost = |node| fleet.node(node).is_none_or(|node| node.reach == Reach::Lost);
        row.node().is_some() && !row.nodes().any(is_lost)
    };
    for deployment in fleet.deployments() {
        let ready =
            fleet.replicas_of(&deployment.id).filter(|row| row.phase.is_ready() && is_there(row));
        let ready = ready.count();
        let wanted = deployment.desired as usize;
        if ready >= wanted || deployment.spec.disabled || deployment.deleting.is_some() {
            continue;
        }
        let mut starting = fleet.replicas_of(&deployment.id).filter(|row| {
            is_there(row) && matches!(row.phase, Phase::Placed { .. }) && !row.phase.is_ready()
        });
        if let Some(first) = starting.next() {
            if stage.wall().since(first.since()) > START {
                let found = format!(
                    "{} of {} is not ready long after every fault is over ({:?})",
                    first.id, deployment.spec.name, first.phase
                );
                stage.broken("L1", found);
            }
            continue;
        }
        if let Some(node) = fleet.nodes().find(|node| fits(fleet, deployment, node)) {
            let found = format!(
                "{} has {ready} of {wanted} replicas and {} would do",
                deployment.spec.name, node.id
            );
            stage.broken("L1", found);
        }
    }
}

fn fits(fleet: &Fleet, deployment: &DeploymentRow, node: &NodeRow) -> bool {
    let spec = &deployment.spec;
    let serves = node.held_for.as_ref().map(|held| &held.organization);
    let is_mine = serves.is_none_or(|serves| *serves == deployment.organization);
    // What opens a node may be kept for a contract or a claim of somebody else: only the ledger can
    // tell.
    let guaranteed = fleet.contracts().next().is_some() || fleet.claims().next().is_some();
    let is_kept = serves.is_none() && guaranteed;
    nobody_may_place(node).is_none()
        && node.sku == spec.sku
        && spec.zone.as_ref().is_none_or(|zone| *zone == node.zone)
        && (class_allows(spec, node) || is_lent_to(spec, node))
        && node.free() >= spec.gpus.get()
        && (node.owner.is_none() || node.claimed.is_some())
        && is_mine
        && !is_kept
}

/// An idle standard node is lent whole to whoever asks for spot, if it was not called back lately.
fn is_lent_to(spec: &Spec, node: &NodeRow) -> bool {
    let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
    let idle = node.held_for.is_none() && node.claimed.is_none() && node.called.is_none();
    let whole = usize::from(node.free()) == node.slots.len();
    // The public price list has no spot price for them.
    let superchip = ["gb200", "gb300", "gh200"].iter().any(|chip| node.sku.as_str().contains(chip));
    standard && idle && whole && !superchip && spec.classes.contains(&CapacityClass::Spot)
}

/// L3: while nothing changed for so long, counts hardly did.
pub(crate) fn counts_rest(facts: &Facts, stage: &mut Stage, since: Millis) {
    for (deployment, changes) in &facts.scaled {
        let late = changes.iter().filter(|at| **at > since).count();
        if late > MOST_CHANGES {
            let found = format!("{deployment} changed its count {late} times under constant load");
            stage.broken("L3", found);
        }
    }
}
