//! S6: nothing new is placed on, and no promise is bound to, a node that may not take it.

use super::{Findings, Step, apart, closed, name};
use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::node::{NoticeFact, Reach};
use crate::words::replica::{Phase, Seat};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::time::Timestamp;

/// What instants on the rows tell: a placement later than the change that closed the node.
pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    for row in fleet.replicas() {
        let (seat, since, word) = match &row.phase {
            Phase::Promised { seat, since } => (seat, *since, "promised"),
            Phase::Placed { seat, since, .. } => (seat, *since, "placed"),
            Phase::Pending { .. } | Phase::Leaving { .. } | Phase::Stopped { .. } => continue,
        };
        for (_, seat) in apart(row, seat) {
            check_member(fleet, row, (&seat, since, word), found);
        }
    }
}

/// The same of one member.
fn check_member(
    fleet: &Fleet,
    row: &ReplicaRow,
    (seat, since, word): (&Seat, Timestamp, &str),
    found: &mut Findings,
) {
    let who = name(fleet, row);
    let Some(node) = fleet.node(&seat.node) else {
        found.add("S6", format!("{who} is {word} on a node that does not exist"));
        return;
    };
    let unheard = node.reach != Reach::Connected && since > node.reach_since;
    if unheard {
        found.add("S6", format!("{who} was {word} after its node was not heard any more"));
    }
    // A host hears of its own notices before the scheduler does; those the step tells.
    let ours = |notice: &&NoticeFact| notice.source.is_told_by_scheduler();
    let notices = node.notices.values().filter(ours);
    for notice in notices.filter(|notice| since > notice.heard_at) {
        let id = &notice.id;
        found.add("S6", format!("{who} was {word} after the notice {id} was given"));
    }
    if node.departed_at.is_some() {
        found.add("S6", format!("{who} is {word} on a node that has departed"));
    }
    let ground = row.placement.as_ref().map(|why| why.class == CapacityClass::Spot);
    let is_placed = matches!(row.phase, Phase::Placed { .. });
    let sold = super::classes::sold(node);
    if is_placed && ground != Some(sold == ComputeClass::Spot) {
        found.add("S3", format!("{who} says another ground than {sold}, as its node is sold"));
    }
    let promised = matches!(row.phase, Phase::Promised { .. });
    if let Some((gpu, why)) = unfit(fleet, seat).filter(|_| promised) {
        found.add("S6", format!("{who} is still promised {gpu}, which is unfit: {why}"));
    }
    let closed = closed(fleet, &seat.node).filter(|why| *why != "silent");
    if let (Phase::Promised { .. }, Some(why)) = (&row.phase, closed) {
        let node = &seat.node;
        found.add("S6", format!("{who} is still promised {node}, which is {why}"));
    }
}

/// A GPU of the seat that may not be used, and why: read straight from the node's row.
fn unfit<'a>(fleet: &'a Fleet, seat: &Seat) -> Option<(&'a GpuUuid, &'a str)> {
    let slots = fleet.node(&seat.node).map(|node| &*node.slots).unwrap_or_default();
    for slot in slots {
        if let Some(why) = &slot.unfit
            && seat.gpus.contains(&slot.gpu)
        {
            return Some((&slot.gpu, why));
        }
    }
    None
}

/// What the step itself tells: the node as it is once the step is over.
pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let placed = step.placed_on().into_iter().map(|(row, seat)| (row, seat, "placed"));
    let promised = step.promised_on().into_iter().map(|(row, seat)| (row, seat, "promised"));
    for (row, seat, word) in placed.chain(promised) {
        if let Some(why) = closed(step.after, &seat.node) {
            let who = name(step.after, row);
            found.add("S6", format!("{who} was {word} on {}, which is {why}", seat.node));
        }
        if let Some((gpu, why)) = unfit(step.after, &seat) {
            let who = name(step.after, row);
            found.add("S6", format!("{who} was {word} on {gpu}, which is unfit: {why}"));
        }
        let node = step.after.node(&seat.node);
        if node.is_some_and(|node| node.owner.is_some() && node.claimed.is_none()) {
            let who = name(step.after, row);
            found.add("S6", format!("{who} was {word} on {}, which has an owner", seat.node));
        }
    }
}
