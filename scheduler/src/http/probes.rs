//! Probes, metrics and the OpenAPI document.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_scheduler_core::words::principal::Role;

use super::route::{Access, Route};
use super::{Shared, openapi};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/healthz", "Whether the process answers.", healthz).access(Access::Open),
        Route::get("/readyz", "Whether it can carry out writes.", readyz).access(Access::Open),
        Route::get("/metrics", "The scheduler's own numbers for Prometheus.", metrics)
            .access(Access::Read),
        Route::get("/metrics/nodes", "GPU memory and utilization for Prometheus.", node_metrics)
            .access(Access::Provider(Role::Viewer)),
        Route::get("/openapi.json", "This API as OpenAPI 3.1.", document).access(Access::Known),
    ]
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

async fn readyz(State(shared): State<Shared>) -> Response {
    if shared.handle.is_disk_full() {
        let body = json!({"status": "disk_full", "detail": "the disk that holds the log is full"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    Json(json!({"status": "ready"})).into_response()
}

const TEXT: [(header::HeaderName, &str); 1] =
    [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];

async fn metrics(State(shared): State<Shared>) -> Response {
    let view = shared.handle.view();
    (TEXT, shared.handle.metrics().render(&view, shared.handle.now())).into_response()
}

async fn node_metrics(State(shared): State<Shared>) -> Response {
    let (view, now) = (shared.handle.view(), shared.handle.now());
    (TEXT, crate::metrics::render_nodes(&view, &shared.telemetry, now)).into_response()
}

async fn document() -> Json<Value> {
    Json(openapi::document())
}
