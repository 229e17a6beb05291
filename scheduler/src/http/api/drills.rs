//! Drills: begin one, look at it, give it up, read how it went.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::command::{Action, drills};
use wharfage_scheduler_core::words::drill::{AbortRules, Budget, Drill, Profile, Scope, Targets};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, PoolId};
use wharfage_shared::time::Millis;

use super::bodies;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::fields::Fields;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::drill;
use crate::http::{Parted, Shared};

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
/// Most ready replicas that a rule may ask for.
const MOST_REPLICAS: u32 = 10_000;

pub fn routes() -> Vec<Route> {
    let operator = Access::Provider(Role::Operator);
    vec![
        Route::get("/api/v1/drills", "Drills, the newest last.", list).access(Access::Read),
        Route::post("/api/v1/drills", "Begin a drill.", create).access(operator).takes("Drill"),
        Route::get("/api/v1/drills/{id}", "One drill, node by node.", get).access(Access::Read),
        Route::delete("/api/v1/drills/{id}", "Give a drill up.", abort).access(operator),
        Route::get("/api/v1/drills/{id}/report", "How a drill went.", report).access(Access::Read),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let mut rows: Vec<_> = view.fleet().drills().filter(|_| caller.is_provider()).collect();
    rows.sort_by_key(|row| (row.created_at, row.drill.id.clone()));
    let rows: Vec<Value> = rows.into_iter().map(drill::row).collect();
    Json(json!({"drills": rows}))
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = view.fleet().drill(&DrillId::from(id.as_str())).filter(|_| caller.is_provider());
    row.map(|row| Json(drill::row(row))).ok_or_else(|| Fault::not_found("drill", &id))
}

async fn report(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = view.fleet().drill(&DrillId::from(id.as_str())).filter(|_| caller.is_provider());
    row.map(|row| Json(drill::report(row))).ok_or_else(|| Fault::not_found("drill", &id))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let id = DrillId::from(uuid::Uuid::new_v4().to_string().as_str());
    let drill = bodies::read(&write.body, |fields| read(fields, &id))?;
    let action = drills::Action::Create(Box::new(drill));
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
    let render = move |fleet: &Fleet, _: &_| (status, json!(fleet.drill(&id).map(drill::row)));
    write.carry_out(shared, Action::Drill(action), render).await
}

/// The body of a drill.
fn read(fields: &Fields<'_>, id: &DrillId) -> Option<Drill> {
    let scope = fields.required_object("scope").and_then(scope);
    let profile = profile(fields);
    let name = fields.text("name").unwrap_or("drill").to_owned();
    let budget = budget(fields.object("budget"));
    let (abort, targets) = (abort_rules(fields, profile), targets(fields));
    let (scope, profile) = (scope?, profile?);
    Some(Drill { id: id.clone(), name, scope, profile, budget, abort, targets })
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
    let mut rules = AbortRules { below_min, fewer_than: None };
    if let Some(fields) = fields.object("abort") {
        rules.below_min = fields.flag("below_min_ready").unwrap_or(below_min);
        rules.fewer_than = fields.whole("fewer_than_ready", 0..=MOST_REPLICAS);
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
        capacity_back: seconds("capacity_back_seconds"),
    };
    fields.finish();
    targets
}
