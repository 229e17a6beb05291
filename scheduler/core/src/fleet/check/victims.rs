//! S4: the victim of a priority preemption is of the same organization (unless priority orders the
//! whole fleet) and strictly lower, and somebody is promised what it leaves.

use super::{Findings, Step, name};
use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::policy::PriorityScope;
use crate::words::replica::Phase;
use wharfage_shared::order::StopCause;

pub(super) fn check(fleet: &Fleet, scope: PriorityScope, found: &mut Findings) {
    for row in fleet.replicas() {
        let Phase::Promised { seat, .. } = &row.phase else { continue };
        for victim in holders(fleet, row) {
            let (who, whose) = (name(fleet, row), name(fleet, victim));
            match &victim.phase {
                Phase::Leaving { leaving, .. } => {
                    let other = victim.organization != row.organization;
                    let preempted = leaving.because == StopCause::Preempted;
                    if other && preempted && scope == PriorityScope::Organization {
                        let text = format!("{whose} leaves for {who} of another organization");
                        found.add("S4", text);
                    }
                }
                // What moves for it is a rule of its own.
                Phase::Placed { .. } if victim.moving.is_some() => {}
                Phase::Placed { .. } => {
                    let node = &seat.node;
                    let text = format!("{who} is promised GPUs of {node} that {whose} keeps");
                    found.add("S4", text);
                }
                Phase::Pending { .. } | Phase::Promised { .. } | Phase::Stopped { .. } => {}
            }
        }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for (row, _) in step.promised() {
        for victim in holders(step.after, row) {
            if newly_preempted(step, victim) {
                strictly_lower(step.after, row, victim, found);
            }
        }
    }
    let victims = step.after.replicas().filter(|row| newly_preempted(step, row));
    for victim in victims {
        let kept = step.after.replicas().any(|row| {
            matches!(row.phase, Phase::Promised { .. })
                && holders(step.after, row).any(|holder| holder.id == victim.id)
        });
        if !kept {
            let whose = name(step.after, victim);
            found.add("S4", format!("{whose} was preempted and nobody is promised its seat"));
        }
    }
}

fn newly_preempted(step: &Step<'_>, row: &ReplicaRow) -> bool {
    let preempted = |row: &ReplicaRow| match &row.phase {
        Phase::Leaving { leaving, .. } => leaving.because == StopCause::Preempted,
        Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Placed { .. }
        | Phase::Stopped { .. } => false,
    };
    preempted(row) && !step.before.replica(row.id).is_some_and(preempted)
}

fn strictly_lower(fleet: &Fleet, row: &ReplicaRow, victim: &ReplicaRow, found: &mut Findings) {
    let priority = |row: &ReplicaRow| {
        fleet.deployment(&row.deployment).map_or(0, |row| row.spec.priority.get())
    };
    let (mine, theirs) = (priority(row), priority(victim));
    if mine <= theirs {
        let (who, whose) = (name(fleet, row), name(fleet, victim));
        found.add("S4", format!("{whose} with priority {theirs} leaves for {who} with {mine}"));
    }
    let above_min = || {
        let of = fleet.deployment(&victim.deployment)?;
        let left = fleet.replicas().filter(|row| {
            row.deployment == victim.deployment && matches!(row.phase, Phase::Placed { .. })
        });
        Some((left.count() as u32, of.spec.scaling.bounds.min()))
    };
    if let Some((left, min)) = above_min().filter(|(left, min)| left < min) {
        let whose = name(fleet, victim);
        found.add("S4", format!("{whose} was preempted: {left} are left of its owner's min {min}"));
    }
}

/// Who must leave for a replica: whoever holds a slot that is kept for it and, where its node serves
/// another organization, everybody of that one: the node changes hands as a whole.
fn holders<'a>(fleet: &'a Fleet, row: &'a ReplicaRow) -> impl Iterator<Item = &'a ReplicaRow> {
    let mut nodes = Vec::new();
    if let Phase::Promised { seat, .. } = &row.phase {
        nodes.extend(fleet.node(&seat.node));
        nodes.extend(seat.others.iter().filter_map(|other| fleet.node(&other.node)));
    }
    let slots = nodes.into_iter().flat_map(|node| node.slots.iter());
    let held = slots.filter_map(|slot| Some((slot, fleet.replica(slot.holder?)?)));
    let in_the_way = held.filter(|(slot, holder)| {
        slot.promised == Some(row.id) || holder.organization != row.organization
    });
    in_the_way.map(|(_, holder)| holder)
}
