//! A move costs nobody a serving replica: who moves for whom, that a successor stands elsewhere, and
//! that it serves before the other one leaves.

use std::collections::BTreeMap;

use super::{Findings, Step, name};
use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::{Moving, Phase};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::ReportedPhase;

const RULE: &str = "moves";

/// More may not move for one.
const MOST: u32 = 2;

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    for row in fleet.replicas() {
        if let (Phase::Placed { .. }, Some(moving)) = (&row.phase, &row.moving) {
            moves(fleet, row, moving, found);
        }
        if let Phase::Promised { .. } = &row.phase {
            keeps(fleet, row, found);
        }
    }
}

/// Whoever moves does so for a replica whose seat is kept where it stands, and stands elsewhere
/// already.
fn moves(fleet: &Fleet, row: &ReplicaRow, moving: &Moving, found: &mut Findings) {
    let who = name(fleet, row);
    let mut wrong = |what: &str| found.add(RULE, format!("{who} moves, and {what}"));
    let node = row.phase.seat().map(|seat| &seat.node);
    let goes_to = || fleet.node(&moving.to).map(|node| node.compute_class);
    match moving.room_for().map(|room_for| fleet.replica(room_for)) {
        None if goes_to() != Some(ComputeClass::Spot) => wrong("it does not go to a spot node"),
        None => {}
        Some(Some(taker)) => {
            let kept = match &taker.phase {
                Phase::Promised { seat, .. } => Some(&seat.node),
                Phase::Pending { .. }
                | Phase::Placed { .. }
                | Phase::Leaving { .. }
                | Phase::Stopped { .. } => None,
            };
            if kept != node || !taker.moves.iter().any(|of| of.replica == row.id) {
                wrong("nobody is promised its place");
            }
            if taker.organization != row.organization {
                wrong("it does so for another organization");
            }
        }
        Some(None) => wrong("nobody waits for its place"),
    }
    let stands = fleet.replica(moving.successor).is_some_and(|successor| match &successor.phase {
        Phase::Placed { seat, .. } => {
            successor.deployment == row.deployment && Some(&seat.node) != node
        }
        Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Leaving { .. }
        | Phase::Stopped { .. } => false,
    });
    if !stands {
        wrong("nothing of its deployment stands in for it elsewhere");
    }
}

/// What stands where a seat is kept either leaves or moves for that very replica.
fn keeps(fleet: &Fleet, row: &ReplicaRow, found: &mut Findings) {
    let node = row.phase.seat().and_then(|seat| fleet.node(&seat.node));
    let slots = node.into_iter().flat_map(|node| &node.slots);
    let holders = slots.filter(|slot| slot.promised == Some(row.id)).filter_map(|slot| slot.holder);
    for holder in holders.filter_map(|id| fleet.replica(id)) {
        let stays = matches!(holder.phase, Phase::Placed { .. });
        let moving = holder.moving.as_ref().and_then(|moving| moving.room_for());
        if stays && moving.is_some_and(|room_for| room_for != row.id) {
            let (who, whose) = (name(fleet, row), name(fleet, holder));
            found.add(RULE, format!("{who} is promised what {whose} leaves to another one"));
        }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let mut made: BTreeMap<ReplicaId, u32> = BTreeMap::new();
    for row in step.after.replicas() {
        let Some(moving) = &row.moving else { continue };
        let old = step.before.replica(row.id);
        match &row.phase {
            Phase::Placed { .. } => {
                if old.and_then(|old| old.moving.as_ref()) != Some(moving) {
                    if let Some(room_for) = moving.room_for() {
                        *made.entry(room_for).or_default() += 1;
                    }
                    begins(step.after, row, moving, found);
                }
            }
            Phase::Leaving { leaving, .. } => {
                let new = !matches!(old.map(|old| &old.phase), Some(Phase::Leaving { .. }));
                if new && leaving.because == StopCause::Moved {
                    relieved(step.after, row, moving, found);
                }
            }
            Phase::Pending { .. } | Phase::Promised { .. } | Phase::Stopped { .. } => {}
        }
    }
    for (room_for, moved) in made.into_iter().filter(|(_, moved)| *moved > MOST) {
        found.add(RULE, format!("{moved} move for {room_for}, at most {MOST} may"));
    }
}

fn begins(fleet: &Fleet, row: &ReplicaRow, moving: &Moving, found: &mut Findings) {
    let who = name(fleet, row);
    let mut wrong = |what: &str| found.add(RULE, format!("{who} is told to move, and {what}"));
    let of = |row: &ReplicaRow| fleet.deployment(&row.deployment).map(|of| &of.spec);
    if !serves(row) {
        wrong("it does not serve");
    }
    if of(row).is_some_and(|spec| spec.extension.single_copy || !spec.extension.consolidation) {
        wrong("its deployment must not be moved");
    }
    let priority = |row: &ReplicaRow| of(row).map(|spec| spec.priority);
    let taker = moving.room_for().and_then(|room_for| fleet.replica(room_for));
    if taker.is_some_and(|taker| priority(taker) < priority(row)) {
        wrong("its priority is higher");
    }
    let node = row.phase.seat().and_then(|seat| fleet.node(&seat.node));
    if node.is_some_and(|node| !node.notices.is_empty()) {
        wrong("its node is under a notice");
    }
    let named = of(row).map(|spec| spec.classes.clone()).unwrap_or_default();
    let stands = row.placement.as_ref().map(|why| why.class);
    let order = |class: Option<CapacityClass>| named.iter().position(|of| Some(*of) == class);
    let (spot, stands) = (order(Some(CapacityClass::Spot)), order(stands));
    if moving.room_for().is_none() && !matches!((spot, stands), (Some(a), Some(b)) if a < b) {
        wrong("its deployment does not name spot before the ground that it stands on");
    }
}

/// Its successor serves, or the deployment wants no more than serve without both.
fn relieved(fleet: &Fleet, row: &ReplicaRow, moving: &Moving, found: &mut Findings) {
    let of = fleet.replicas().filter(|other| other.deployment == row.deployment);
    let serving = of.filter(|other| serves(other)).count();
    let enough = fleet.deployment(&row.deployment).is_none_or(|of| serving >= of.desired as usize);
    if !enough && !fleet.replica(moving.successor).is_some_and(serves) {
        let who = name(fleet, row);
        found.add(RULE, format!("{who} leaves before {} serves", moving.successor));
    }
}

fn serves(row: &ReplicaRow) -> bool {
    match &row.phase {
        Phase::Placed { seen: Some(seen), .. } => seen.phase == ReportedPhase::Ready,
        Phase::Placed { seen: None, .. }
        | Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Leaving { .. }
        | Phase::Stopped { .. } => false,
    }
}
