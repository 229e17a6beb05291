//! Commands about drills.

use std::collections::BTreeSet;

use wharfage_shared::ids::{DrillId, NodeId};
use wharfage_shared::time::{Millis, Timestamp};

use super::{name_taken, not_found, precondition};
use crate::fleet::Fleet;
use crate::fleet::rows::drill::DrillRow;
use crate::reconcile::drills::{forget_schedules, unfit};
use crate::reconcile::plan::Plan;
use crate::words::command::Answer;
use crate::words::command::drills::Action;
use crate::words::drill::{Drill, Fired, Scope};
use crate::words::event::drill::Event;
use crate::words::node::Intent;
use crate::words::refusal::{Kind, Refusal};

/// A longer window is a mistake: no provider gives one.
const LONGEST_WINDOW: Millis = Millis::from_seconds(86_400);
/// A longer budget is a mistake: schedule the drill again.
const LONGEST_BUDGET: Millis = Millis::from_seconds(30 * 86_400);
/// A scheduled drill does not begin later than this: it was meant for another hour.
const LATEST: Millis = Millis::from_seconds(3_600);
/// Characters of a name.
const LONGEST_NAME: usize = 100;

pub(super) fn carry_out(plan: &mut Plan<'_>, action: &Action) -> Result<Answer, Refusal> {
    let at = plan.now;
    match action {
        Action::Create(drill) => {
            let nodes = checked(plan.fleet, drill)?;
            plan.record(Event::Created { drill: (**drill).clone(), nodes, at });
        }
        Action::Schedule { drill, schedule } => {
            let (drill, schedule) = ((**drill).clone(), schedule.clone());
            if plan.fleet.schedule(&drill.id).is_some() {
                return Err(name_taken(Kind::Drill, &drill.id));
            }
            sound(plan.fleet, &drill)?;
            plan.record(Event::Scheduled { drill, schedule, at });
        }
        Action::Fire { schedule, run, due } => fire(plan, schedule, run, *due),
        Action::Abort { id, .. } if plan.fleet.schedule(id).is_some() => {
            if plan.fleet.schedule(id).is_some_and(|row| row.ended_at.is_none()) {
                plan.record(Event::Unscheduled { drill: id.clone(), at });
                forget_schedules(plan);
            }
        }
        Action::Abort { id, reason } => {
            let row = plan.fleet.drill(id).ok_or_else(|| not_found(Kind::Drill, id))?;
            if row.finished_at.is_some() {
                return Err(precondition(id.to_string(), format!("drill {id} is over already")));
            }
            if row.aborted.is_none() {
                let because = format!("an operator gave it up: {reason}");
                plan.record(Event::Aborted { drill: id.clone(), because, at });
            }
        }
    }
    Ok(Answer::Done)
}

/// A schedule's time has come: a drill begins, or why none does is kept. A time is acted upon once.
fn fire(plan: &mut Plan<'_>, id: &DrillId, run: &DrillId, due: Timestamp) {
    let at = plan.now;
    let Some(row) = plan.fleet.schedule(id).filter(|row| row.ended_at.is_none()) else { return };
    if row.due.is_some_and(|last| due <= last) || at < due {
        return;
    }
    let drill = Drill { id: run.clone(), scheduled: Some(id.clone()), ..row.drill.clone() };
    let of_it = |row: &&DrillRow| row.drill.scheduled.as_ref() == Some(id);
    let before = plan.fleet.active_drills().find(of_it).map(|row| row.drill.id.clone());
    let nodes = match before {
        Some(before) => Err(format!("drill {before} of this schedule is under way")),
        None if due + LATEST <= at => Err("its time passed while no scheduler ran".to_owned()),
        None => checked(plan.fleet, &drill).map_err(|refusal| refusal.to_string()),
    };
    let what = match nodes {
        Ok(nodes) => {
            plan.record(Event::Created { drill, nodes, at });
            Fired::Begun(run.clone())
        }
        Err(because) => Fired::Missed(because),
    };
    plan.record(Event::Fired { drill: id.clone(), due, what, at });
}

/// The nodes of the scope, once everything about the drill is found to be sound.
fn checked(fleet: &Fleet, drill: &Drill) -> Result<Vec<NodeId>, Refusal> {
    sound(fleet, drill)?;
    nodes(fleet, &drill.scope)
}

/// What can be said of a drill before its time has come.
fn sound(fleet: &Fleet, drill: &Drill) -> Result<(), Refusal> {
    if fleet.drill(&drill.id).is_some() {
        return Err(name_taken(Kind::Drill, &drill.id));
    }
    let invalid = |field: &str, text: String| Err(Refusal::invalid(field, text));
    let length = drill.name.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) {
        let text = format!("{length} characters; accepted: 1 to {LONGEST_NAME}");
        return invalid("name", text);
    }
    let window = drill.profile.window();
    if window > LONGEST_WINDOW {
        return invalid("window_seconds", format!("{window}; accepted: at most {LONGEST_WINDOW}"));
    }
    if drill.budget.at_once == 0 {
        return invalid("budget.nodes_at_once", "0; accepted: 1 and more".to_owned());
    }
    if drill.budget.within == Millis(0) || drill.budget.within > LONGEST_BUDGET {
        let text = format!("{}; accepted: 1 hour to {LONGEST_BUDGET}", drill.budget.within);
        return invalid("budget.within_hours", text);
    }
    let targets = &drill.targets;
    let percents = [
        ("targets.checkpoints_percent", targets.checkpoints_percent),
        ("targets.window_used_percent", targets.window_used_percent),
    ];
    if let Some((field, Some(percent))) = percents.into_iter().find(|(_, p)| *p > Some(100)) {
        return invalid(field, format!("{percent}; accepted: 0 to 100"));
    }
    match &drill.scope {
        Scope::Deployment { percent, .. } if !(1..=100).contains(percent) => {
            invalid("scope.percent", format!("{percent}; accepted: 1 to 100"))
        }
        Scope::Node(_) | Scope::Pool(_) | Scope::Deployment { .. } => Ok(()),
    }
}

/// The nodes of a scope as of now; there is at least one.
pub(in crate::controller) fn nodes(fleet: &Fleet, scope: &Scope) -> Result<Vec<NodeId>, Refusal> {
    let nodes: Vec<NodeId> = match scope {
        Scope::Node(node) => {
            fleet.node(node).ok_or_else(|| not_found(Kind::Node, node))?;
            if let Some(because) = unfit(fleet, node) {
                return Err(precondition(node.to_string(), format!("{because}: no drill begins")));
            }
            vec![node.clone()]
        }
        Scope::Pool(pool) => {
            fleet.pool(pool).ok_or_else(|| not_found(Kind::Pool, pool))?;
            let of = fleet.nodes().filter(|node| node.pool == *pool);
            of.filter(|node| node.intent != Intent::Retired).map(|node| node.id.clone()).collect()
        }
        Scope::Deployment { deployment, percent } => {
            let known = fleet.deployment(deployment).filter(|row| row.deleting.is_none());
            known.ok_or_else(|| not_found(Kind::Deployment, deployment))?;
            let ready = fleet.replicas_of(deployment).filter(|replica| replica.phase.is_ready());
            let on: BTreeSet<NodeId> = ready.flat_map(|replica| replica.nodes().cloned()).collect();
            let share = (on.len() * usize::from(*percent)).div_ceil(100);
            on.into_iter().take(share).collect()
        }
    };
    if nodes.is_empty() {
        return Err(precondition("scope", "no node is in the drill's scope"));
    }
    Ok(nodes)
}
