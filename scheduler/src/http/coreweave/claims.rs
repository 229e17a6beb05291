//! `CapacityClaimService`: REST under `/v1alpha1/inference/capacityclaims`, and Connect.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::claim::ClaimRow;
use wharfage_scheduler_core::words::command::{Action, claims};
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{ClaimId, OrganizationId};
use wharfage_shared::time::Timestamp;

use super::claim::{self, Claimable, Context};
use super::{id_of, organization, updated_after};
use crate::driver::View;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared, query};

const SERVICE: [&str; 6] = [
    "/coreweave.inference.v1alpha1.CapacityClaimService/ListCapacityClaims",
    "/coreweave.inference.v1alpha1.CapacityClaimService/CreateCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaimParameters",
    "/coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/UpdateCapacityClaim",
    "/coreweave.inference.v1alpha1.CapacityClaimService/DeleteCapacityClaim",
];

const SAME: &str = "The same as Connect JSON.";

/// The routes of the service.
pub fn routes() -> Vec<Route> {
    let read = Access::Read;
    let write = Access::Role(Role::Operator);
    let all = "/v1alpha1/inference/capacityclaims";
    let one = "/v1alpha1/inference/capacityclaims/{id}";
    let parameters_path = "/v1alpha1/inference/capacityclaims/parameters";
    let schema = "CapacityClaim";
    vec![
        Route::get(all, "List capacity claims.", list).access(read).query(&["updatedAfter"]),
        Route::post(all, "Create a capacity claim.", create)
            .access(write)
            .takes(schema)
            .query(&["dryRun"]),
        Route::get(parameters_path, "What can be claimed, by zone.", parameters).access(read),
        Route::get(one, "One capacity claim.", get).access(read),
        Route::patch(one, "Resize a capacity claim.", update)
            .access(write)
            .takes(schema)
            .query(&["dryRun"]),
        Route::delete(one, "Give all instances of a claim back.", delete).access(write),
        Route::post(SERVICE[0], SAME, connect_list).access(read),
        Route::post(SERVICE[1], SAME, create).access(write).takes(schema),
        Route::post(SERVICE[2], SAME, parameters).access(read),
        Route::post(SERVICE[3], SAME, connect_get).access(read),
        Route::post(SERVICE[4], SAME, connect_update).access(write).takes(schema),
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
    let visible = view.fleet().claims().filter(|row| {
        caller.sees(&row.organization) && after.is_none_or(|after| row.updated_at > after)
    });
    let rows: Vec<Value> = visible.map(|row| resource(shared, view.fleet(), row)).collect();
    json!({"capacityClaims": rows})
}

async fn parameters(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    Json(claim::parameters(&claimable(view.fleet(), &caller.organization)))
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
    Ok(Json(json!({"capacityClaim": resource(shared, view.fleet(), row)})))
}

async fn create(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let organization = organization(&write.caller, &write.body)?;
    let claimable = claimable(view.fleet(), &organization);
    let strict = shared.config.compat.strict;
    let context = Context { claimable: &claimable, strict, current: None };
    let draft = claim::read(&write.body, &context)?;
    let id = draft.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let id = ClaimId::from(id.as_str());
    let action = claims::Action::Create { id: id.clone(), organization, spec: draft.spec };
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
    let mut claimable = claimable(view.fleet(), &row.organization);
    // What a claim has stays good for it, whatever became of its pool.
    claimable.entry(row.spec.zone.clone()).or_default().insert(row.spec.sku.clone());
    let strict = shared.config.compat.strict;
    let context = Context { claimable: &claimable, strict, current: Some(&row.spec) };
    let draft = claim::read(&write.body, &context)?;
    if draft.id.as_deref().is_some_and(|id| id != row.id.as_str()) {
        let accepted = format!("`{}`, or no id", row.id);
        return Err(Fault::field("id", "it is not the id in the path", accepted));
    }
    if draft.organization.as_deref().is_some_and(|name| name != row.organization.as_str()) {
        let accepted = format!("`{}`, or no organization", row.organization);
        let problem = "a claim's organization is fixed for its life";
        return Err(Fault::field("organizationId", problem, accepted));
    }
    let action = claims::Action::Replace { id: row.id.clone(), spec: draft.spec };
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
    let id = find(&view, &write.caller, id)?.id.clone();
    let action = claims::Action::Delete { id: id.clone() };
    answer(shared, write, id, action).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    id: ClaimId,
    action: claims::Action,
) -> Result<Response, Fault> {
    let of = shared.clone();
    let render = move |fleet: &Fleet, _: &_| {
        let resource = fleet.claim(&id).map(|row| resource(&of, fleet, row));
        (StatusCode::OK, json!({"capacityClaim": resource}))
    };
    write.carry_out(shared, Action::Claim(action), render).await
}

fn resource(shared: &Shared, fleet: &Fleet, row: &ClaimRow) -> Value {
    claim::show(fleet, shared.handle.policy(), shared.handle.now(), row)
}

fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Result<&'v ClaimRow, Fault> {
    let row = view.fleet().claim(&ClaimId::from(id)).filter(|row| row.deleted_at.is_none());
    let row = row.filter(|row| caller.sees(&row.organization));
    row.ok_or_else(|| Fault::not_found("capacityClaim", id))
}

/// What an organization may claim: the standard instance types of the provider's pools and of its
/// own, by zone.
fn claimable(fleet: &Fleet, organization: &OrganizationId) -> Claimable {
    let mut claimable = Claimable::new();
    for pool in fleet.pools() {
        let open = pool.owner.as_ref().is_none_or(|owner| owner == organization);
        if open && pool.compute_class == ComputeClass::Standard {
            claimable.entry(pool.zone.clone()).or_default().insert(pool.sku.clone());
        }
    }
    claimable
}
