//! Instance quotas: how many instances CUSTOMER claims may take, by organization, zone and SKU.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::capacity::claims as counts;
use wharfage_scheduler_core::words::command::{Action, claims};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_scheduler_core::words::quota::QuotaKey;
use wharfage_shared::capacity::{CapacityType, Sku, Zone};
use wharfage_shared::ids::OrganizationId;

use super::bodies;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared};

pub fn routes() -> Vec<Route> {
    let admin = Access::Provider(Role::Admin);
    let all = "/api/v1/quotas";
    let one = "/api/v1/quotas/{organization}/{zone}/{sku}";
    vec![
        Route::get(all, "Instance quotas and what is left of them.", list).access(Access::Read),
        Route::post(all, "Set an instance quota.", set).access(admin).takes("Quota"),
        Route::delete(one, "Let a quota follow from nodes and contracts again.", unset)
            .access(admin),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let keys = keys(view.fleet());
    let visible = keys.iter().filter(|key| caller.sees(&key.organization));
    let rows: Vec<Value> = visible.map(|key| row(view.fleet(), key)).collect();
    Json(json!({"quotas": rows}))
}

async fn set(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let (quota, instances) = bodies::read(&write.body, bodies::quota)?;
    answer(&shared, write, StatusCode::CREATED, quota, Some(instances)).await
}

async fn unset(
    State(shared): State<Shared>,
    Parted((organization, zone, sku)): Parted<(String, String, String)>,
    write: Write,
) -> Result<Response, Fault> {
    let organization = OrganizationId::from(organization.as_str());
    let quota = QuotaKey { organization, zone: Zone::new(&zone), sku: Sku::new(&sku) };
    answer(&shared, write, StatusCode::OK, quota, None).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    status: StatusCode,
    quota: QuotaKey,
    instances: Option<u32>,
) -> Result<Response, Fault> {
    let key = quota.clone();
    let render = move |fleet: &Fleet, _: &_| (status, row(fleet, &key));
    let action = claims::Action::SetQuota { quota, instances };
    write.carry_out(shared, Action::Claim(action), render).await
}

fn row(fleet: &Fleet, key: &QuotaKey) -> Value {
    json!({
        "organization": key.organization,
        "zone": key.zone,
        "sku": key.sku,
        "instances": counts::quota(fleet, key),
        "set": fleet.quotas().any(|(set, _)| set == key),
        "claimed": counts::claimed(fleet, key, None),
        "left": counts::left(fleet, key, None),
    })
}

/// Every quota that is set, follows from nodes or contracts, or is claimed against.
fn keys(fleet: &Fleet) -> BTreeSet<QuotaKey> {
    let mut keys: BTreeSet<QuotaKey> = fleet.quotas().map(|(key, _)| key.clone()).collect();
    let key = |organization: &OrganizationId, zone: &Zone, sku: &Sku| QuotaKey {
        organization: organization.clone(),
        zone: zone.clone(),
        sku: sku.clone(),
    };
    for pool in fleet.pools() {
        if let Some(owner) = &pool.owner {
            keys.insert(key(owner, &pool.zone, &pool.sku));
        }
    }
    for contract in fleet.contracts().filter(|row| row.in_force).map(|row| &row.contract) {
        let here = fleet
            .pools()
            .filter(|pool| pool.zone.region() == contract.region && pool.sku == contract.sku);
        keys.extend(here.map(|pool| key(&contract.organization, &pool.zone, &pool.sku)));
    }
    for claim in fleet.claims().filter(|row| row.spec.capacity_type == CapacityType::Customer) {
        keys.insert(key(&claim.organization, &claim.spec.zone, &claim.spec.sku));
    }
    keys
}
