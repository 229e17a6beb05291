//! How a drill went: each target with what was found, and the verdict.
//!
//! What was not measured is said to be so and meets no target: it is never zero.

use serde::Serialize;
use wharfage_shared::gateway::Served;
use wharfage_shared::ids::NodeId;
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::rows::drill::{Begun, Course, DrillRow, Run};
use crate::words::drill::Outcome;

/// What becomes of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is under way.
    Running,
    /// Every node went through it and every target is met.
    Passed,
    /// A node did not go through it, or a target is not met.
    Failed,
    /// It was given up.
    Aborted,
}

/// One demand and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// On which node.
    pub node: NodeId,
    /// Which demand.
    pub target: &'static str,
    /// Whether it is met.
    pub met: bool,
    /// What was found and what was wanted.
    pub sentence: String,
}

/// The verdict with the sentences that it follows from.
pub fn judge(row: &DrillRow) -> (Verdict, Vec<Judged>) {
    let mut judged = Vec::new();
    for (node, run) in &row.runs {
        match run {
            Run::Waiting => {}
            Run::Skipped(why) => judged.push(Judged {
                node: node.clone(),
                target: "drilled",
                met: false,
                sentence: format!("left out: {}", why.because),
            }),
            Run::Begun(begun) => of_node(row, node, begun, &mut judged),
        }
    }
    let verdict = if row.finished_at.is_none() {
        Verdict::Running
    } else if row.aborted.is_some() {
        Verdict::Aborted
    } else if judged.iter().all(|judged| judged.met) {
        Verdict::Passed
    } else {
        Verdict::Failed
    };
    (verdict, judged)
}

fn of_node(row: &DrillRow, node: &NodeId, begun: &Begun, judged: &mut Vec<Judged>) {
    let Course::Ended { outcome, .. } = begun.course else { return };
    let mut add = |target, met, sentence| {
        judged.push(Judged { node: node.clone(), target, met, sentence });
    };
    add("emptied_in_time", outcome == Outcome::Completed, outcome.as_str().to_owned());
    let targets = &row.drill.targets;
    if begun.stood.is_empty() {
        return;
    }
    if let Some(most) = targets.first_action {
        let (met, sentence) = at_most(first_action(begun), most);
        add("first_action", met, format!("first action {sentence} after the notice"));
    }
    if let (Some(least), Some((done, of))) = (targets.checkpoints_percent, checkpoints(begun)) {
        let met = done * 100 >= of * usize::from(least);
        let sentence = format!("{done} of {of} checkpoints completed, wanted {least} %");
        add("checkpoints", met, sentence);
    }
    if let Some(least) = targets.window_used_percent {
        let share = begun.told.and_then(|told| told.share_permille);
        let sentence = match share {
            Some(share) => {
                format!("{}.{} % of the window used, wanted {least} %", share / 10, share % 10)
            }
            None => format!("the share of the window was not measured, wanted {least} %"),
        };
        add("window_used", share.is_some_and(|share| share >= u64::from(least) * 10), sentence);
    }
    if let Some(most) = targets.requests_cut {
        let (met, found) = match requests(begun) {
            Some(told) => (told.cut <= u64::from(most), format!("{} requests cut", told.cut)),
            None => (false, "requests cut were not measured".to_owned()),
        };
        add("requests_cut", met, format!("{found}, wanted at most {most}"));
    }
    if let Some(most) = targets.capacity_back {
        let (met, sentence) = at_most(capacity_back(begun), most);
        add("capacity_back", met, format!("capacity back {sentence}"));
    }
}

/// So much longer than before is no news.
const SLOWER: Millis = Millis::from_seconds(10);

/// So much less of the window, in thousandths, is no news.
const LESS: u64 = 100;

/// In what a drill went worse than an earlier one, one sentence.
pub fn worse(before: &DrillRow, after: &DrillRow) -> Option<String> {
    let (was, now) = (judge(before).0, judge(after).0);
    if (was, now) == (Verdict::Passed, Verdict::Failed) {
        return Some("the one before passed, this one did not".to_owned());
    }
    let (was, now) = (Figures::of(before), Figures::of(after));
    let slower = was.back.zip(now.back).filter(|(was, now)| *was + SLOWER < *now);
    if let Some((was, now)) = slower {
        return Some(format!("the capacity was back after {now}, before that after {was}"));
    }
    if was.missed < now.missed {
        let (was, now) = (was.missed, now.missed);
        return Some(format!("{now} checkpoints did not complete, before that {was}"));
    }
    let cut = was.cut.zip(now.cut).filter(|(was, now)| was < now);
    if let Some((was, now)) = cut {
        return Some(format!("{now} requests were cut, before that {was}"));
    }
    let less = was.share.zip(now.share).filter(|(was, now)| *now + LESS < *was);
    less.map(|(was, now)| {
        let percent = |share: u64| format!("{}.{} %", share / 10, share % 10);
        format!("{} of the window was used, before that {}", percent(now), percent(was))
    })
}

/// What drills are compared by: the worst of their nodes.
struct Figures {
    back: Option<Millis>,
    missed: usize,
    cut: Option<u64>,
    share: Option<u64>,
}

impl Figures {
    fn of(row: &DrillRow) -> Self {
        let begun = || row.runs.values().filter_map(Run::begun);
        Self {
            back: begun().filter_map(capacity_back).max(),
            missed: begun().filter_map(checkpoints).map(|(done, of)| of - done).sum(),
            cut: begun().filter_map(requests).map(|told| told.cut).reduce(|sum, cut| sum + cut),
            share: begun().filter_map(|begun| begun.told?.share_permille).min(),
        }
    }
}

fn at_most(found: Option<Millis>, most: Millis) -> (bool, String) {
    match found {
        Some(found) => (found <= most, format!("{found}, wanted at most {most}")),
        None => (false, format!("not measured, wanted at most {most}")),
    }
}

/// From the notice to the first step that the node took for a replica.
pub fn first_action(begun: &Begun) -> Option<Millis> {
    let told = begun.told?;
    Some(told.first_action_at?.since(told.heard_at))
}

/// From the beginning until as many replicas were ready as before.
pub fn capacity_back(begun: &Begun) -> Option<Millis> {
    begun.back_at.map(|at| at.since(begun.at))
}

/// What became of requests at the replicas that stood there; nothing where no gateway told of any.
pub fn requests(begun: &Begun) -> Option<Served> {
    let told = begun.requests.values().flat_map(|told| told.values());
    told.copied().reduce(|sum, told| Served {
        completed: sum.completed.saturating_add(told.completed),
        moved: sum.moved.saturating_add(told.moved),
        cut: sum.cut.saturating_add(told.cut),
    })
}

/// GPU-time that the deployments which stood there held beyond what they held before, and short of
/// it: until the drill's end, or until now.
pub fn held_besides(begun: &Begun, now: Timestamp) -> (Millis, Millis) {
    let end = match begun.course {
        Course::Ended { at, .. } => at,
        Course::Running | Course::Withdrawn { .. } => now,
    };
    let (mut beyond, mut short) = (0u64, 0u64);
    for (at, (from, more)) in begun.holds.iter().enumerate() {
        let until = begun.holds.get(at + 1).map_or(end, |(next, _)| *next);
        let gpu_time = until.since(*from).0.saturating_mul(more.unsigned_abs());
        let sum = if *more > 0 { &mut beyond } else { &mut short };
        *sum = sum.saturating_add(gpu_time);
    }
    (Millis(beyond), Millis(short))
}

/// How many replicas completed their checkpoint, of how many that have one.
pub fn checkpoints(begun: &Begun) -> Option<(usize, usize)> {
    let of: Vec<_> = begun.stood.iter().filter(|stood| stood.checkpoints).collect();
    let done = |replica| {
        begun.hooks.iter().any(|run| {
            run.replica == replica
                && run.kind == HookKind::Checkpoint
                && run.outcome == HookOutcome::Done
        })
    };
    (!of.is_empty()).then(|| (of.iter().filter(|stood| done(stood.replica)).count(), of.len()))
}
