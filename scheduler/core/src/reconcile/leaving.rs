//! The step that decides who leaves: with a node's notice, by a deployment's word, by a deadline.

use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::Timestamp;

use super::plan::Plan;
use crate::capacity::standing::{Standing, grace, standing};
use crate::fleet::rows::node::Slot;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::evacuation::leaver;
use crate::policies::repair;
use crate::words::event::deployment::Event as DeploymentEvent;
use crate::words::event::node::Event as NodeEvent;
use crate::words::event::replica::Event;
use crate::words::node::{Intent, NoticeFact, Reach};
use crate::words::replica::Phase;

/// A node's notices: promises there are withdrawn, replicas drain when the time has come, and at
/// the end everything on a node that leaves is closed in one step.
pub(super) fn node(plan: &mut Plan<'_>, id: &NodeId) {
    let Some(row) = plan.fleet.node(id) else { return };
    // A node that is silent may be heard again: until it is lost its seats are kept.
    if row.may_keep().is_err() {
        withdraw_promises(plan, id, |_| true);
    } else {
        withdraw_promises(plan, id, |slot| slot.unfit.is_some());
    }
    let Some(row) = plan.fleet.node(id) else { return };
    if row.intent == Intent::Retired && row.reach == Reach::Lost {
        // An operator's word that a lost node will not come back is the end of what was on it.
        close(plan, id, StopCause::NodeLost);
        return;
    }
    let notices: Vec<NoticeFact> = row.notices.values().cloned().collect();
    for notice in &notices {
        let over = notice.gone_at <= plan.now;
        if plan.fleet.is_given_up(id, &notice.id) {
            // The node goes on as soon as it hears so: what drains takes traffic again.
            continue;
        }
        match notice.leaves {
            Leaves::Node if over => depart(plan, id, notice),
            Leaves::Node | Leaves::Replicas => drain(plan, id, notice),
        }
        let empty = plan.fleet.node(id).is_some_and(|row| row.replicas.is_empty());
        if over && empty && notice.leaves == Leaves::Replicas {
            let (node, notice, at) = (id.clone(), notice.id.clone(), plan.now);
            plan.record(NodeEvent::NoticeEnded { node, notice, at });
        }
    }
}

pub(super) fn withdraw_promises(plan: &mut Plan<'_>, id: &NodeId, of: impl Fn(&Slot) -> bool) {
    let Some(row) = plan.fleet.node(id) else { return };
    let mut promised: Vec<ReplicaId> = {
        let slots = row.slots.iter().filter(|slot| of(slot));
        slots.filter_map(|slot| slot.promised).collect()
    };
    promised.dedup();
    for replica in promised {
        let at = plan.now;
        plan.record(Event::PromiseWithdrawn { replica, at });
    }
}

fn depart(plan: &mut Plan<'_>, id: &NodeId, notice: &NoticeFact) {
    let at = plan.now;
    if plan.fleet.node(id).is_some_and(|row| row.departed_at.is_none()) {
        plan.record(NodeEvent::Departed { node: id.clone(), notice: notice.id.clone(), at });
    }
    close(plan, id, StopCause::NodeNoticed);
}

/// Everything on a node that is gone is closed in one step; its slots wait for proof.
fn close(plan: &mut Plan<'_>, id: &NodeId, because: StopCause) {
    let at = plan.now;
    let open: Vec<ReplicaId> = plan
        .fleet
        .replicas_on(id)
        .filter(|replica| !matches!(replica.phase, Phase::Stopped { .. }))
        .map(|replica| replica.id)
        .collect();
    for replica in open {
        plan.record(Event::Closed { replica, because, at });
    }
    if plan.fleet.node(id).is_some_and(|row| row.held_for.is_some()) {
        plan.record(NodeEvent::Held { node: id.clone(), held_for: None, at });
    }
}

/// Replicas that drain by their agent's own decision are told to stop, so that gateways let go of
/// them; at the stated time all of them are.
fn drain(plan: &mut Plan<'_>, id: &NodeId, notice: &NoticeFact) {
    let due = notice.drain_at <= plan.now;
    let draining = |replica: &ReplicaRow| {
        let phase = replica.seen_on(id);
        matches!(phase, Some(ReportedPhase::Draining | ReportedPhase::Stopping))
    };
    // A notice may be heard of after its deadline: nothing has to be gone before it is told so.
    let deadline = notice.gone_at.max(plan.now);
    let mut leavers = Vec::new();
    let mut late = Vec::new();
    for replica in plan.fleet.replicas_on(id) {
        match &replica.phase {
            Phase::Placed { .. } if due || draining(replica) => {
                leavers.push(leaver(plan.fleet, replica, plan.now));
            }
            Phase::Leaving { leaving, .. } if leaving.deadline > deadline => {
                late.push((replica.id, leaving.because));
            }
            Phase::Placed { .. }
            | Phase::Leaving { .. }
            | Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Stopped { .. } => {}
        }
    }
    for leaver in leavers {
        leave(plan, leaver.replica, leaver.because, leaver.deadline);
    }
    for (replica, because) in late {
        plan.record(Event::Hastened { replica, because, deadline });
    }
}

/// A deployment's replicas that are not wanted at all, or have failed to start.
pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    let Some(row) = plan.fleet.deployment(id) else { return };
    let whole = match (row.deleting, row.spec.disabled) {
        (Some(_), _) => Some(StopCause::Deleted),
        (None, true) => Some(StopCause::Disabled),
        (None, false) => None,
    };
    let rows = plan.fleet.rows_of(id);
    for replica in &rows {
        if let Some(because) = abandoned(plan, replica) {
            let (replica, at) = (replica.id, plan.now);
            plan.record(Event::Closed { replica, because, at });
            continue;
        }
        if let Some(because) = whole {
            end(plan, replica, because);
            continue;
        }
        if repair::is_distrusted(plan.fleet, replica) {
            end(plan, replica, StopCause::HardwareFault);
            continue;
        }
        let Some(row) = plan.fleet.deployment(id) else { return };
        match standing(plan.fleet, row, replica) {
            Standing::Outdated if replica.phase.holds().is_none() => {
                end(plan, replica, StopCause::Replaced);
            }
            Standing::Failing => {
                end(plan, replica, StopCause::Crashed);
                back_off(plan, replica);
            }
            Standing::Wanted | Standing::Outdated if is_late(plan, replica) => {
                end(plan, replica, StopCause::StartDeadline);
                back_off(plan, replica);
            }
            Standing::Lost if is_broken(plan, replica) => {
                end(plan, replica, StopCause::Degraded);
            }
            Standing::Wanted
            | Standing::Outdated
            | Standing::Evacuating
            | Standing::Lost
            | Standing::Over => {}
        }
    }
}

/// A gang that lost a node, and whose leader says that it answers no more: what is left of it only
/// keeps GPUs from others.
fn is_broken(plan: &Plan<'_>, replica: &ReplicaRow) -> bool {
    let Phase::Placed { seat, seen: Some(seen), .. } = &replica.phase else { return false };
    let leader = plan.fleet.node(&seat.node);
    let is_heard = leader.is_some_and(|node| node.reach == Reach::Connected);
    seat.is_gang() && is_heard && seen.phase == ReportedPhase::Degraded
}

/// A gang that was to be gone by now, and of which only members on lost nodes are left: what the
/// others held is not kept from anybody until those are heard again.
fn abandoned(plan: &Plan<'_>, replica: &ReplicaRow) -> Option<StopCause> {
    let Phase::Leaving { seat, leaving, .. } = &replica.phase else { return None };
    let is_lost = |node| plan.fleet.node(node).is_none_or(|node| node.reach == Reach::Lost);
    let mut left = seat.nodes().filter(|node| !replica.is_gone_from(node));
    let over = seat.is_gang() && leaving.deadline <= plan.now && !replica.members.is_empty();
    (over && left.all(is_lost) && seat.nodes().any(|node| replica.is_gone_from(node)))
        .then_some(leaving.because)
}

/// Not ready within its start deadline.
fn is_late(plan: &Plan<'_>, replica: &ReplicaRow) -> bool {
    let Phase::Placed { since, seat, .. } = &replica.phase else { return false };
    let is_heard = |node| plan.fleet.node(node).is_some_and(|n| n.reach == Reach::Connected);
    let heard = seat.nodes().all(is_heard);
    heard && !replica.was_ready && *since + replica.start_deadline <= plan.now
}

/// Ends a replica in the way that fits where it is.
pub(super) fn end(plan: &mut Plan<'_>, replica: &ReplicaRow, because: StopCause) {
    let (id, at) = (replica.id, plan.now);
    match &replica.phase {
        Phase::Pending { .. } | Phase::Promised { .. } => {
            plan.record(Event::Dropped { replica: id, because, at });
        }
        Phase::Placed { .. } => {
            let deadline = at + grace(plan.fleet, replica);
            leave(plan, id, because, deadline);
        }
        Phase::Leaving { .. } | Phase::Stopped { .. } => {}
    }
}

/// Tells a placed replica to leave.
pub(crate) fn leave(
    plan: &mut Plan<'_>,
    replica: ReplicaId,
    because: StopCause,
    deadline: Timestamp,
) {
    let (routes, at) = (plan.next_routes(), plan.now);
    plan.record(Event::Leaving { replica, because, deadline, routes, at });
}

/// A replica failed: the next one of its deployment waits, longer from failure to failure.
pub fn back_off(plan: &mut Plan<'_>, replica: &ReplicaRow) {
    let Some(row) = plan.fleet.deployment(&replica.deployment) else { return };
    let healthy =
        wharfage_shared::time::Millis::from_seconds(plan.policy.healthy_after_seconds.into());
    let served = match &replica.phase {
        Phase::Placed { ready_since: Some(since), .. } => plan.now.since(*since),
        Phase::Placed { .. }
        | Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Leaving { .. }
        | Phase::Stopped { .. } => wharfage_shared::time::Millis::default(),
    };
    let failures = if served >= healthy { 1 } else { row.failures.saturating_add(1) };
    let until = plan.now + plan.policy.backoff(failures);
    let deployment = replica.deployment.clone();
    plan.record(DeploymentEvent::BackedOff { deployment, failures, until });
}
