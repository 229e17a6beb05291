//! Who may do what: organizations, tokens, joins. A secret is shown once, in the answer that made
//! it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::access::{JoinRow, OrganizationRow, TokenRow};
use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::enroll::JoinString;
use wharfage_shared::ids::{JoinId, TokenId};

use super::bodies;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::rows::instant;
use crate::http::{Parted, Shared};
use crate::secrets::{Opens, sha256_hex};

pub fn routes() -> Vec<Route> {
    let admin = Access::Role(Role::Admin);
    let provider = Access::Provider(Role::Admin);
    vec![
        Route::get("/api/v1/organizations", "Organizations.", organizations).access(Access::Known),
        Route::post("/api/v1/organizations", "Make an organization.", create_organization)
            .access(provider)
            .takes("Organization"),
        Route::get("/api/v1/tokens", "Tokens, without their secrets.", tokens).access(admin),
        Route::post("/api/v1/tokens", "Make a token; its secret is shown once.", create_token)
            .access(admin)
            .takes("Token"),
        Route::delete("/api/v1/tokens/{id}", "End a token now.", revoke).access(admin),
        Route::get("/api/v1/joins", "Join secrets that were made.", joins).access(provider),
        Route::post("/api/v1/joins", "Make a join string; it is shown once.", create_join)
            .access(provider)
            .takes("Join"),
    ]
}

async fn organizations(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let visible = view.fleet().organizations().filter(|row| caller.sees(&row.id));
    let rows: Vec<Value> = visible.map(organization_row).collect();
    Json(json!({"organizations": rows}))
}

fn organization_row(row: &OrganizationRow) -> Value {
    json!({"id": row.id, "currency": row.currency, "created_at": instant(row.created_at)})
}

async fn create_organization(
    State(shared): State<Shared>,
    write: Write,
) -> Result<Response, Fault> {
    let (id, currency) = bodies::read(&write.body, bodies::organization)?;
    let made = id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::CREATED, json!(fleet.organization(&made).map(organization_row)))
    };
    let action = access::Action::CreateOrganization { id, currency };
    write.carry_out(&shared, Action::Access(action), render).await
}

async fn tokens(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let visible = view.fleet().tokens().filter(|row| caller.sees(&row.organization));
    let rows: Vec<Value> = visible.map(token_row).collect();
    Json(json!({"tokens": rows}))
}

fn token_row(row: &TokenRow) -> Value {
    json!({
        "id": row.id,
        "organization": row.organization,
        "roles": row.roles,
        "name": row.name,
        "created_at": instant(row.created_at),
        "revoked_at": row.revoked_at.map(instant),
    })
}

async fn create_token(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let new = bodies::read(&write.body, bodies::token)?;
    let organization = new.organization.unwrap_or_else(|| write.caller.organization.clone());
    if !write.caller.sees(&organization) {
        return Err(Fault::not_found("organization", organization.as_str()));
    }
    let secret = write.secret(&shared, Opens::Api)?;
    let id = TokenId::from(format!("tok-{}", uuid::Uuid::new_v4().simple()).as_str());
    let shown = write.shown_secret(&secret).to_owned();
    let made = id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        let mut row = json!(fleet.token(&made).map(token_row));
        row["secret"] = json!(shown);
        row["token"] = json!(shown);
        (StatusCode::CREATED, row)
    };
    let action = access::Action::CreateToken {
        id,
        organization,
        roles: new.roles,
        name: new.name,
        sha256: sha256_hex(&secret),
    };
    write.carry_out(&shared, Action::Access(action), render).await
}

async fn revoke(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let id = TokenId::from(id.as_str());
    let view = shared.handle.view();
    let known = view.fleet().token(&id).is_some_and(|row| write.caller.sees(&row.organization));
    if !known {
        return Err(Fault::not_found("token", id.as_str()));
    }
    let ended = id.clone();
    let render =
        move |fleet: &Fleet, _: &_| (StatusCode::OK, json!(fleet.token(&ended).map(token_row)));
    write.carry_out(&shared, Action::Access(access::Action::RevokeToken { id }), render).await
}

async fn joins(State(shared): State<Shared>) -> Json<Value> {
    let view = shared.handle.view();
    let rows: Vec<Value> = view.fleet().joins().map(join_row).collect();
    Json(json!({"joins": rows}))
}

fn join_row(row: &JoinRow) -> Value {
    let (admits, pool) = match &row.admits {
        Admits::Nodes { pool } => ("nodes", Some(pool)),
        Admits::Gateways => ("gateways", None),
    };
    json!({
        "id": row.id,
        "admits": admits,
        "pool": pool,
        "uses": row.uses,
        "used": row.used,
        "expires": instant(row.expires),
        "created_at": instant(row.created_at),
    })
}

async fn create_join(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let new = bodies::read(&write.body, bodies::join)?;
    let secret = write.secret(&shared, Opens::Join)?;
    let join_string = JoinString {
        address: shared.machines.address.clone(),
        authority: shared.machines.authority.clone(),
        secret: write.shown_secret(&secret).to_owned(),
    };
    let id = JoinId::from(format!("join-{}", uuid::Uuid::new_v4().simple()).as_str());
    let made = id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        let mut row = json!(fleet.join(&made).map(join_row));
        row["join"] = json!(join_string.to_string());
        (StatusCode::CREATED, row)
    };
    let action = access::Action::CreateJoin {
        id,
        admits: new.admits,
        uses: new.uses,
        expires: shared.handle.now() + new.lives,
        sha256: sha256_hex(&secret),
    };
    write.carry_out(&shared, Action::Access(action), render).await
}
