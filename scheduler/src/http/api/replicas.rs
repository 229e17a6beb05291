//! Replicas: where they are, and why.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::explain::{self, Candidates, Explanation};
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::command::{Action, deployments};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::ids::ReplicaId;

use crate::driver::View;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::{Shown, instant};
use crate::http::{Parted, Shared};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/replicas", "Replicas with phase and progress.", list)
            .access(Access::Read),
        Route::get("/api/v1/replicas/{id}", "One replica.", get).access(Access::Read),
        Route::delete("/api/v1/replicas/{id}", "End one replica; it is replaced.", terminate)
            .access(Access::Role(Role::Operator)),
        Route::get("/api/v1/replicas/{id}/explain", "Why here, why not there.", explain)
            .access(Access::Read),
        Route::get("/api/v1/replicas/{id}/logs", "The end of its output.", logs)
            .access(Access::Read),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    Json(json!({"replicas": shared.show(&caller, |shown| shown.replicas())}))
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find(&view, &caller, &id)?;
    Ok(Json(shared.show_view(&view, &caller, |shown| json!(shown.replica(row)))))
}

async fn terminate(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let replica = find(&view, &write.caller, &id)?.id;
    let action = Action::Deployment(deployments::Action::Terminate { replica });
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, _: &_| {
        let row = of.show_fleet(fleet, &caller, |shown| {
            fleet.replica(replica).map(|row| shown.replica(row))
        });
        (StatusCode::OK, json!(row))
    };
    write.carry_out(&shared, action, render).await
}

async fn explain(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Explained, Fault> {
    let view = shared.handle.view();
    let row = find(&view, &caller, &id)?;
    let (policy, now) = (shared.handle.policy(), shared.handle.now());
    let why = explain::replica(view.fleet(), policy, row.id, now);
    let why = why.ok_or_else(|| Fault::not_found("replica", &id))?;
    Ok(shared.show_view(&view, &caller, |shown| explained(shown, why)))
}

async fn logs(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find(&view, &caller, &id)?;
    Ok(Json(json!({"replica": row.id, "lines": shared.telemetry.lines(row.id)})))
}

/// An explanation as it is answered. The cases of a large fleet are written as they are, one after
/// another, and never stand as a tree of JSON.
pub struct Explained {
    why: Value,
    candidates: Candidates,
    /// Of a deployment: those of its replicas that wait.
    pub replicas: Option<Vec<Explained>>,
}

impl Explained {
    fn write(&self, into: &mut Vec<u8>) {
        self.candidates.write_within(&self.why, into);
        if let Some(replicas) = &self.replicas {
            // The object goes on.
            into.pop();
            into.extend_from_slice(br#","replicas":["#);
            for (number, replica) in replicas.iter().enumerate() {
                if number > 0 {
                    into.push(b',');
                }
                replica.write(into);
            }
            into.extend_from_slice(b"]}");
        }
    }
}

impl IntoResponse for Explained {
    fn into_response(self) -> Response {
        let mut body = Vec::new();
        self.write(&mut body);
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// An explanation without what the caller must not learn.
pub fn explained(shown: &Shown<'_>, why: Explanation) -> Explained {
    let mut why =
        if shown.caller.is_provider() { why } else { why.for_tenant(&shown.caller.organization) };
    let mut candidates = std::mem::take(&mut why.candidates);
    candidates.retain(|owner| shown.caller.sees(owner));
    let earliest = why.earliest.as_ref().and_then(|earliest| earliest.at).map(instant);
    let mut value = json!(why);
    if let Some(at) = earliest {
        value["earliest"]["at"] = json!(at);
    }
    Explained { why: value, candidates, replicas: None }
}

/// A replica that exists for the caller.
fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Result<&'v ReplicaRow, Fault> {
    let known = id.parse::<ReplicaId>().ok().and_then(|id| view.fleet().replica(id));
    known
        .filter(|row| caller.sees(&row.organization))
        .ok_or_else(|| Fault::not_found("replica", id))
}
