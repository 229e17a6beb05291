//! Drills: begin one, look at it, give it up, read how it went.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::command::{Action, drills};
use wharfage_scheduler_core::words::drill::{
    AbortRules, Budget, Drill, Profile, Schedule, Scope, Targets,
};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, PoolId};
use wharfage_shared::time::{Millis, Timestamp};

use super::bodies;
use crate::drills::cron::{self, Cron};
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::fields::Fields;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::drill;
use crate::http::{Parted, Shared, query};

/// A day: no provider gives a longer notice.
const LONGEST_WINDOW: u32 = 86_400;
/// Bytes of an id.
const LONGEST_ID: usize = 128;
/// Most nodes at once that a body may say.
const MOST_AT_ONCE: u32 = 10_000;
/// Thirty days.
const MOST_HOURS: u32 = 720;
/// What has not begun within a day is left out, where nothing is said.
const HOURS: u32 = 24;
/// Most cut requests that a target may allow.
const MOST_REQUESTS: u32 = 1_000_000_000;
/// Most ready replicas that a rule may ask for.
const MOST_REPLICAS: u32 = 10_000;

pub fn routes() -> Vec<Route> {
    let operator = Access::Provider(Role::Operator);
    vec![
        Route::get("/api/v1/drills", "Drills, the newest last.", list).access(Access::Read),
        Route::post("/api/v1/drills", "Begin a drill, or schedule it.", create)
            .access(operator)
            .takes("Drill")
            .query(&["dryRun"]),
        Route::get("/api/v1/drills/{id}", "One drill, node by node.", get).access(Access::Read),
        Route::delete("/api/v1/drills/{id}", "Give a drill up.", abort).access(operator),
        Route::get("/api/v1/drills/{id}/report", "How a drill went.", report)
            .access(Access::Read)
            .query(&["format"]),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let (fleet, now) = (view.fleet(), shared.handle.now());
    let is_seen = caller.is_provider();
    let mut rows: Vec<_> = fleet.drills().filter(|_| is_seen).collect();
    rows.sort_by_key(|row| (row.created_at, row.drill.id.clone()));
    let schedules = fleet.schedules().filter(|row| is_seen && row.ended_at.is_none());
    let schedules = schedules.map(|row| drill::schedule(fleet, row, now));
    let rows: Vec<Value> = schedules.chain(rows.into_iter().map(drill::row)).collect();
    Json(json!({"drills": rows}))
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = shown(view.fleet(), &DrillId::from(id.as_str()), shared.handle.now());
    let row = row.filter(|_| caller.is_provider());
    row.map(Json).ok_or_else(|| Fault::not_found("drill", &id))
}

/// A drill or a schedule.
fn shown(fleet: &Fleet, id: &DrillId, now: Timestamp) -> Option<Value> {
    let schedule = || fleet.schedule(id).map(|row| drill::schedule(fleet, row, now));
    fleet.drill(id).map(drill::row).or_else(schedule)
}

async fn report(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
    uri: Uri,
) -> Result<Response, Fault> {
    let format = query::value(&uri, "format").unwrap_or_else(|| "json".to_owned());
    let (view, now) = (shared.handle.view(), shared.handle.now());
    let row = view.fleet().drill(&DrillId::from(id.as_str())).filter(|_| caller.is_provider());
    let row = row.ok_or_else(|| Fault::not_found("drill", &id))?;
    match format.as_str() {
        "json" => Ok(Json(drill::report(view.fleet(), row, now)).into_response()),
        "junit" => {
            let kind = [(CONTENT_TYPE, "application/xml; charset=utf-8")];
            Ok((kind, drill::junit::document(row)).into_response())
        }
        "html" => {
            let policy = drill::html::POLICY.as_str();
            let kind = "text/html; charset=utf-8";
            let headers = [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, policy)];
            Ok((headers, drill::html::document(view.fleet(), row, now)).into_response())
        }
        other => Err(Fault::field("format", format!("it is `{other}`"), "json, junit or html")),
    }
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let id = DrillId::from(uuid::Uuid::new_v4().to_string().as_str());
    let (drill, schedule) = bodies::read(&write.body, |fields| read(fields, &id))?;
    let drill = Box::new(drill);
    let action = match schedule {
        Some(schedule) => drills::Action::Schedule { drill, schedule },
        None => drills::Action::Create(drill),
    };
    answer(&shared, write, StatusCode::CREATED, id, action).await
}

async fn abort(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let id = DrillId::from(id.as_str());
    let reason = "asked for over the API".to_owned();
    let action = drills::Action::Abort { id: id.clone(), reason };
    answer(&shared, write, StatusCode::OK, id, action).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    status: StatusCode,
    id: DrillId,
    action: drills::Action,
) -> Result<Response, Fault> {
    let now = shared.handle.now();
    let render = move |fleet: &Fleet, _: &_| (status, json!(shown(fleet, &id, now)));
    write.carry_out(shared, Action::Drill(action), render).await
}

/// The body of a drill.
fn read(fields: &Fields<'_>, id: &DrillId) -> Option<(Drill, Option<Schedule>)> {
    let scope = fields.required_object("scope").and_then(scope);
    let profile = profile(fields);
    let name = fields.text("name").unwrap_or("drill").to_owned();
    let budget = budget(fields.object("budget"));
    let (abort, targets) = (abort_rules(fields, profile), targets(fields));
    let (scope, profile) = (scope?, profile?);
    let schedule = fields.object("schedule").and_then(schedule);
    let (id, scheduled) = (id.clone(), None);
    let drill = Drill { id, name, scope, profile, budget, abort, targets, scheduled };
    Some((drill, schedule))
}

fn scope(fields: Fields<'_>) -> Option<Scope> {
    let accepted = "exactly one of node, pool, deployment";
    let named = ["node", "pool", "deployment"].map(|key| id(&fields, key));
    let percent = fields.whole("percent", 1..=100);
    let scope = match named {
        [Some(node), None, None] => Some(Scope::Node(NodeId::from(node))),
        [None, Some(pool), None] => Some(Scope::Pool(PoolId::from(pool))),
        [None, None, Some(deployment)] => {
            let deployment = DeploymentId::from(deployment);
            let percent = percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(100);
            Some(Scope::Deployment { deployment, percent })
        }
        _ => {
            fields.wrong("node", "the scope names none of them, or several", accepted);
            None
        }
    };
    if percent.is_some() && !matches!(scope, Some(Scope::Deployment { .. }) | None) {
        fields.wrong("percent", "it is given without a deployment", "with deployment only");
    }
    fields.finish();
    scope
}

/// Cron's five fields in civil time of a zone that this host knows.
fn schedule(fields: Fields<'_>) -> Option<Schedule> {
    let cron = fields.required_text("cron", cron::ACCEPTED);
    let time_zone = fields.text("time_zone").unwrap_or("UTC");
    if let Some(Err(problem)) = cron.map(Cron::parse) {
        fields.wrong("cron", problem, cron::ACCEPTED);
    }
    if cron::zone(time_zone).is_none() {
        let accepted = "an IANA name, as in Europe/Berlin, that this host's database has, or UTC";
        fields.wrong("time_zone", "it is no time zone that is known here", accepted);
    }
    fields.finish();
    Some(Schedule { cron: cron?.to_owned(), time_zone: time_zone.to_owned() })
}

fn id<'a>(fields: &Fields<'a>, key: &'static str) -> Option<&'a str> {
    let text = fields.text(key)?;
    if text.is_empty() || text.len() > LONGEST_ID {
        fields.wrong(key, "it is no id", "an id of at most 128 bytes");
    }
    Some(text)
}

fn profile(fields: &Fields<'_>) -> Option<Profile> {
    let accepted = "aws-120, gcp-30, azure-30, coreweave-420, no-notice or custom";
    let word = fields.required_text("profile", accepted);
    let said = fields.has("window_seconds");
    let window = fields.whole("window_seconds", 0..=LONGEST_WINDOW);
    match (word?, window) {
        ("custom", Some(window)) => Some(Profile::Custom(Millis::from_seconds(window.into()))),
        ("custom", None) => {
            if !said {
                let accepted = "seconds from the notice to the deadline, 0 to 86400";
                fields.wrong("window_seconds", "it is missing for profile custom", accepted);
            }
            None
        }
        (word, _) => {
            let profile = Profile::named(word);
            if profile.is_none() {
                fields.wrong("profile", "it is another word", accepted);
            } else if said {
                let accepted = "with profile custom only";
                fields.wrong("window_seconds", "the profile has a window of its own", accepted);
            }
            profile
        }
    }
}

fn budget(fields: Option<Fields<'_>>) -> Budget {
    let (mut at_once, mut hours) = (1, HOURS);
    if let Some(fields) = fields {
        at_once = fields.whole("nodes_at_once", 1..=MOST_AT_ONCE).unwrap_or(at_once);
        hours = fields.whole("within_hours", 1..=MOST_HOURS).unwrap_or(hours);
        fields.finish();
    }
    Budget { at_once, within: Millis::from_seconds(u64::from(hours) * 3600) }
}

/// Without a word of its own a drill is given up when a deployment falls below its `min`, except
/// where there is no notice and that is what is practised.
fn abort_rules(fields: &Fields<'_>, profile: Option<Profile>) -> AbortRules {
    let below_min = profile.is_none_or(|profile| profile.window() > Millis(0));
    let mut rules = AbortRules { below_min, ..AbortRules::default() };
    if let Some(fields) = fields.object("abort") {
        rules.below_min = fields.flag("below_min_ready").unwrap_or(below_min);
        rules.fewer_than = fields.whole("fewer_than_ready", 0..=MOST_REPLICAS);
        rules.more_cut_than = fields.whole("more_requests_cut_than", 0..=MOST_REQUESTS);
        fields.finish();
    }
    rules
}

fn targets(fields: &Fields<'_>) -> Targets {
    let Some(fields) = fields.object("targets") else { return Targets::default() };
    let seconds =
        |key| fields.whole(key, 0..=LONGEST_WINDOW).map(|s| Millis::from_seconds(s.into()));
    let percent = |key| fields.whole(key, 0..=100).and_then(|percent| u8::try_from(percent).ok());
    let targets = Targets {
        first_action: seconds("first_action_seconds"),
        checkpoints_percent: percent("checkpoints_percent"),
        window_used_percent: percent("window_used_percent"),
        requests_cut: fields.whole("requests_cut", 0..=MOST_REQUESTS),
        capacity_back: seconds("capacity_back_seconds"),
    };
    fields.finish();
    targets
}
