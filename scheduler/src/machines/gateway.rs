//! What gateways are told and what they report.

use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use wharfage_scheduler_core::{Heard, Reply, routes};
use wharfage_shared::gateway::{GatewayReport, RoutesVersion};
use wharfage_shared::version::Term;

use super::State;
use super::peer::Gateway;
use super::problem::{Problem, whole};
use crate::driver::{SubmitError, View};

/// How long a question for routes is held open.
const HELD: Duration = Duration::from_secs(20);

/// The newest table as it is sent: made once for all gateways.
#[derive(Debug, Default)]
pub(super) struct Cached {
    version: RoutesVersion,
    body: Bytes,
}

/// What a gateway has.
#[derive(Debug, Deserialize)]
pub(super) struct Has {
    #[serde(default)]
    term: u64,
    #[serde(default)]
    number: u64,
}

/// `GET /gateway/v1/routes?term=T&number=N`: a newer table, or 204 after 20 s.
pub(super) async fn routes(
    Shared(state): Shared<State>,
    Gateway(_): Gateway,
    has: Result<Query<Has>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(has) = has.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let has = RoutesVersion { term: Term(has.term), number: has.number };
    let mut views = state.handle.views();
    let newer = views.wait_for(|view| version(view) > has);
    let view = tokio::select! {
        view = newer => view.map_err(|_| SubmitError::ShuttingDown)?.clone(),
        () = tokio::time::sleep(HELD) => return Ok(StatusCode::NO_CONTENT.into_response()),
        () = state.shutdown.cancelled() => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let body = table(&state, &view);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `POST /gateway/v1/report`: counts are telemetry, acknowledged removals become facts.
pub(super) async fn report(
    Shared(state): Shared<State>,
    Gateway(name): Gateway,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let mut report: GatewayReport = state.read("report", &whole(body)?)?;
    if report.gateway.as_ref().is_some_and(|claimed| *claimed != name) {
        return Err(Problem::not_yours(format!("gateway {name} cannot report for another")));
    }
    report.gateway = Some(name.clone());
    state.telemetry.gateway(state.handle.now(), name, report.clone());
    match state.handle.observe(Heard::Gateway(report)).await {
        Ok(Reply::Gateway(answer)) => answer?,
        Ok(Reply::Heartbeat(_) | Reply::Segments(_)) => {
            unreachable!("the controller answers a gateway's report with nothing else")
        }
        // What it acknowledges it says again a second later.
        Err(SubmitError::DiskFull) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(StatusCode::NO_CONTENT)
}

fn version(view: &View) -> RoutesVersion {
    RoutesVersion { term: view.term(), number: view.fleet().routes_number() }
}

fn table(state: &State, view: &View) -> Bytes {
    let version = version(view);
    let mut cached = state.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if cached.version != version {
        let table = routes::table(view.fleet(), view.term());
        let body = serde_json::to_vec(&table).expect("a table has text keys only");
        *cached = Cached { version, body: body.into() };
    }
    cached.body.clone()
}
