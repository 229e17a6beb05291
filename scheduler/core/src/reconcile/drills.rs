//! The step that leads drills: which nodes begin within the budget, what is given up, when a node
//! is open again.
//!
//! A drill only tells a node to leave. What follows is the path of a real notice: the node hears
//! it, reports it, and everything else of this floor acts on what it reports.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, NoticeId};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Millis, Timestamp};

use super::plan::Plan;
use crate::explain::drill::{requests, worse};
use crate::fleet::Fleet;
use crate::fleet::rows::drill::{Begun, Course, DrillRow, Run};
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::drill::{Outcome, Stood};
use crate::words::event::drill::Event;
use crate::words::event::node::Event as NodeEvent;
use crate::words::node::{Health, Intent, Reach};
use crate::words::replica::Phase;

/// So long after its deadline a node's drill is closed, whatever is still missing.
pub(super) const PATIENCE: Millis = Millis::from_seconds(600);

/// Finished drills that are kept of one scope and profile: five months of a weekly one, and each is
/// compared with the one before it only.
pub(crate) const KEPT: usize = 20;

/// Finished drills that are kept at all: scopes come and go with nodes and deployments.
const KEPT_IN_ALL: usize = 1_000;

/// Schedules that are kept after their end.
const ENDED_KEPT: usize = 100;

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
        forget(plan, id);
    }
}

/// What drills make deployments hold, once everything that follows at this instant is decided.
pub(super) fn measure(plan: &mut Plan<'_>) {
    let mut events = Vec::new();
    for row in plan.fleet.active_drills() {
        for (node, begun) in row.runs.iter().filter(|(_, run)| run.is_on()) {
            let Some(begun) = begun.begun() else { continue };
            let more = more(plan.fleet, begun);
            if more != begun.holds.last().map_or(0, |(_, more)| *more) {
                let (drill, node, at) = (row.drill.id.clone(), node.clone(), plan.now);
                events.push(Event::Holds { drill, node, more, at });
            }
        }
    }
    for event in events {
        plan.record(event);
    }
}

/// Says so where a drill went worse than the last one with its scope and profile.
fn compare(plan: &mut Plan<'_>, id: &DrillId) {
    let Some(row) = plan.fleet.drill(id).filter(|row| row.aborted.is_none()) else { return };
    let is_before =
        |other: &&DrillRow| *id != other.drill.id && other.aborted.is_none() && is_like(row, other);
    let finished = plan.fleet.drills().filter(|other| other.finished_at.is_some());
    let before =
        finished.filter(is_before).max_by_key(|other| (other.finished_at, &other.drill.id));
    let Some(before) = before else { return };
    if let Some(because) = worse(before, row) {
        let (drill, than, at) = (id.clone(), before.drill.id.clone(), plan.now);
        plan.record(Event::Worsened { drill, than, because, at });
    }
}

/// Whether one belongs to the history of the other.
fn is_like(this: &DrillRow, that: &DrillRow) -> bool {
    (&this.drill.scope, this.drill.profile) == (&that.drill.scope, that.drill.profile)
}

/// Drills that nothing is compared with any more are not kept, the oldest first. One that ended on
/// a node which is still lost is: its agent may come back and tell of the notice.
fn forget(plan: &mut Plan<'_>, id: &DrillId) {
    let Some(row) = plan.fleet.drill(id) else { return };
    let is_lost = |node| plan.fleet.node(node).is_some_and(|row| row.reach == Reach::Lost);
    let mut finished: Vec<&DrillRow> =
        plan.fleet.drills().filter(|other| other.finished_at.is_some()).collect();
    finished.sort_by_key(|other| std::cmp::Reverse((other.finished_at, &other.drill.id)));
    let alike = finished.iter().filter(|other| is_like(row, other)).skip(KEPT);
    let beyond = alike.chain(finished.iter().skip(KEPT_IN_ALL));
    let over = beyond.filter(|other| !other.runs.keys().any(is_lost));
    let over: BTreeSet<DrillId> = over.map(|other| other.drill.id.clone()).collect();
    for drill in over {
        plan.record(Event::Forgotten { drill, at: plan.now });
    }
}

/// Schedules that ended long ago are not kept, the oldest first.
pub(crate) fn forget_schedules(plan: &mut Plan<'_>) {
    let ended = plan.fleet.schedules().filter_map(|row| Some((row.ended_at?, &row.drill.id)));
    let mut ended: Vec<(Timestamp, DrillId)> = ended.map(|(at, id)| (at, id.clone())).collect();
    ended.sort();
    let beyond = ended.len().saturating_sub(ENDED_KEPT);
    for (_, drill) in ended.into_iter().take(beyond) {
        plan.record(Event::Forgotten { drill, at: plan.now });
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
    if let Course::Withdrawn { outcome, .. } = begun.course {
        // What serves again may have to start on the very node.
        let waits = outcome == Outcome::Completed && !is_back && !late;
        if lost && in_force {
            // The host comes back without it, whatever it still tells of it.
            let (node, notice) = (node.clone(), begun.notice.clone());
            plan.record(NodeEvent::NoticeEnded { node, notice, at });
        }
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
        let mut on = row.runs.values().filter_map(Run::begun);
        let danger = on.find_map(|begun| danger(plan.fleet, row, begun));
        let Some(because) = danger.or_else(|| cut(row)) else { return };
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

/// Why too many requests got no whole answer, as far as gateways have told.
fn cut(row: &DrillRow) -> Option<String> {
    let most = row.drill.abort.more_cut_than?;
    let begun = row.runs.values().filter_map(Run::begun);
    let cut: u64 = begun.filter_map(requests).map(|told| told.cut).sum();
    (cut > u64::from(most)).then(|| format!("{cut} requests were cut, at most {most} may be"))
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
            let held = beyond_wanted(plan.fleet, &stood);
            plan.record(Event::Begun { drill, node, notice, stood, ready, held, at, gone_at });
        }
    }
}

/// How many more GPUs the drill makes deployments hold: as long as those of what stood there are
/// held, so many at most; when they are not, fewer by so many at most. What autoscaling takes and
/// gives back meanwhile is wanted more, or wanted less, and no effect of the drill.
fn more(fleet: &Fleet, begun: &Begun) -> i64 {
    let (mut still, mut gone) = (0, 0);
    for stood in &begun.stood {
        let row = fleet.replica(stood.replica);
        let holds = row.is_some_and(|row| row.phase.holds().is_some());
        *(if holds { &mut still } else { &mut gone }) += i64::from(stood.gpus);
    }
    (beyond_wanted(fleet, &begun.stood) - begun.held).clamp(-gone, still)
}

/// How many more GPUs the deployments of what stands on a node hold than they want. Of what leaves
/// only that counts: what else leaves is wanted no longer.
fn beyond_wanted(fleet: &Fleet, stood: &[Stood]) -> i64 {
    let of: BTreeSet<&DeploymentId> = stood.iter().map(|stood| &stood.deployment).collect();
    let counts = |row: &ReplicaRow| {
        matches!(row.phase, Phase::Placed { .. })
            || stood.iter().any(|stood| stood.replica == row.id)
    };
    let mut beyond = 0i64;
    for id in of {
        let rows = fleet.replicas_of(id).filter(|row| counts(row));
        beyond += rows.map(|row| i64::from(gpus(row))).sum::<i64>();
        if let Some(row) = fleet.deployment(id).filter(|row| row.deleting.is_none()) {
            beyond -= i64::from(row.desired) * i64::from(u32::from(row.spec.gpus));
        }
    }
    beyond
}

/// GPUs that a replica holds.
fn gpus(row: &ReplicaRow) -> u32 {
    let members = row.phase.holds().into_iter().flat_map(|seat| seat.members());
    members.map(|(_, gpus)| u32::try_from(gpus.len()).unwrap_or(u32::MAX)).sum()
}

/// What stands on a node now.
pub(crate) fn stood(fleet: &Fleet, node: &NodeId) -> Vec<Stood> {
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
            gpus: gpus(replica),
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
