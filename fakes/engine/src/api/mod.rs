//! The HTTP surface: OpenAI's paths, vLLM's health and metrics, and what a test wants to know.

mod generate;
mod problem;
mod request;
mod shape;
mod vectors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::answer::{CONTEXT_TOKENS, Stage};
use crate::args::{EngineArgs, Surroundings};
use crate::meter::Meter;

/// As large as the gateway lets through.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// What every handler shares.
pub struct Engine {
    model: String,
    answer: Option<String>,
    replica: Option<String>,
    stage: Stage,
    meter: Arc<Meter>,
    /// Unix seconds at which the model was loaded.
    created: u64,
    next_id: AtomicU64,
    flags: BTreeMap<String, String>,
    gpus: Vec<String>,
}

impl Engine {
    /// The engine as it was told to be.
    pub fn new(args: &EngineArgs, surroundings: Surroundings, meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self {
            model: args.model_name(),
            answer: args.answer.clone(),
            replica: surroundings.replica,
            stage: Stage::new(args.max_num_seqs, args.tokens_per_second, Arc::clone(&meter)),
            meter,
            created: unix_seconds(),
            next_id: AtomicU64::new(1),
            flags: args.recorded_flags(),
            gpus: surroundings.gpus,
        })
    }

    /// An id that no other request of this process has.
    fn new_id(&self, prefix: &str) -> String {
        let order = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:08x}{:08x}{order:016x}", self.created, std::process::id())
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// All paths.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/health", get(|| async {}))
        .route("/ping", get(|| async {}).post(|| async {}))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/debug/flags", get(flags))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::text))
        .route("/v1/embeddings", post(vectors::embed))
        .fallback(problem::no_such_path)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(engine)
}

async fn version() -> Json<Value> {
    Json(json!({"version": concat!("wharfage-", env!("CARGO_PKG_VERSION"))}))
}

async fn metrics(State(engine): State<Arc<Engine>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, engine.meter.page(&engine.model))
}

async fn flags(State(engine): State<Arc<Engine>>) -> Json<Value> {
    Json(json!({
        "flags": engine.flags,
        "gpus": engine.gpus,
        "model": engine.model,
        "replica": engine.replica,
        "pid": std::process::id(),
    }))
}

async fn models(State(engine): State<Arc<Engine>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [{
        "id": engine.model,
        "object": "model",
        "created": engine.created,
        "owned_by": "wharfage",
        "root": engine.model,
        "parent": null,
        "max_model_len": CONTEXT_TOKENS,
    }]}))
}
