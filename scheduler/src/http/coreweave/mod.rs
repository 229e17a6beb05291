//! The CoreWeave Inference API: the same operations as REST and as Connect JSON.

pub mod claim;
pub mod deployment;
pub mod deployments;
pub mod errors;
pub mod extension;
pub mod gateway;
pub mod gateways;
pub mod offer;
pub mod semver;

mod claims;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::OrganizationId;

use super::fault::Fault;
use super::route::Route;

/// Every route of the API.
pub fn routes() -> Vec<Route> {
    let mut routes = deployments::routes();
    routes.extend(gateways::routes());
    routes.extend(claims::routes());
    routes
}

/// For whom a body asks: the provider may name anybody, others only themselves.
pub fn organization(caller: &Caller, body: &Map<String, Value>) -> Result<OrganizationId, Fault> {
    let named = body.get("organizationId").or_else(|| body.get("organization_id"));
    let named = named.and_then(Value::as_str).filter(|name| !name.is_empty());
    match named {
        None => Ok(caller.organization.clone()),
        Some(name) if caller.is_provider() || name == caller.organization.as_str() => {
            Ok(OrganizationId::from(name))
        }
        Some(_) => {
            let accepted = format!("`{}`, or no organization", caller.organization);
            Err(Fault::field("organizationId", "it is not the token's organization", accepted))
        }
    }
}

/// The id that a Connect body names.
fn id_of(body: &Map<String, Value>) -> Result<String, Fault> {
    match body.get("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        None | Some(Value::Null | Value::String(_)) => {
            Err(Fault::field("id", "it is missing", "the id of the resource"))
        }
        Some(other) => {
            let problem = format!("it is {}", super::fields::kind(other));
            Err(Fault::field("id", problem, "the id of the resource, as a text"))
        }
    }
}

/// The `updatedAfter` that a Connect body names.
fn updated_after(
    body: &Map<String, Value>,
) -> Result<Option<wharfage_shared::time::Timestamp>, Fault> {
    match body.get("updatedAfter").or_else(|| body.get("updated_after")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match wharfage_billing::timestamp::parse_rfc3339(text) {
            Ok(at) => Ok(Some(at)),
            Err(error) => Err(Fault::field(
                "updatedAfter",
                error.to_string(),
                "RFC 3339 in UTC, as in 2026-06-01T00:00:00Z",
            )),
        },
        Some(other) => {
            let problem = format!("it is {}", super::fields::kind(other));
            Err(Fault::field("updatedAfter", problem, "an instant as a text"))
        }
    }
}
