//! What a heartbeat says of replicas: phases, proofs of release, orphans.

use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::{Gone, ReplicaReport};
use wharfage_shared::time::Timestamp;

use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::evacuation;
use crate::reconcile::plan::Plan;
use crate::reconcile::{back_off, leave};
use crate::words::event::node::Event as NodeEvent;
use crate::words::event::replica::Event;
use crate::words::replica::{Phase, Seen};

/// Whether the log knows the replica on this node.
fn known<'a>(plan: &'a Plan<'_>, node: &NodeId, id: ReplicaId) -> Option<&'a ReplicaRow> {
    let listed = plan.fleet.node(node)?.replicas.binary_search(&id).is_ok();
    plan.fleet.replica(id).filter(|_| listed)
}

pub(super) fn reported(plan: &mut Plan<'_>, heartbeat: &Heartbeat) {
    for report in &heartbeat.replicas {
        let gone = heartbeat.gone.iter().any(|gone| gone.replica == report.replica);
        if known(plan, &heartbeat.node, report.replica).is_some() {
            see(plan, heartbeat, report);
        } else if !gone {
            orphan(plan, &heartbeat.node, report);
        }
    }
}

/// A change of phase or address is a fact; progress and sentences are not.
fn see(plan: &mut Plan<'_>, heartbeat: &Heartbeat, report: &ReplicaReport) {
    let Some(row) = known(plan, &heartbeat.node, report.replica) else { return };
    if matches!(row.phase, Phase::Stopped { .. }) {
        return;
    }
    if row.node() != Some(&heartbeat.node) {
        let is_known = row.seen_on(&heartbeat.node) == Some(report.phase);
        if !is_known && !row.is_gone_from(&heartbeat.node) {
            let (replica, node, phase) = (row.id, heartbeat.node.clone(), report.phase);
            plan.record(Event::MemberSeen { replica, node, phase });
        }
        return;
    }
    let before = row.phase.seen();
    if before.is_some_and(|b| {
        b.phase == report.phase && b.address.as_deref() == report.address.as_deref()
    }) {
        return;
    }
    let meter = plan.fleet.meter();
    let since = meter.wall(&heartbeat.node, &heartbeat.boot, report.since).unwrap_or(plan.now);
    let seen = Seen {
        phase: report.phase,
        since: since.min(plan.now),
        address: report.address.as_deref().map(Into::into),
        because: report.because.as_deref().map(Into::into),
    };
    plan.record(Event::Seen { replica: report.replica, seen });
}

/// The log does not know it here: it is kept, its slots are taken, it is shown.
fn orphan(plan: &mut Plan<'_>, node: &NodeId, report: &ReplicaReport) {
    let Some(row) = plan.fleet.node(node) else { return };
    if row.orphans.contains_key(&report.replica) {
        return;
    }
    let (replica, gpus, at) = (report.replica, report.gpus.clone(), plan.now);
    plan.record(NodeEvent::OrphanFound { node: node.clone(), replica, gpus, at });
}

pub(super) fn gone(plan: &mut Plan<'_>, heartbeat: &Heartbeat) {
    for gone in &heartbeat.gone {
        let node = &heartbeat.node;
        if plan.fleet.node(node).is_some_and(|row| row.orphans.contains_key(&gone.replica)) {
            let (node, replica, at) = (node.clone(), gone.replica, plan.now);
            plan.record(NodeEvent::OrphanGone { node, replica, at });
        }
        if let Some(row) = known(plan, node, gone.replica).cloned() {
            release(plan, heartbeat, &row, gone);
        }
    }
}

/// With proof it is over. One that was not told to leave has crashed: the next one waits.
fn release(plan: &mut Plan<'_>, heartbeat: &Heartbeat, row: &ReplicaRow, gone: &Gone) {
    if row.is_gone_from(&heartbeat.node) {
        return;
    }
    let because = match &row.phase {
        Phase::Leaving { leaving, .. } => leaving.because,
        Phase::Stopped { because, .. } => *because,
        Phase::Placed { .. } => evacuated(plan, row).unwrap_or(StopCause::Crashed),
        Phase::Pending { .. } | Phase::Promised { .. } => return,
    };
    if because == StopCause::Crashed && matches!(row.phase, Phase::Placed { .. }) {
        back_off(plan, row);
    }
    let at = ended_at(plan, heartbeat, gone);
    let (replica, ended) = (row.id, gone.ended.clone());
    let stands = |node: &&NodeId| **node != heartbeat.node && !row.is_gone_from(node);
    if !row.nodes().any(|node| stands(&node)) {
        plan.record(Event::Gone { replica, because, ended, at });
        return;
    }
    plan.record(Event::MemberGone { replica, node: heartbeat.node.clone(), ended, at });
    if matches!(row.phase, Phase::Placed { .. }) {
        // Any member's end is the replica's.
        let deadline = evacuation::leaver(plan.fleet, row, plan.now).deadline;
        leave(plan, replica, because, deadline);
    }
}

/// A node under a notice ends its replicas by itself at the last fitting moment.
fn evacuated(plan: &Plan<'_>, row: &ReplicaRow) -> Option<StopCause> {
    let mut nodes = row.nodes().filter_map(|node| plan.fleet.node(node));
    nodes.any(|node| node.notice().is_some()).then_some(StopCause::NodeNoticed)
}

fn ended_at(plan: &Plan<'_>, heartbeat: &Heartbeat, gone: &Gone) -> Timestamp {
    let meter = plan.fleet.meter();
    let at = meter.wall(&heartbeat.node, &heartbeat.boot, gone.processes_gone_at);
    at.unwrap_or(plan.now).min(plan.now)
}
