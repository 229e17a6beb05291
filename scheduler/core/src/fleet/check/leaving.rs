//! S8 and S12: what leaves has a deadline that respects its grace; what has ended has a reason and
//! a proof, or the fact that closed it.

use super::{Findings, Step, name};
use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::node::{Intent, Reach};
use crate::words::replica::{Leaving, MemberFact, Phase, Seat};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::Millis;

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    for row in fleet.replicas() {
        match &row.phase {
            Phase::Leaving { leaving, .. } => leaves(fleet, row, leaving, found),
            Phase::Stopped { seat: Some(seat), proven: true, .. } => ended(fleet, row, seat, found),
            Phase::Stopped { seat: None, proven: false, .. } => {
                let who = name(fleet, row);
                found.add("S12", format!("{who} was nowhere and waits for a proof of its end"));
            }
            Phase::Stopped { .. }
            | Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. } => {}
        }
    }
    routed(fleet, found);
}

/// Somebody said how; and of a gang every member's end was proven, the last one's by the whole's.
fn ended(fleet: &Fleet, row: &ReplicaRow, seat: &Seat, found: &mut Findings) {
    let who = name(fleet, row);
    if row.ended.is_none() {
        found.add("S12", format!("{who} has ended, and nobody said how"));
    }
    let others = seat.others.iter().map(|other| &other.node);
    let unproven = others
        .chain([&seat.node])
        .filter(|node| row.members.get(*node) != Some(&MemberFact::Gone))
        .count();
    if unproven > 1 {
        let text = format!("{who} has ended, and {unproven} of its members are not proven gone");
        found.add("S12", text);
    }
}

fn leaves(fleet: &Fleet, row: &ReplicaRow, leaving: &Leaving, found: &mut Findings) {
    let who = name(fleet, row);
    if leaving.deadline < leaving.since {
        found.add("S8", format!("{who} must be gone before it was told to leave"));
    }
    if leaving.routes.number > fleet.routes_number {
        let (waits, is) = (leaving.routes.number, fleet.routes_number);
        found.add("S8", format!("{who} waits for the route table {waits}, the newest is {is}"));
    }
}

/// Gateways are told of ready replicas that do not leave, and of no others.
fn routed(fleet: &Fleet, found: &mut Findings) {
    for deployment in crate::fleet::routes::table(fleet, fleet.term).deployments {
        for route in deployment.replicas {
            let Some(row) = fleet.replica(route.id) else {
                found.add("S8", format!("{} is in the routes and unknown", route.id));
                continue;
            };
            let ready = match &row.phase {
                Phase::Placed { seen: Some(seen), .. } => seen.phase == ReportedPhase::Ready,
                Phase::Placed { seen: None, .. }
                | Phase::Pending { .. }
                | Phase::Promised { .. }
                | Phase::Leaving { .. }
                | Phase::Stopped { .. } => false,
            };
            if !ready || row.deployment != deployment.id {
                let (who, phase) = (name(fleet, row), &row.phase);
                found.add("S8", format!("{who} is in the routes while it is {phase:?}"));
            }
        }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for row in step.after.replicas() {
        let old = step.before.replica(row.id).map(|row| &row.phase);
        match &row.phase {
            Phase::Leaving { leaving, .. } => match old {
                Some(Phase::Leaving { leaving: old, .. }) => {
                    hastened(step, row, old, leaving, found)
                }
                _ => told(step, row, leaving, found),
            },
            Phase::Stopped { proven: false, because, .. }
                if !matches!(old, Some(Phase::Stopped { .. })) =>
            {
                closed(step, row, *because, found);
            }
            Phase::Stopped { .. }
            | Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. } => {}
        }
    }
}

/// A deadline only comes nearer, and quiet stays quiet.
fn hastened(step: &Step<'_>, row: &ReplicaRow, old: &Leaving, new: &Leaving, found: &mut Findings) {
    let who = name(step.after, row);
    if new.deadline > old.deadline {
        found.add("S8", format!("the deadline of {who} was put off"));
    }
    if old.quiet && !new.quiet {
        found.add("S8", format!("{who} was quiet and is not any more"));
    }
    if new.since != old.since || new.routes != old.routes {
        found.add("S8", format!("{who} was told to leave a second time"));
    }
}

/// Nothing shortens a replica's grace but the end of its node.
fn told(step: &Step<'_>, row: &ReplicaRow, leaving: &Leaving, found: &mut Findings) {
    let of = step.after.deployment(&row.deployment);
    let Some(spec) = of.and_then(|of| of.revisions.get(&row.revision)) else { return };
    let grace = Millis::from_seconds(spec.extension.grace_seconds.into());
    let nodes = nodes(step, row);
    let notices = nodes.iter().flat_map(|node| node.notices.values());
    let ends = notices.map(|notice| notice.gone_at).min();
    let fair = leaving.since + grace;
    let fair = ends.map_or(fair, |ends| fair.min(ends));
    let failed = matches!(leaving.because, StopCause::StartDeadline | StopCause::Crashed);
    // The end of a single copy's lease was stated when it was granted: its guard has ended it.
    let lost = nodes.iter().any(|node| node.reach == Reach::Lost);
    let lapsed = leaving.because == StopCause::NodeLost && spec.extension.single_copy && lost;
    if leaving.deadline < fair && !failed && !lapsed {
        let (who, short) = (name(step.after, row), fair.since(leaving.deadline));
        found.add("S8", format!("{who} is given {short} less than its grace"));
    }
}

/// The nodes that a replica stands on.
fn nodes<'a>(step: &Step<'a>, row: &ReplicaRow) -> Vec<&'a NodeRow> {
    let Some(seat) = row.phase.seat() else { return Vec::new() };
    let others = seat.others.iter().map(|other| &other.node);
    others.chain([&seat.node]).filter_map(|node| step.after.node(node)).collect()
}

/// Only the end of a whole node closes a replica without proof; and that what was told to leave by
/// now has left wherever anybody can be asked.
fn closed(step: &Step<'_>, row: &ReplicaRow, because: StopCause, found: &mut Findings) {
    let nodes = nodes(step, row);
    let over = nodes
        .iter()
        .any(|node| node.departed_at.is_some() || matches!(node.intent, Intent::Retired));
    let left = nodes.iter().filter(|node| row.members.get(&node.id) != Some(&MemberFact::Gone));
    let was_told = match (step.before.replica(row.id).map(|row| &row.phase), &row.phase) {
        (Some(Phase::Leaving { leaving, .. }), Phase::Stopped { at, .. }) => {
            leaving.deadline <= *at
        }
        _other => false,
    };
    let unasked = left.clone().all(|node| node.reach == Reach::Lost);
    let asked = was_told && unasked && left.count() < nodes.len();
    if !over && !asked {
        let who = name(step.after, row);
        found.add("S12", format!("{who} was closed ({because}) while its node may still run it"));
    }
}
