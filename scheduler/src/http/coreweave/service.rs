//! The six operations that every service has, over REST and over Connect JSON.
//!
//! A service says how its resources are found, read and shown. Who may ask, what exists for whom
//! and how an answer is wrapped is decided here, once for all.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::Timestamp;

use super::resource::{id_of, updated_after};
use crate::driver::{Outcome, View};
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared, price, query};

/// One service of the API.
pub trait Service: 'static {
    /// A resource as the fleet holds it.
    type Row: Clone + Send + Sync + 'static;

    /// What it is called.
    const WORDS: Words;

    /// Whether instances are billed for it, so that a create is told what an hour costs more.
    const COSTS: bool;

    /// Every resource of all organizations, those on their way out too.
    fn rows(fleet: &Fleet) -> impl Iterator<Item = &Self::Row>;

    /// One of them.
    fn row<'f>(fleet: &'f Fleet, id: &str) -> Option<&'f Self::Row>;

    /// What every resource has.
    fn head(row: &Self::Row) -> Head<'_>;

    /// The resource as the API shows it; `leaves` = as it is on its way out.
    fn show(
        shared: &Shared,
        fleet: &Fleet,
        caller: &Caller,
        row: &Self::Row,
        leaves: bool,
    ) -> Value;

    /// What bodies may choose from.
    fn parameters(shared: &Shared, view: &View, caller: &Caller) -> Value;

    /// The id and the command of what a body asks for.
    fn creation(shared: &Shared, view: &View, write: &Write) -> Result<(String, Action), Fault>;

    /// The command that makes `row` what a body asks for.
    fn replacement(
        shared: &Shared,
        view: &View,
        write: &Write,
        row: &Self::Row,
    ) -> Result<Action, Fault>;

    /// The command that removes it.
    fn deletion(row: &Self::Row) -> Action;
}

/// What a service is called.
pub struct Words {
    /// One resource, as answers wrap it.
    pub one: &'static str,
    /// Several, likewise.
    pub all: &'static str,
    /// The schema of a body.
    pub schema: &'static str,
    /// The REST paths of all, of one, of the parameters.
    pub rest: [&'static str; 3],
    /// The Connect paths: list, create, parameters, get, update, delete.
    pub connect: [&'static str; 6],
    /// What they do, one line each, in the same order.
    pub summaries: [&'static str; 6],
}

/// What every resource has.
pub struct Head<'r> {
    /// Its id.
    pub id: Cow<'r, str>,
    /// Whose.
    pub organization: &'r OrganizationId,
    /// When something that its owner sees changed last.
    pub updated_at: Timestamp,
    /// It is on its way out: it does not exist for those who ask.
    pub leaves: bool,
}

const SAME: &str = "The same as Connect JSON.";

/// The routes of a service.
pub fn routes<S: Service>() -> Vec<Route> {
    let (read, write) = (Access::Read, Access::Role(Role::Operator));
    let Words { schema, rest: [all, one, offered], connect, summaries: say, .. } = S::WORDS;
    vec![
        Route::get(all, say[0], list::<S>).access(read).query(&["updatedAfter"]),
        Route::post(all, say[1], create::<S>).access(write).takes(schema).query(&["dryRun"]),
        Route::get(offered, say[2], parameters::<S>).access(read),
        Route::get(one, say[3], get::<S>).access(read),
        Route::patch(one, say[4], update::<S>).access(write).takes(schema).query(&["dryRun"]),
        Route::delete(one, say[5], delete::<S>).access(write),
        Route::post(connect[0], SAME, connect_list::<S>).access(read),
        Route::post(connect[1], SAME, create::<S>).access(write).takes(schema),
        Route::post(connect[2], SAME, parameters::<S>).access(read),
        Route::post(connect[3], SAME, connect_get::<S>).access(read),
        Route::post(connect[4], SAME, connect_update::<S>).access(write).takes(schema),
        Route::post(connect[5], SAME, connect_delete::<S>).access(write),
    ]
}

/// A resource that exists for the caller; another organization's does not.
pub fn find<'v, S: Service>(
    view: &'v View,
    caller: &Caller,
    id: &str,
) -> Result<&'v S::Row, Fault> {
    let row = S::row(view.fleet(), id);
    row.filter(|row| is_there::<S>(row, caller)).ok_or_else(|| Fault::not_found(S::WORDS.one, id))
}

fn is_there<S: Service>(row: &S::Row, caller: &Caller) -> bool {
    let head = S::head(row);
    !head.leaves && caller.sees(head.organization)
}

async fn list<S: Service>(
    State(shared): State<Shared>,
    Who(caller): Who,
    uri: Uri,
) -> Result<Json<Value>, Fault> {
    let after = query::instant(&uri, "updatedAfter")?;
    Ok(Json(listed::<S>(&shared, &caller, after)))
}

async fn connect_list<S: Service>(
    State(shared): State<Shared>,
    write: Write,
) -> Result<Json<Value>, Fault> {
    let after = updated_after(&write.body)?;
    Ok(Json(listed::<S>(&shared, &write.caller, after)))
}

fn listed<S: Service>(shared: &Shared, caller: &Caller, after: Option<Timestamp>) -> Value {
    let view = shared.handle.view();
    let is_new = |row: &S::Row| after.is_none_or(|after| S::head(row).updated_at > after);
    let visible = S::rows(view.fleet()).filter(|row| is_there::<S>(row, caller) && is_new(row));
    let rows: Vec<Value> =
        visible.map(|row| S::show(shared, view.fleet(), caller, row, false)).collect();
    json!({S::WORDS.all: rows})
}

async fn parameters<S: Service>(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    Json(S::parameters(&shared, &shared.handle.view(), &caller))
}

async fn get<S: Service>(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    shown_one::<S>(&shared, &caller, &id)
}

async fn connect_get<S: Service>(
    State(shared): State<Shared>,
    write: Write,
) -> Result<Json<Value>, Fault> {
    shown_one::<S>(&shared, &write.caller, &id_of(&write.body)?)
}

fn shown_one<S: Service>(shared: &Shared, caller: &Caller, id: &str) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let row = find::<S>(&view, caller, id)?;
    Ok(Json(json!({S::WORDS.one: S::show(shared, view.fleet(), caller, row, false)})))
}

async fn create<S: Service>(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let (id, action) = S::creation(&shared, &shared.handle.view(), &write)?;
    // A strict client is answered in that API's words alone.
    let is_priced = S::COSTS && !shared.config.compat.strict;
    answer::<S>(&shared, write, id, action, is_priced).await
}

async fn update<S: Service>(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    replace::<S>(&shared, write, id).await
}

async fn connect_update<S: Service>(
    State(shared): State<Shared>,
    write: Write,
) -> Result<Response, Fault> {
    let id = id_of(&write.body)?;
    replace::<S>(&shared, write, id).await
}

async fn replace<S: Service>(shared: &Shared, write: Write, id: String) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let row = find::<S>(&view, &write.caller, &id)?;
    let action = S::replacement(shared, &view, &write, row)?;
    answer::<S>(shared, write, id, action, false).await
}

async fn delete<S: Service>(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    remove::<S>(&shared, write, &id).await
}

async fn connect_delete<S: Service>(
    State(shared): State<Shared>,
    write: Write,
) -> Result<Response, Fault> {
    let id = id_of(&write.body)?;
    remove::<S>(&shared, write, &id).await
}

/// The answer is the resource as it goes; asked for again it is not found.
async fn remove<S: Service>(shared: &Shared, write: Write, id: &str) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let before = find::<S>(&view, &write.caller, id)?.clone();
    let action = S::deletion(&before);
    let (of, caller, id) = (shared.clone(), write.caller.clone(), id.to_owned());
    let render = move |fleet: &Fleet, _: &_| {
        let row = S::row(fleet, &id).unwrap_or(&before);
        (StatusCode::OK, json!({S::WORDS.one: S::show(&of, fleet, &caller, row, true)}))
    };
    write.carry_out(shared, action, render).await
}

async fn answer<S: Service>(
    shared: &Shared,
    write: Write,
    id: String,
    action: Action,
    is_priced: bool,
) -> Result<Response, Fault> {
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, outcome: &Outcome| {
        let row = S::row(fleet, &id);
        let shown = row.map(|row| S::show(&of, fleet, &caller, row, false));
        let mut body = json!({S::WORDS.one: shown});
        if let Some(row) = row.filter(|_| is_priced) {
            let whose = S::head(row).organization;
            let cost = price::fields(fleet, whose, outcome.cost.as_ref());
            body[S::WORDS.one]["status"]["wharfage"] = cost.into();
        }
        (StatusCode::OK, body)
    };
    write.carry_out(shared, action, render).await
}
