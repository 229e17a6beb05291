//! `GatewayService`: REST under `/v1alpha1/inference/gateways`, and Connect.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::gateway::GatewayRow;
use wharfage_scheduler_core::words::command::{Action, gateways};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::ids::GatewayId;
use wharfage_shared::time::Timestamp;

use super::deployments::offer;
use super::{gateway, id_of, organization, updated_after};
use crate::driver::View;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::instant;
use crate::http::{Parted, Shared, query};

const SERVICE: [&str; 6] = [
    "/coreweave.inference.v1alpha1.GatewayService/ListGateways",
    "/coreweave.inference.v1alpha1.GatewayService/CreateGateway",
    "/coreweave.inference.v1alpha1.GatewayService/GetGatewayParameters",
    "/coreweave.inference.v1alpha1.GatewayService/GetGateway",
    "/coreweave.inference.v1alpha1.GatewayService/UpdateGateway",
    "/coreweave.inference.v1alpha1.GatewayService/DeleteGateway",
];

const SAME: &str = "The same as Connect JSON.";

/// The routes of the service.
pub fn routes() -> Vec<Route> {
    let read = Access::Read;
    let write = Access::Role(Role::Operator);
    let all = "/v1alpha1/inference/gateways";
    let one = "/v1alpha1/inference/gateways/{id}";
    let parameters_path = "/v1alpha1/inference/gateways/parameters";
    vec![
        Route::get(all, "List gateways.", list).access(read).query(&["updatedAfter"]),
        Route::post(all, "Create a gateway.", create)
            .access(write)
            .takes("Gateway")
            .query(&["dryRun"]),
        Route::get(parameters_path, "The zones a gateway may name.", parameters).access(read),
        Route::get(one, "One gateway.", get).access(read),
        Route::patch(one, "Replace a gateway's specification.", update)
            .access(write)
            .takes("Gateway")
            .query(&["dryRun"]),
        Route::delete(one, "Delete a gateway that no deployment names.", delete).access(write),
        Route::post(SERVICE[0], SAME, connect_list).access(read),
        Route::post(SERVICE[1], SAME, create).access(write).takes("Gateway"),
        Route::post(SERVICE[2], SAME, parameters).access(read),
        Route::post(SERVICE[3], SAME, connect_get).access(read),
        Route::post(SERVICE[4], SAME, connect_update).access(write).takes("Gateway"),
        Route::post(SERVICE[5], SAME, connect_delete).access(write),
    ]
}

async fn list(
    State(shared): State<Shared>,
    Who(caller): Who,
    uri: Uri,
) -> Result<Json<Value>, Fault> {
    let after = query::instant(&uri, "updatedAfter")?;
    Ok(Json(listed(&shared, &caller, after)))
}

async fn connect_list(State(shared): State<Shared>, write: Write) -> Result<Json<Value>, Fault> {
    let after = updated_after(&write.body)?;
    Ok(Json(listed(&shared, &write.caller, after)))
}

fn listed(shared: &Shared, caller: &Caller, after: Option<Timestamp>) -> Value {
    let view = shared.handle.view();
    let visible = view.fleet().gateways().filter(|row| {
        caller.sees(&row.organization) && after.is_none_or(|after| row.updated_at > after)
    });
    let served = endpoints(shared);
    let rows: Vec<Value> = visible.map(|row| resource(view.fleet(), &served, row, false)).collect();
    json!({"gateways": rows})
}

async fn parameters(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    Json(offer(&view, &caller, &caller.organization).gateway_parameters())
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    shown_one(&shared, &caller, &id)
}

async fn connect_get(State(shared): State<Shared>, write: Write) -> Result<Json<Value>, Fault> {
    shown_one(&shared, &write.caller, &id_of(&write.body)?)
}

fn shown_one(shared: &Shared, caller: &Caller, id: &str) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find(&view, caller, id)?;
    Ok(Json(json!({"gateway": resource(view.fleet(), &endpoints(shared), row, false)})))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let organization = organization(&write.caller, &write.body)?;
    let draft = gateway::read(&write.body, &offer(&view, &write.caller, &organization), None)?;
    let id = draft.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let id = GatewayId::from(id.as_str());
    let action = gateways::Action::Create { id: id.clone(), organization, spec: draft.spec };
    answer(&shared, write, id, action).await
}

async fn update(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    replace(&shared, write, &id).await
}

async fn connect_update(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let id = id_of(&write.body)?;
    replace(&shared, write, &id).await
}

async fn replace(shared: &Shared, write: Write, id: &str) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let row = find(&view, &write.caller, id)?;
    let offer = offer(&view, &write.caller, &row.organization);
    let draft = gateway::read(&write.body, &offer, Some(&row.spec))?;
    if draft.id.as_deref().is_some_and(|id| id != row.id.as_str()) {
        let accepted = format!("`{}`, or no id", row.id);
        return Err(Fault::field("id", "it is not the id in the path", accepted));
    }
    if draft.organization.as_deref().is_some_and(|name| name != row.organization.as_str()) {
        let accepted = format!("`{}`, or no organization", row.organization);
        let problem = "a gateway's organization is fixed for its life";
        return Err(Fault::field("organizationId", problem, accepted));
    }
    let action = gateways::Action::Replace { id: row.id.clone(), spec: draft.spec };
    answer(shared, write, row.id.clone(), action).await
}

async fn delete(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    remove(&shared, write, &id).await
}

async fn connect_delete(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let id = id_of(&write.body)?;
    remove(&shared, write, &id).await
}

async fn remove(shared: &Shared, write: Write, id: &str) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let row = find(&view, &write.caller, id)?.clone();
    let action = Action::Gateway(gateways::Action::Delete { id: row.id.clone() });
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::OK, json!({"gateway": resource(fleet, &[], &row, true)}))
    };
    write.carry_out(shared, action, render).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    id: GatewayId,
    action: gateways::Action,
) -> Result<Response, Fault> {
    let served = endpoints(shared);
    let render = move |fleet: &Fleet, _: &_| {
        let resource = fleet.gateway(&id).map(|row| resource(fleet, &served, row, false));
        (StatusCode::OK, json!({"gateway": resource}))
    };
    write.carry_out(shared, Action::Gateway(action), render).await
}

fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Result<&'v GatewayRow, Fault> {
    let row = view.fleet().gateway(&GatewayId::from(id));
    row.filter(|row| caller.sees(&row.organization)).ok_or_else(|| Fault::not_found("gateway", id))
}

/// Where the gateway processes that are alive listen: each serves every resource.
fn endpoints(shared: &Shared) -> Vec<String> {
    shared.telemetry.endpoints(shared.handle.now())
}

/// The resource: it is ready once a gateway process serves it, and names where it is reached, the
/// customer's own names after the processes.
fn resource(fleet: &Fleet, served: &[String], row: &GatewayRow, is_deleted: bool) -> Value {
    let serving = fleet.gateway_processes().filter(|process| process.connected);
    let since = serving.map(|process| process.since).min();
    let word = match (is_deleted, since) {
        (true, _) => "STATUS_DELETING",
        (false, Some(_)) => "STATUS_READY",
        (false, None) => "STATUS_CREATING",
    };
    let ready = since.is_some() && !is_deleted;
    let message = match (is_deleted, since) {
        (true, _) => "it is being removed",
        (false, Some(_)) => "a gateway process serves it",
        (false, None) => "no gateway process is connected",
    };
    let zone = match row.spec.zones.as_slice() {
        [zone] => zone.as_str(),
        _several => "",
    };
    let own = row.spec.additional_dns.iter().map(|name| format!("https://{name}"));
    let endpoints: Vec<String> = served.iter().cloned().chain(own).collect();
    json!({
        "spec": gateway::show(row.id.as_str(), row.organization.as_str(), &row.spec),
        "status": {
            "status": word,
            "createdAt": instant(row.created_at),
            "updatedAt": instant(row.updated_at),
            "endpoints": endpoints,
            "conditions": [{
                "type": "Ready",
                "status": if ready { "True" } else { "False" },
                "reason": if ready { "AsExpected" } else { "NotServed" },
                "message": message,
                "zone": zone,
                "lastUpdateTime": instant(since.unwrap_or(row.updated_at).max(row.updated_at)),
            }],
        },
    })
}
