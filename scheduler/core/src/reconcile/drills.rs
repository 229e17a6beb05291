//! The step that leads drills: which nodes begin within the budget, what is given up, when a node
//! is open again.
//!
//! A drill only tells a node to leave. What follows is the path of a real notice: the node hears
//! it, reports it, and everything else of this floor acts on what it reports.

use std::collections::BTreeMap;

use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, NoticeId};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Millis, Timestamp};

use super::plan::Plan;
use crate::explain::drill::worse;
use crate::fleet::Fleet;
use crate::fleet::rows::drill::{Begun, Course, DrillRow, Run};
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::drill::{Outcome, Stood};
use crate::words::event::drill::Event;
use crate::words::node::{Health, Intent, Reach};
use crate::words::replica::Phase;

/// So long after its deadline a node's drill is closed, whatever is still missing.
pub(super) const PATIENCE: Millis = Millis::from_seconds(600);

/// Every drill that is not finished.
pub(super) fn all(plan: &mut Plan<'_>) {
    let active: Vec<DrillId> = plan.fleet.active_drills().map(|row| row.drill.id.clone()).collect();
    for id in active {
        drill(plan, &id);
    }
}

fn drill(plan: &mut Plan<'_>, id: &DrillId) {
    for (node, begun) in begun(plan, id) {
        follow(plan, id, &node, &begun);
    }
    give_up(plan, id);
    begin(plan, id);
    let over = |row: &DrillRow| row.runs.values().all(Run::is_over);
    if plan.fleet.drill(id).is_some_and(over) {
        plan.record(Event::Finished { drill: id.clone(), at: plan.now });
        compare(plan, id);
    }
}

/// Says so where a drill went worse than the last one with its scope and profile.
fn compare(plan: &mut Plan<'_>, id: &DrillId) {
    let Some(row) = plan.fleet.drill(id).filter(|row| row.aborted.is_none()) else { return };
    let is_like = |other: &&DrillRow| {
        let (this, that) = (&row.drill, &other.drill);
        that.id != this.id
            && other.aborted.is_none()
            && (&that.scope, that.profile) == (&this.scope, this.profile)
    };
    let finished = plan.fleet.drills().filter(|other| other.finished_at.is_some());
    let before = finished.filter(is_like).max_by_key(|other| (other.finished_at, &other.drill.id));
    let Some(before) = before else { return };
    if let Some(because) = worse(before, row) {
        let (drill, than, at) = (id.clone(), before.drill.id.clone(), plan.now);
        plan.record(Event::Worsened { drill, than, because, at });
    }
}

/// The nodes that the drill is under way on.
fn begun(plan: &Plan<'_>, id: &DrillId) -> Vec<(NodeId, Begun)> {
    let runs = plan.fleet.drill(id).into_iter().flat_map(|row| &row.runs);
    let on = runs.filter(|(_, run)| run.is_on());
    on.filter_map(|(node, run)| Some((node.clone(), run.begun()?.clone()))).collect()
}

/// Where one node is on its way through the drill.
fn follow(plan: &mut Plan<'_>, id: &DrillId, node: &NodeId, begun: &Begun) {
    let Some(row) = plan.fleet.node(node) else { return };
    let (drill, node, at) = (id.clone(), node.clone(), plan.now);
    let in_force = row.notices.contains_key(&begun.notice);
    let others = row.notices.keys().any(|notice| *notice != begun.notice);
    let (lost, late) = (row.reach == Reach::Lost, begun.gone_at + PATIENCE <= at);
    let heard = in_force || begun.heard_at.is_some();
    if heard && begun.heard_at.is_none() {
        plan.record(Event::Heard { drill: drill.clone(), node: node.clone(), at });
    }
    let is_back = begun.back_at.is_some() || (heard && is_back(plan.fleet, begun));
    if is_back && begun.back_at.is_none() {
        plan.record(Event::CapacityBack { drill: drill.clone(), node: node.clone(), at });
    }
    let more = held(plan.fleet, begun.ready.keys()) - begun.held;
    if more != begun.holds.last().map_or(0, |(_, more)| *more) {
        plan.record(Event::Holds { drill: drill.clone(), node: node.clone(), more, at });
    }
    if let Course::Withdrawn { outcome, .. } = begun.course {
        // What serves again may have to start on the very node.
        let waits = outcome == Outcome::Completed && !is_back && !late;
        if lost || (!in_force && !waits) {
            plan.record(Event::Ended { drill, node, outcome, at });
        }
        return;
    }
    let open = heard && !in_force && begun.gone_at <= at;
    let outcome = match (open, heard) {
        _ if lost => Outcome::Lost,
        _ if others => Outcome::Overtaken,
        (true, _) => Outcome::Completed,
        (false, true) if late => Outcome::NotEmpty,
        (false, false) if late => Outcome::NotHeard,
        (false, _) => return,
    };
    plan.record(Event::Withdrawn { drill, node, outcome, at });
}

/// As many replicas are ready as before, without those that stood on the node.
fn is_back(fleet: &Fleet, begun: &Begun) -> bool {
    let stood = |replica: &ReplicaRow| begun.stood.iter().any(|of| of.replica == replica.id);
    begun.ready.iter().all(|(deployment, before)| {
        let Some(row) = fleet.deployment(deployment) else { return true };
        let wanted = if row.deleting.is_some() { 0 } else { (*before).min(row.desired) };
        let ready = fleet.replicas_of(deployment).filter(|r| r.phase.is_ready() && !stood(r));
        ready.count() >= wanted as usize
    })
}

/// Given up by a rule of its own; whoever gave it up, the nodes are withdrawn here.
fn give_up(plan: &mut Plan<'_>, id: &DrillId) {
    let Some(row) = plan.fleet.drill(id) else { return };
    if row.aborted.is_none() {
        let on: Vec<&Begun> = row.runs.values().filter_map(Run::begun).collect();
        let Some(because) = on.iter().find_map(|begun| danger(plan.fleet, row, begun)) else {
            return;
        };
        plan.record(Event::Aborted { drill: id.clone(), because, at: plan.now });
    }
    let at = plan.now;
    for (node, begun) in begun(plan, id) {
        if begun.is_running() {
            let (drill, outcome) = (id.clone(), Outcome::Aborted);
            plan.record(Event::Withdrawn { drill, node, outcome, at });
        }
    }
    for node in waiting(plan.fleet, id) {
        let because = "the drill was given up before its turn came".to_owned();
        plan.record(Event::Skipped { drill: id.clone(), node, because, at });
    }
}

fn waiting(fleet: &Fleet, id: &DrillId) -> Vec<NodeId> {
    let runs = fleet.drill(id).into_iter().flat_map(|row| &row.runs);
    runs.filter(|(_, run)| **run == Run::Waiting).map(|(node, _)| node.clone()).collect()
}

/// The rule of the drill that says it must be given up because of what is under way on a node.
fn danger(fleet: &Fleet, row: &DrillRow, begun: &Begun) -> Option<String> {
    if !begun.is_running() {
        return None;
    }
    begun.ready.keys().find_map(|deployment| short(fleet, row, deployment))
}

/// Why a deployment has too few ready replicas for the drill.
fn short(fleet: &Fleet, row: &DrillRow, deployment: &DeploymentId) -> Option<String> {
    let of = fleet.deployment(deployment).filter(|of| of.deleting.is_none())?;
    let rules = &row.drill.abort;
    let min = if rules.below_min { of.spec.scaling.bounds.min() } else { 0 };
    let least = min.max(rules.fewer_than.unwrap_or(0));
    let ready = ready(fleet, deployment);
    let name = &of.spec.name;
    (ready < least).then(|| format!("{name} has {ready} ready replicas, at least {least} must be"))
}

/// Ready replicas, wherever they stand: those that serve their last seconds elsewhere included.
fn ready(fleet: &Fleet, deployment: &DeploymentId) -> u32 {
    let ready = fleet.replicas_of(deployment).filter(|replica| replica.phase.is_ready());
    u32::try_from(ready.count()).unwrap_or(u32::MAX)
}

/// Nodes begin in the order of their names, as many at once as the budget says.
fn begin(plan: &mut Plan<'_>, id: &DrillId) {
    for node in waiting(plan.fleet, id) {
        let Some(row) = plan.fleet.drill(id) else { return };
        let (drill, at) = (id.clone(), plan.now);
        let is_over = row.created_at + row.drill.budget.within <= at;
        let on = row.runs.values().filter(|run| run.is_on()).count();
        if !is_over && on >= row.drill.budget.at_once as usize {
            return;
        }
        let kept_back = obstacle(plan.fleet, row, &node);
        if is_over {
            let because = kept_back.unwrap_or_else(|| "its turn did not come in time".to_owned());
            plan.record(Event::Skipped { drill, node, because, at });
        } else if kept_back.is_none() {
            let gone_at = at + row.drill.profile.window();
            let notice = NoticeId::new(format!("drill-{id}-{node}"));
            let stood = stood(plan.fleet, &node);
            let of = stood.iter().map(|stood| stood.deployment.clone());
            let ready: BTreeMap<DeploymentId, u32> =
                of.map(|of| (of.clone(), ready(plan.fleet, &of))).collect();
            let held = held(plan.fleet, ready.keys());
            plan.record(Event::Begun { drill, node, notice, stood, ready, held, at, gone_at });
        }
    }
}

/// GPUs that deployments hold, those of replicas that leave included.
fn held<'a>(fleet: &Fleet, deployments: impl Iterator<Item = &'a DeploymentId>) -> i64 {
    let seats = deployments.flat_map(|id| fleet.replicas_of(id));
    let seats = seats.filter_map(|replica| replica.phase.holds());
    let gpus: usize = seats.flat_map(|seat| seat.members()).map(|(_, gpus)| gpus.len()).sum();
    i64::try_from(gpus).unwrap_or(i64::MAX)
}

fn stood(fleet: &Fleet, node: &NodeId) -> Vec<Stood> {
    fleet
        .replicas_on(node)
        .filter(|replica| matches!(replica.phase, Phase::Placed { .. }))
        .map(|replica| Stood {
            replica: replica.id,
            deployment: replica.deployment.clone(),
            checkpoints: replica.phase.is_ready()
                && fleet
                    .spec_of(replica)
                    .is_some_and(|spec| spec.extension.hooks.contains_key(&HookKind::Checkpoint)),
        })
        .collect()
}

/// Why a drill may not begin on a node now, one sentence.
pub(crate) fn obstacle(fleet: &Fleet, drill: &DrillRow, node: &NodeId) -> Option<String> {
    if let Some(because) = unfit(fleet, node) {
        return Some(because);
    }
    let mut on_it = fleet.replicas_on(node).map(|replica| &replica.deployment);
    on_it.find_map(|deployment| short(fleet, drill, deployment))
}

/// Why no drill at all may begin on a node now, one sentence.
pub(crate) fn unfit(fleet: &Fleet, node: &NodeId) -> Option<String> {
    let Some(row) = fleet.node(node) else { return Some(format!("there is no node {node}")) };
    let because = match (&row.reach, &row.health, &row.intent) {
        (Reach::Joining | Reach::Silent | Reach::Lost, _, _) => "is not connected",
        (_, Health::Qualifying | Health::Unfit { .. }, _) => "is not fit",
        (_, _, Intent::Cordoned { .. } | Intent::Draining { .. } | Intent::Retired) => {
            "is not open"
        }
        _ if row.departed_at.is_some() || !row.notices.is_empty() => "is under a notice",
        _ if fleet.drill_on(node).is_some() => "is in another drill",
        (Reach::Connected, Health::Fit, Intent::Open) => return None,
    };
    Some(format!("{node} {because}"))
}

/// When a node of a drill must be looked at again without anything having happened.
pub(super) fn alarms(row: &DrillRow, run: &Run) -> Vec<Timestamp> {
    match run {
        Run::Waiting => vec![row.created_at + row.drill.budget.within],
        Run::Begun(begun) => vec![begun.gone_at, begun.gone_at + PATIENCE],
        Run::Skipped(_) => Vec::new(),
    }
}
