//! Contracts, prices, proven use.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::ContractRow;
use wharfage_scheduler_core::words::command::{Action, money};
use wharfage_scheduler_core::words::contract::{ContractTerms, Price};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::ids::ContractId;

use super::bodies;
use super::invoices::{asked_organization, draft};
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::instant;
use crate::http::{Parted, Shared, query};

pub fn routes() -> Vec<Route> {
    let billing = Access::Role(Role::Billing);
    let provider = Access::Provider(Role::Admin);
    vec![
        Route::get("/api/v1/contracts", "Reserved and Flex agreements.", contracts).access(billing),
        Route::post("/api/v1/contracts", "Sign an agreement.", sign)
            .access(provider)
            .takes("Contract"),
        Route::post(
            "/api/v1/contracts/{id}/amend",
            "Let a Flex agreement go on as a Reserved one.",
            amend,
        )
        .access(provider)
        .takes("Amendment"),
        Route::get("/api/v1/prices", "List prices.", prices).access(Access::Known),
        Route::post("/api/v1/prices", "Set a list price from an instant on.", set_price)
            .access(provider)
            .takes("Price"),
        Route::get("/api/v1/usage", "Proven use and how it is attributed.", usage)
            .access(billing)
            .query(&["organization", "from", "to"]),
    ]
}

async fn contracts(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let visible = view.fleet().contracts().filter(|row| caller.sees(&row.contract.organization));
    let rows: Vec<Value> = visible.map(contract_row).collect();
    Json(json!({"contracts": rows}))
}

fn contract_row(row: &ContractRow) -> Value {
    let contract = &row.contract;
    let (plan, rate, holding, usage) = match &contract.terms {
        ContractTerms::Reserved { rate } => ("reserved", Some(rate), None, None),
        ContractTerms::Flex { holding_rate, usage_rate } => {
            ("flex", None, Some(holding_rate), Some(usage_rate))
        }
    };
    json!({
        "id": contract.id,
        "organization": contract.organization,
        "plan": plan,
        "sku": contract.sku,
        "region": contract.region,
        "instances": contract.instances,
        "start": instant(contract.start),
        "end": instant(row.end()),
        "rate": rate,
        "holding_rate": holding,
        "usage_rate": usage,
        "signed_at": instant(row.signed_at),
        "in_force": row.in_force,
        "amends": row.amends,
        "amended_by": row.amended.as_ref().map(|(by, _)| by),
    })
}

async fn sign(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let gpus_of = |sku: &_| {
        let priced = view.fleet().prices().iter().rev().find(|price| price.sku == *sku);
        let listed = wharfage_scheduler_core::words::catalogue::instance_type(sku);
        priced.and_then(|price| price.gpus).or(listed.map(|listed| u32::from(listed.gpus)))
    };
    let contract = bodies::read(&write.body, |fields| bodies::contract(fields, gpus_of))?;
    let id = contract.id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::CREATED, json!(fleet.contract(&id).map(contract_row)))
    };
    write.carry_out(&shared, Action::Money(money::Action::Sign(contract)), render).await
}

async fn amend(
    State(shared): State<Shared>,
    Parted(contract): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let now = shared.handle.now();
    let amendment = bodies::read(&write.body, |fields| bodies::amendment(fields, now))?;
    let id = amendment.id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::CREATED, json!(fleet.contract(&id).map(contract_row)))
    };
    let bodies::Amendment { id, from, rate } = amendment;
    let contract = ContractId::from(contract.as_str());
    let action = money::Action::Amend { contract, id, from, rate };
    write.carry_out(&shared, Action::Money(action), render).await
}

async fn prices(State(shared): State<Shared>) -> Json<Value> {
    let view = shared.handle.view();
    let rows: Vec<Value> = view.fleet().prices().iter().map(price_row).collect();
    Json(json!({"prices": rows}))
}

fn price_row(price: &Price) -> Value {
    json!({
        "sku": price.sku,
        "region": price.region,
        "from": instant(price.from),
        "on_demand": price.on_demand,
        "spot": price.spot,
        "gpus": price.gpus,
        "gpu_hour": price.gpu_hour,
    })
}

async fn set_price(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let now = shared.handle.now();
    let price = bodies::read(&write.body, |fields| bodies::price(fields, now))?;
    let row = price_row(&price);
    let action = Action::Money(money::Action::Price(price));
    write.carry_out(&shared, action, |_, _| (StatusCode::CREATED, row)).await
}

async fn usage(
    State(shared): State<Shared>,
    Who(caller): Who,
    uri: Uri,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let organization = asked_organization(&caller, &uri)?;
    let now = shared.handle.now();
    let to = query::instant(&uri, "to")?.unwrap_or(now);
    let month = wharfage_shared::time::Millis::from_seconds(30 * 24 * 3600);
    let from = query::instant(&uri, "from")?.unwrap_or(to.minus(month));
    if from >= to {
        let accepted = "an instant before `to`";
        return Err(Fault::field("from", "it is not before `to`", accepted));
    }
    let draft = draft(view.fleet(), &organization, from, to)?;
    let body: Value =
        serde_json::from_str(&draft.canonical_json()).map_err(|error| Fault::internal(&error))?;
    Ok(Json(json!({
        "organization": organization,
        "from": instant(from),
        "to": instant(to),
        "as_of": instant(draft.request.as_of),
        "usage": body["lines"],
        "accounts": body["accounts"],
    })))
}
