//! Every deployment, whatever API made it.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use wharfage_scheduler_core::words::command::{Action, deployments};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_scheduler_core::{Fleet, explain};
use wharfage_shared::ids::DeploymentId;

use super::replicas::{Explained, explained};
use crate::driver::Outcome;
use crate::http::baseten::settings;
use crate::http::body::Write;
use crate::http::coreweave::deployments::{Deployments, creation, replacement};
use crate::http::coreweave::service::find;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::deployment::spec;
use crate::http::rows::scaling;
use crate::http::{Parted, Shared, price};

/// Pending replicas that one answer explains: beyond them the reasons repeat themselves.
const MOST_EXPLAINED: usize = 20;

/// Ended replicas whose output one answer shows, the newest: one that fails at every start leaves
/// many that said the same.
const MOST_ENDED: usize = 5;

pub fn routes() -> Vec<Route> {
    let read = Access::Read;
    let write = Access::Role(Role::Operator);
    let all = "/api/v1/deployments";
    let one = "/api/v1/deployments/{id}";
    vec![
        Route::get(all, "Deployments, whatever API made them.", list).access(read),
        Route::post(all, "Create a deployment in either dialect.", create)
            .access(write)
            .takes("Deployment")
            .query(&["dryRun"]),
        Route::get(one, "One deployment.", get).access(read),
        Route::patch(one, "Change what is named; null removes (RFC 7396).", patch)
            .access(write)
            .takes("Deployment")
            .query(&["dryRun"]),
        Route::delete(one, "Delete a deployment and its replicas.", delete).access(write),
        Route::get("/api/v1/deployments/{id}/explain", "Where its next replica would go.", explain)
            .access(read),
        Route::get("/api/v1/deployments/{id}/scaling", "Why this many replicas.", scaling)
            .access(read),
        Route::get("/api/v1/deployments/{id}/logs", "The end of its replicas' output.", logs)
            .access(read),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    shared.show(&caller, |shown| {
        let rows: Vec<_> = shown.deployments().map(|row| shown.deployment(row)).collect();
        Json(json!({"deployments": rows}))
    })
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find::<Deployments>(&view, &caller, &id)?;
    Ok(Json(shared.show_view(&view, &caller, |shown| json!(shown.deployment(row)))))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let (id, action) = creation(&shared, &write, true)?;
    answer(&shared, write, StatusCode::CREATED, id, action).await
}

async fn patch(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let row = find::<Deployments>(&view, &write.caller, &id)?;
    let mut body = spec(row, true);
    merge(&mut body, &write.body);
    let body = body.as_object().cloned().unwrap_or_default();
    let action = replacement(&shared, &view, &write.caller, &body, row, true)?;
    answer(&shared, write, StatusCode::OK, row.id.clone(), action).await
}

/// RFC 7396: objects are merged, null removes, everything else replaces.
fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().and_then(|target| target.remove(key));
            }
            Value::Object(inner) => merge(&mut target[key], inner),
            other => target[key] = other.clone(),
        }
    }
}

async fn delete(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let mut row = find::<Deployments>(&view, &write.caller, &id)?.clone();
    let action = Action::Deployment(deployments::Action::Delete { id: row.id.clone() });
    row.deleting = Some(shared.handle.now());
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, _: &_| {
        let row = of.show_fleet(fleet, &caller, |shown| json!(shown.deployment(&row)));
        (StatusCode::OK, row)
    };
    write.carry_out(&shared, action, render).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    status: StatusCode,
    id: DeploymentId,
    action: Action,
) -> Result<Response, Fault> {
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, outcome: &Outcome| {
        let row = fleet.deployment(&id);
        let mut body =
            of.show_fleet(fleet, &caller, |shown| json!(row.map(|row| shown.deployment(row))));
        if let Some(row) = row.filter(|_| status == StatusCode::CREATED) {
            let cost = price::fields(fleet, &row.organization, outcome.cost.as_ref());
            cost.into_iter().for_each(|(name, value)| body[name] = value);
        }
        (status, body)
    };
    write.carry_out(shared, action, render).await
}

async fn logs(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find::<Deployments>(&view, &caller, &id)?;
    let mut logs = BTreeMap::new();
    for replica in view.fleet().replicas_of(&row.id) {
        logs.insert(replica.id, shared.telemetry.lines(replica.id));
    }
    // What went wrong is mostly said by those that have ended.
    let ended = view.fleet().replicas().filter(|replica| replica.deployment == row.id);
    let ended: BTreeSet<_> =
        ended.map(|ended| ended.id).filter(|id| !logs.contains_key(id)).collect();
    let said = ended.iter().rev().map(|id| (*id, shared.telemetry.lines(*id)));
    logs.extend(said.filter(|(_, lines)| !lines.is_empty()).take(MOST_ENDED));
    let output = |(replica, lines)| json!({"replica": replica, "lines": lines});
    let logs: Vec<Value> = logs.into_iter().map(output).collect();
    Ok(Json(json!({"deployment": row.id, "logs": logs})))
}

async fn explain(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Explained, Fault> {
    let view = shared.handle.view();
    let row = find::<Deployments>(&view, &caller, &id)?;
    let (policy, now) = (shared.handle.policy(), shared.handle.now());
    let why = explain::deployment(view.fleet(), policy, &row.id, now);
    let why = why.ok_or_else(|| Fault::not_found("deployment", &id))?;
    let waiting = view.fleet().replicas_of(&row.id).filter(|replica| replica.node().is_none());
    let waiting = waiting.take(MOST_EXPLAINED);
    let replicas = waiting.filter_map(|row| explain::replica(view.fleet(), policy, row.id, now));
    Ok(shared.show_view(&view, &caller, |shown| {
        let mut explanation = explained(shown, why);
        explanation.replicas = Some(replicas.map(|why| explained(shown, why)).collect());
        explanation
    }))
}

async fn scaling(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find::<Deployments>(&view, &caller, &id)?;
    let shown = shared.show_view(&view, &caller, |shown| shown.deployment(row));
    let now = shared.handle.scaling(&row.id).await?;
    Ok(Json(json!({
        "deployment": row.id,
        "dialect": shown.dialect,
        "mode": row.spec.extension.scaling,
        "settings": settings::show(&row.spec.scaling),
        "desired": row.desired,
        "because": row.because.to_string(),
        "ready": shown.ready,
        "load": shown.load,
        "now": scaling::now(row, &now),
        "last_change": scaling::last_change(row),
    })))
}
