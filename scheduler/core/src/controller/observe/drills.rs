//! What machines tell of a drill: a heartbeat the story of the evacuation and the hooks of its
//! replicas, a gateway what became of requests there.

use std::collections::BTreeMap;

use wharfage_shared::drill::Evacuated;
use wharfage_shared::gateway::Served;
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{GatewayName, ReplicaId};
use wharfage_shared::replica::HookReport;
use wharfage_shared::time::{Boottime, Timestamp};

use crate::fleet::rows::drill::Begun;
use crate::reconcile::plan::Plan;
use crate::words::drill::{HookRun, Told};
use crate::words::event::drill::Event;

/// Facts where they say something new about a drill that has begun on the node.
pub(super) fn told(plan: &mut Plan<'_>, heartbeat: &Heartbeat) {
    let Some((row, begun)) = plan.fleet.drill_on(&heartbeat.node) else { return };
    let (id, node) = (row.drill.id.clone(), heartbeat.node.clone());
    let story = heartbeat.evacuated.as_ref().filter(|story| story.notice == begun.notice);
    let Some(story) = story else { return };
    // What the node did came after it was told to, however its clock is read.
    let wall = |at: Boottime| wall(plan, heartbeat, at).max(begun.at);
    let mut events = Vec::new();
    let told = of_story(story, wall);
    if begun.told != Some(told) {
        events.push(Event::Told { drill: id.clone(), node: node.clone(), told });
    }
    let gone = story.hooks.iter().map(|past| (past.replica, &past.run));
    let here = heartbeat.replicas.iter();
    let here = here.flat_map(|report| report.hooks.iter().map(|run| (report.replica, run)));
    for (replica, hook) in gone.chain(here) {
        let stood = begun.stood.iter().any(|stood| stood.replica == replica);
        if !stood || hook.started_at < story.heard_at {
            continue;
        }
        if let Some(run) = news(begun, replica, hook, wall) {
            events.push(Event::HookRan { drill: id.clone(), node: node.clone(), run });
        }
    }
    for event in events {
        plan.record(event);
    }
}

/// Facts where a gateway has counted more at a replica that stands, or stood, on a drilled node.
pub(super) fn requests(
    plan: &mut Plan<'_>,
    gateway: &GatewayName,
    left: &BTreeMap<ReplicaId, Served>,
) {
    let mut events = Vec::new();
    for row in plan.fleet.active_drills().filter(|_| !left.is_empty()) {
        for (node, begun) in row.runs.iter().filter_map(|(node, run)| Some((node, run.begun()?))) {
            let stood = begun.stood.iter().map(|stood| stood.replica);
            for (replica, told) in stood.filter_map(|id| Some((id, *left.get(&id)?))) {
                let known = begun.requests.get(&replica).and_then(|known| known.get(gateway));
                // A gateway that was started anew counts from zero.
                let known_or_none = known.copied().unwrap_or_default();
                let served = Served {
                    completed: told.completed.max(known_or_none.completed),
                    moved: told.moved.max(known_or_none.moved),
                    cut: told.cut.max(known_or_none.cut),
                };
                if known != Some(&served) {
                    let (drill, node) = (row.drill.id.clone(), node.clone());
                    let gateway = gateway.clone();
                    events.push(Event::Requests { drill, node, replica, gateway, served });
                }
            }
        }
    }
    for event in events {
        plan.record(event);
    }
}

fn wall(plan: &Plan<'_>, heartbeat: &Heartbeat, at: Boottime) -> Timestamp {
    let meter = plan.fleet.meter();
    meter.wall(&heartbeat.node, &heartbeat.boot, at).unwrap_or(plan.now).min(plan.now)
}

fn of_story(story: &Evacuated, wall: impl Fn(Boottime) -> Timestamp) -> Told {
    Told {
        heard_at: wall(story.heard_at),
        first_action_at: story.first_action_at.map(&wall),
        empty_at: story.ended_at.map(&wall),
        share_permille: story.share_permille,
    }
}

/// A run that stands otherwise than it was known to.
fn news(
    begun: &Begun,
    replica: ReplicaId,
    hook: &HookReport,
    wall: impl Fn(Boottime) -> Timestamp,
) -> Option<HookRun> {
    let mut known = begun.hooks.iter();
    let known = known.find(|known| (known.replica, known.kind) == (replica, hook.kind));
    let run = HookRun {
        replica,
        kind: hook.kind,
        hook: hook.hook.clone(),
        outcome: hook.outcome,
        started_at: wall(hook.started_at),
        ended_at: hook.ended_at.map(&wall),
        detail: hook.detail.clone(),
    };
    let is_new = known
        .is_none_or(|known| known.started_at <= run.started_at && known.outcome != run.outcome);
    is_new.then_some(run)
}
