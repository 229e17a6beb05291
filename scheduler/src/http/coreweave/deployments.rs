//! `DeploymentService`: REST under `/v1alpha1/inference/deployments`, and Connect.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::words::command::{Action, deployments};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::ids::{DeploymentId, OrganizationId};
use wharfage_shared::time::Timestamp;

use super::deployment::{self, Context};
use super::offer::Offer;
use super::{id_of, organization, updated_after};
use crate::driver::View;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared, query};

const SERVICE: [&str; 6] = [
    "/coreweave.inference.v1alpha1.DeploymentService/ListDeployments",
    "/coreweave.inference.v1alpha1.DeploymentService/CreateDeployment",
    "/coreweave.inference.v1alpha1.DeploymentService/GetDeploymentParameters",
    "/coreweave.inference.v1alpha1.DeploymentService/GetDeployment",
    "/coreweave.inference.v1alpha1.DeploymentService/UpdateDeployment",
    "/coreweave.inference.v1alpha1.DeploymentService/DeleteDeployment",
];

const SAME: &str = "The same as Connect JSON.";

/// The routes of the service.
pub fn routes() -> Vec<Route> {
    let read = Access::Read;
    let write = Access::Role(Role::Operator);
    let all = "/v1alpha1/inference/deployments";
    let one = "/v1alpha1/inference/deployments/{id}";
    let parameters_path = "/v1alpha1/inference/deployments/parameters";
    vec![
        Route::get(all, "List deployments.", list).access(read).query(&["updatedAfter"]),
        Route::post(all, "Create a deployment.", create)
            .access(write)
            .takes("Deployment")
            .query(&["dryRun"]),
        Route::get(parameters_path, "What a deployment may choose from.", parameters).access(read),
        Route::get(one, "One deployment.", get).access(read),
        Route::patch(one, "Replace a deployment's specification.", update)
            .access(write)
            .takes("Deployment")
            .query(&["dryRun"]),
        Route::delete(one, "Delete a deployment and its replicas.", delete).access(write),
        Route::post(SERVICE[0], SAME, connect_list).access(read),
        Route::post(SERVICE[1], SAME, create).access(write).takes("Deployment"),
        Route::post(SERVICE[2], SAME, parameters).access(read),
        Route::post(SERVICE[3], SAME, connect_get).access(read),
        Route::post(SERVICE[4], SAME, connect_update).access(write).takes("Deployment"),
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
    shared.show(caller, |shown| {
        let new = |row: &&DeploymentRow| after.is_none_or(|after| row.updated_at > after);
        let rows: Vec<Value> =
            shown.deployments().filter(new).map(|row| shown.resource(row)).collect();
        json!({"deployments": rows})
    })
}

async fn parameters(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    Json(offer(&view, &caller, &caller.organization).deployment_parameters())
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
    let resource = shared.show_view(&view, caller, |shown| shown.resource(row));
    Ok(Json(json!({"deployment": resource})))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let (id, action) = creation(&shared, &write, false)?;
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
    let action = replacement(shared, &view, &write.caller, &write.body, row, false)?;
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
    let mut row = find(&view, &write.caller, id)?.clone();
    let action = Action::Deployment(deployments::Action::Delete { id: row.id.clone() });
    row.deleting = Some(shared.handle.now());
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &_, _: &_| {
        let resource = of.show_fleet(fleet, &caller, |shown| shown.resource(&row));
        (StatusCode::OK, json!({"deployment": resource}))
    };
    write.carry_out(shared, action, render).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    id: DeploymentId,
    action: Action,
) -> Result<Response, Fault> {
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &wharfage_scheduler_core::Fleet, _: &_| {
        let resource = of.show_fleet(fleet, &caller, |shown| {
            fleet.deployment(&id).map(|row| shown.resource(row))
        });
        (StatusCode::OK, json!({"deployment": resource}))
    };
    write.carry_out(shared, action, render).await
}

/// The command that creates what a body asks for, and the new deployment's id.
pub fn creation(
    shared: &Shared,
    write: &Write,
    own: bool,
) -> Result<(DeploymentId, Action), Fault> {
    let view = shared.handle.view();
    let organization = organization(&write.caller, &write.body)?;
    let offer = offer(&view, &write.caller, &organization);
    let strict = shared.config.compat.strict;
    let context = Context { offer: &offer, strict, current: None, own };
    let draft = deployment::read(&write.body, &context)?;
    let id = draft.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let id = DeploymentId::from(id.as_str());
    let spec = Box::new(draft.spec);
    let create = deployments::Action::Create { id: id.clone(), organization, spec };
    Ok((id, Action::Deployment(create)))
}

/// The command that replaces a deployment by what a body asks for.
pub fn replacement(
    shared: &Shared,
    view: &View,
    caller: &Caller,
    body: &serde_json::Map<String, Value>,
    row: &DeploymentRow,
    own: bool,
) -> Result<Action, Fault> {
    let offer = offer(view, caller, &row.organization);
    let strict = shared.config.compat.strict;
    let context = Context { offer: &offer, strict, current: Some(&row.spec), own };
    let draft = deployment::read(body, &context)?;
    if draft.id.as_deref().is_some_and(|id| id != row.id.as_str()) {
        let accepted = format!("`{}`, or no id", row.id);
        return Err(Fault::field("id", "it is not the id in the path", accepted));
    }
    if draft.organization.as_deref().is_some_and(|name| name != row.organization.as_str()) {
        let accepted = format!("`{}`, or no organization", row.organization);
        let problem = "a deployment's organization is fixed for its life";
        return Err(Fault::field("organizationId", problem, accepted));
    }
    let spec = Box::new(draft.spec);
    Ok(Action::Deployment(deployments::Action::Replace { id: row.id.clone(), spec }))
}

/// A deployment that exists for the caller.
pub fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Result<&'v DeploymentRow, Fault> {
    let row = view.fleet().deployment(&DeploymentId::from(id));
    row.filter(|row| row.deleting.is_none() && caller.sees(&row.organization))
        .ok_or_else(|| Fault::not_found("deployment", id))
}

/// What there is to choose from for an organization's deployments.
pub fn offer(view: &View, caller: &Caller, organization: &OrganizationId) -> Offer {
    let fleet = view.fleet();
    let mut offer = Offer::default();
    let open = |owner: Option<&OrganizationId>| owner.is_none_or(|owner| owner == organization);
    for pool in fleet.pools().filter(|pool| open(pool.owner.as_ref())) {
        offer.zones.insert(pool.zone.clone());
        offer.instance_types.insert(pool.sku.clone());
    }
    // A front door over a tenant's own zone is the provider's to give to others.
    if caller.is_provider() {
        offer.zones.extend(fleet.pools().map(|pool| pool.zone.clone()));
    }
    for node in fleet.nodes().filter(|node| open(node.owner.as_ref())) {
        for engine in &node.inventory.engines {
            offer.add_engine(engine);
        }
    }
    let own = |owner: &OrganizationId| owner == organization && caller.sees(owner);
    let gateways = fleet.gateways().filter(|gateway| own(&gateway.organization));
    offer.gateways = gateways.map(|gateway| gateway.id.clone()).collect();
    offer
}
