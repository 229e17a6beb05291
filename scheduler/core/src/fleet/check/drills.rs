//! A drill stays within its budget, makes way for what is real, and leaves nothing closed behind.

use std::collections::BTreeSet;

use wharfage_shared::ids::NodeId;

use super::{Findings, Step};

use crate::fleet::Fleet;
use crate::fleet::rows::drill::{Course, DrillRow, Run};
use crate::words::node::{Intent, Reach};

const RULE: &str = "drills";

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let mut drilled = BTreeSet::new();
    for row in fleet.drills() {
        let id = &row.drill.id;
        let mut on = 0;
        for (node, run) in &row.runs {
            let Run::Begun(begun) = run else { continue };
            let of_it = fleet.node(node).map(|node| (node, &begun.notice));
            match begun.course {
                Course::Running | Course::Withdrawn { .. } => {
                    on += 1;
                    if !drilled.insert(node) {
                        found.add(RULE, format!("{node} is in two drills at once"));
                    }
                }
                Course::Ended { .. } => {
                    let closed = of_it.is_some_and(|(node, notice)| {
                        node.reach != Reach::Lost && node.notices.contains_key(notice)
                    });
                    if closed {
                        found.add(RULE, format!("the drill on {node} is over, its notice is not"));
                    }
                }
            }
            let real = of_it.is_some_and(|(node, ours)| node.notices.keys().any(|id| id != ours));
            if real && begun.course == Course::Running {
                found.add(RULE, format!("{node} is drilled under a real notice"));
            }
        }
        if on > row.drill.budget.at_once {
            let most = row.drill.budget.at_once;
            found.add(RULE, format!("{id} is on {on} nodes at once, {most} may be"));
        }
        if row.finished_at.is_some() && row.runs.values().any(is_open) {
            found.add(RULE, format!("{id} is finished and a node of it is not"));
        }
    }
}

fn is_open(run: &Run) -> bool {
    match run {
        Run::Waiting => true,
        Run::Skipped(_) => false,
        Run::Begun(begun) => !matches!(begun.course, Course::Ended { .. }),
    }
}

/// A drill does not begin on a node that an operator has closed.
pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for row in step.after.drills() {
        let before = step.before.drill(&row.drill.id);
        for (node, run) in &row.runs {
            let closed = step.after.node(node).is_some_and(|node| node.intent != Intent::Open);
            if run.begun().is_some() && is_new(before, node) && closed {
                found.add(RULE, format!("a drill begins on {node}, which is closed"));
            }
        }
    }
}

fn is_new(before: Option<&DrillRow>, node: &NodeId) -> bool {
    before.and_then(|row| row.runs.get(node)).is_none_or(|run| *run == Run::Waiting)
}
