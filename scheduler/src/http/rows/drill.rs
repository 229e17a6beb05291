//! A drill as clients read it, and the report of how it went.

pub mod drawing;
pub mod html;
pub mod junit;

use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::explain::drill::{
    Verdict, capacity_back, checkpoints, first_action, held_besides, judge, requests,
};
use wharfage_scheduler_core::fleet::rows::drill::{Begun, Course, DrillRow, Run, ScheduleRow};
use wharfage_scheduler_core::words::drill::{Drill, Fired, HookRun, Scope};
use wharfage_shared::gateway::Served;
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::{Millis, Timestamp};

use super::instant;
use crate::drills::next;

/// What no report of a machine tells yet.
const NOT_MEASURED: &str = "not measured";

/// The row of a drill.
pub fn row(row: &DrillRow) -> Value {
    let mut shown = pattern(&row.drill);
    shown["created_at"] = json!(instant(row.created_at));
    shown["finished_at"] = json!(row.finished_at.map(instant));
    shown["verdict"] = json!(judge(row).0);
    shown["aborted"] = json!(row.aborted.as_ref().map(|aborted| &aborted.because));
    shown["worse"] = row
        .worse
        .as_ref()
        .map_or(Value::Null, |worse| json!({"than": worse.than, "because": worse.because}));
    shown["nodes"] = row.runs.iter().map(|(node, run)| of_run(node, run)).collect();
    shown
}

/// The row of a schedule, with the drills that it began, the newest last.
pub fn schedule(fleet: &Fleet, row: &ScheduleRow, now: Timestamp) -> Value {
    let of_it = |drill: &&DrillRow| drill.drill.scheduled.as_ref() == Some(&row.drill.id);
    let mut runs: Vec<&DrillRow> = fleet.drills().filter(of_it).collect();
    runs.sort_by_key(|run| (run.created_at, &run.drill.id));
    let next_at = row.ended_at.is_none().then(|| next(row, now)).flatten();
    let (began, missed) = match &row.fired {
        None => (None, None),
        Some(Fired::Begun(drill)) => (Some(drill), None),
        Some(Fired::Missed(because)) => (None, Some(because)),
    };
    let mut shown = pattern(&row.drill);
    shown["schedule"] = json!({
        "cron": row.schedule.cron,
        "time_zone": row.schedule.time_zone,
        "next_at": next_at.map(instant),
        "last_at": row.due.map(instant),
        "last_began": began,
        "last_missed": missed,
    });
    shown["created_at"] = json!(instant(row.created_at));
    shown["finished_at"] = json!(row.ended_at.map(instant));
    shown["verdict"] = json!(if row.ended_at.is_some() { "ended" } else { "scheduled" });
    shown["nodes"] = json!([]);
    let run = |run: &&DrillRow| {
        let created_at = instant(run.created_at);
        json!({"id": run.drill.id, "created_at": created_at, "verdict": judge(run).0})
    };
    shown["runs"] = runs.iter().map(run).collect();
    shown
}

/// A drill as it was asked for.
fn pattern(drill: &Drill) -> Value {
    let budget = &drill.budget;
    json!({
        "id": drill.id,
        "name": drill.name,
        "scope": scope(&drill.scope),
        "profile": drill.profile.as_str(),
        "window_seconds": whole_seconds(drill.profile.window()),
        "budget": {
            "nodes_at_once": budget.at_once,
            "within_hours": whole_seconds(budget.within) / 3600,
        },
        "abort": {
            "below_min_ready": drill.abort.below_min,
            "fewer_than_ready": drill.abort.fewer_than,
            "more_requests_cut_than": drill.abort.more_cut_than,
        },
        "targets": {
            "first_action_seconds": drill.targets.first_action.map(whole_seconds),
            "checkpoints_percent": drill.targets.checkpoints_percent,
            "window_used_percent": drill.targets.window_used_percent,
            "requests_cut": drill.targets.requests_cut,
            "capacity_back_seconds": drill.targets.capacity_back.map(whole_seconds),
        },
        "scheduled_by": drill.scheduled,
    })
}

fn scope(scope: &Scope) -> Value {
    match scope {
        Scope::Node(node) => json!({"node": node}),
        Scope::Pool(pool) => json!({"pool": pool}),
        Scope::Deployment { deployment, percent } => {
            json!({"deployment": deployment, "percent": percent})
        }
    }
}

fn of_run(node: &NodeId, run: &Run) -> Value {
    let (state, because) = match run {
        Run::Waiting => ("waiting", None),
        Run::Skipped(why) => ("skipped", Some(why.because.as_str())),
        Run::Begun(begun) => match begun.course {
            Course::Running if begun.heard_at.is_none() => ("told", None),
            Course::Running => ("leaving", None),
            Course::Withdrawn { outcome, .. } => ("opening", Some(outcome.as_str())),
            Course::Ended { outcome, .. } => ("ended", Some(outcome.as_str())),
        },
    };
    let begun = run.begun();
    json!({
        "node": node,
        "state": state,
        "because": because,
        "begun_at": begun.map(|begun| instant(begun.at)),
        "gone_at": begun.map(|begun| instant(begun.gone_at)),
    })
}

/// The report of a drill, of one under way as far as it is.
pub fn report(fleet: &Fleet, row: &DrillRow, now: Timestamp) -> Value {
    let (verdict, judged) = judge(row);
    let nodes = row.runs.iter().filter_map(|(node, run)| Some((node, run.begun()?)));
    json!({
        "drill": self::row(row),
        "verdict": verdict,
        "sentence": sentence(row, verdict),
        "judged": judged,
        "nodes": nodes
            .map(|(node, begun)| of_node(fleet, node, begun, now))
            .collect::<Vec<_>>(),
    })
}

/// The verdict in words.
pub fn sentence(row: &DrillRow, verdict: Verdict) -> String {
    match (verdict, &row.aborted) {
        (Verdict::Running, _) => "the drill is under way".to_owned(),
        (_, Some(aborted)) => format!("the drill was given up: {}", aborted.because),
        (Verdict::Passed, None) => "every node and every target passed".to_owned(),
        (Verdict::Failed | Verdict::Aborted, None) => {
            let missed = judge(row).1.into_iter().filter(|judged| !judged.met);
            let missed: Vec<String> =
                missed.map(|judged| format!("{}: {}", judged.node, judged.sentence)).collect();
            missed.join("; ")
        }
    }
}

fn of_node(fleet: &Fleet, node: &NodeId, begun: &Begun, now: Timestamp) -> Value {
    let told = requests(begun);
    let count =
        |of: fn(&Served) -> u64| told.as_ref().map_or(json!(NOT_MEASURED), |t| json!(of(t)));
    let (extra, short) = held_besides(begun, now);
    let instance = fleet.node(node).map_or(1, |row| row.slots.len().max(1)) as u64;
    let share = begun.told.and_then(|told| told.share_permille);
    json!({
        "node": node,
        "window_seconds": whole_seconds(begun.gone_at.since(begun.at)),
        "first_action_seconds": measured(first_action(begun)),
        "capacity_back_seconds": measured(capacity_back(begun)),
        "window_used_percent": share.map_or(json!(NOT_MEASURED), |share| {
            json!(format!("{}.{}", share / 10, share % 10))
        }),
        "replicas": begun.stood.iter().map(|stood| json!({
            "replica": stood.replica,
            "deployment": stood.deployment,
        })).collect::<Vec<_>>(),
        "checkpoints": checkpoints(begun).map(|(done, of)| json!({"completed": done, "of": of})),
        "hooks": begun.hooks.iter().map(of_hook).collect::<Vec<_>>(),
        "requests": {
            "completed": count(|told| told.completed),
            "moved": count(|told| told.moved),
            "cut": count(|told| told.cut),
        },
        "billing": {
            "extra_gpu_seconds": extra.as_seconds(),
            "extra_instance_seconds": Millis(extra.0 / instance).as_seconds(),
            "short_gpu_seconds": short.as_seconds(),
        },
        "timeline": timeline(begun),
    })
}

fn of_hook(run: &HookRun) -> Value {
    json!({
        "replica": run.replica,
        "kind": run.kind,
        "hook": run.hook,
        "outcome": run.outcome,
        "started_at": instant(run.started_at),
        "ended_at": run.ended_at.map(instant),
        "detail": run.detail,
    })
}

/// What happened on the node, in order.
fn timeline(begun: &Begun) -> Vec<Value> {
    let mut moments: Vec<(Timestamp, String)> = vec![(begun.at, "told to leave".to_owned())];
    let mut add = |at: Option<Timestamp>, what: String| moments.extend(at.map(|at| (at, what)));
    let told = begun.told;
    let heard_at = told.map(|told| told.heard_at).or(begun.heard_at);
    add(heard_at, "the node heard it".to_owned());
    add(told.and_then(|told| told.first_action_at), "first action".to_owned());
    for run in &begun.hooks {
        let (kind, hook, replica) = (run.kind, &run.hook, run.replica);
        add(Some(run.started_at), format!("{replica}: {kind} hook `{hook}` began"));
        let outcome = json!(run.outcome);
        let outcome = outcome.as_str().unwrap_or_default().replace('_', " ");
        add(run.ended_at, format!("{replica}: {kind} hook `{hook}` {outcome}"));
    }
    add(begun.back_at, "the capacity was back".to_owned());
    add(told.and_then(|told| told.empty_at), "the node was empty".to_owned());
    add(Some(begun.gone_at), "deadline".to_owned());
    if let Course::Ended { outcome, at } = begun.course {
        add(Some(at), outcome.as_str().to_owned());
    }
    moments.sort_by_key(|(at, _)| *at);
    moments.into_iter().map(|(at, what)| json!({"at": instant(at), "what": what})).collect()
}

fn whole_seconds(length: Millis) -> u64 {
    length.0 / 1000
}

/// Seconds with their thousandths, or that nobody measured them.
fn measured(length: Option<Millis>) -> Value {
    length.map_or(json!(NOT_MEASURED), |length| json!(length.as_seconds()))
}
