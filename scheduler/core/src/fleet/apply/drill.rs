//! What facts about drills do to the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::ids::{DrillId, NodeId};

use super::node::next;
use crate::fleet::Fleet;
use crate::fleet::rows::drill::{Begun, Course, DrillRow, GivenUp, Run, ScheduleRow, Worse};
use crate::words::drill::HookRun;
use crate::words::event::drill::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Created { drill, nodes, at } => {
            let row = DrillRow {
                drill: drill.clone(),
                created_at: *at,
                runs: nodes.iter().map(|node| (node.clone(), Run::Waiting)).collect(),
                aborted: None,
                finished_at: None,
                worse: None,
            };
            fleet.active_drills.insert(drill.id.clone());
            fleet.drills.insert(drill.id.clone(), Arc::new(row));
        }
        Event::Scheduled { drill, schedule, at } => {
            let row = ScheduleRow {
                drill: drill.clone(),
                schedule: schedule.clone(),
                created_at: *at,
                due: None,
                fired: None,
                ended_at: None,
            };
            fleet.schedules.insert(drill.id.clone(), Arc::new(row));
        }
        Event::Unscheduled { drill, at } => {
            change_schedule(fleet, drill, |row| row.ended_at = Some(*at));
        }
        Event::Fired { drill, due, what, .. } => change_schedule(fleet, drill, |row| {
            (row.due, row.fired) = (Some(*due), Some(what.clone()));
        }),
        Event::Worsened { drill, than, because, .. } => change_row(fleet, drill, |row| {
            row.worse = Some(Worse { than: than.clone(), because: because.clone() });
        }),
        Event::Begun { drill, node, notice, stood, ready, held, at, gone_at } => {
            let begun = Begun {
                notice: notice.clone(),
                at: *at,
                gone_at: *gone_at,
                stood: stood.clone(),
                ready: ready.clone(),
                heard_at: None,
                told: None,
                hooks: Vec::new(),
                requests: BTreeMap::new(),
                held: *held,
                holds: Vec::new(),
                back_at: None,
                course: Course::Running,
            };
            put(fleet, drill, node, Run::Begun(Box::new(begun)));
            fleet.change_node(node, |row| row.generation = next(row.generation));
        }
        Event::Skipped { drill, node, because, at } => {
            let because = because.clone();
            put(fleet, drill, node, Run::Skipped(GivenUp { because, at: *at }));
        }
        Event::Heard { drill, node, at } => {
            change(fleet, drill, node, |begun| begun.heard_at = Some(*at));
        }
        Event::Told { drill, node, told } => {
            change(fleet, drill, node, |begun| begun.told = Some(*told));
        }
        Event::HookRan { drill, node, run } => {
            change(fleet, drill, node, |begun| ran(begun, run));
        }
        Event::Requests { drill, node, replica, gateway, served } => {
            change(fleet, drill, node, |begun| {
                let told = begun.requests.entry(*replica).or_default();
                told.insert(gateway.clone(), *served);
            });
        }
        Event::Holds { drill, node, more, at } => {
            change(fleet, drill, node, |begun| begun.holds.push((*at, *more)));
        }
        Event::CapacityBack { drill, node, at } => {
            change(fleet, drill, node, |begun| begun.back_at = Some(*at));
        }
        Event::Withdrawn { drill, node, outcome, at } => {
            let course = Course::Withdrawn { outcome: *outcome, at: *at };
            change(fleet, drill, node, |begun| begun.course = course);
            fleet.change_node(node, |row| row.generation = next(row.generation));
        }
        Event::Ended { drill, node, outcome, at } => {
            let course = Course::Ended { outcome: *outcome, at: *at };
            change(fleet, drill, node, |begun| begun.course = course);
        }
        Event::Aborted { drill, because, at } => change_row(fleet, drill, |row| {
            row.aborted = Some(GivenUp { because: because.clone(), at: *at });
        }),
        Event::Finished { drill, at } => {
            change_row(fleet, drill, |row| row.finished_at = Some(*at));
            fleet.active_drills.remove(drill);
        }
        Event::Forgotten { drill, .. } => {
            fleet.drills.remove(drill);
            fleet.schedules.remove(drill);
        }
    }
}

fn change_row(fleet: &mut Fleet, id: &DrillId, change: impl FnOnce(&mut DrillRow)) {
    if let Some(row) = fleet.drills.get_mut(id) {
        change(Arc::make_mut(row));
    }
}

fn change_schedule(fleet: &mut Fleet, id: &DrillId, change: impl FnOnce(&mut ScheduleRow)) {
    if let Some(row) = fleet.schedules.get_mut(id) {
        change(Arc::make_mut(row));
    }
}

fn put(fleet: &mut Fleet, id: &DrillId, node: &NodeId, run: Run) {
    change_row(fleet, id, |row| drop(row.runs.insert(node.clone(), run)));
}

fn change(fleet: &mut Fleet, id: &DrillId, node: &NodeId, change: impl FnOnce(&mut Begun)) {
    change_row(fleet, id, |row| match row.runs.get_mut(node) {
        Some(Run::Begun(begun)) => change(begun),
        Some(Run::Waiting | Run::Skipped(_)) | None => {}
    });
}

/// A run as it stands now: each is kept once.
fn ran(begun: &mut Begun, run: &HookRun) {
    let is_same = |known: &&mut HookRun| (known.replica, known.kind) == (run.replica, run.kind);
    match begun.hooks.iter_mut().find(is_same) {
        Some(known) => known.clone_from(run),
        None => begun.hooks.push(run.clone()),
    }
}
