//! The node's own page: `/status` as JSON, `/metrics` for Prometheus, `/metrics/dcgm` under the
//! names of NVIDIA's exporter. Open on loopback; anywhere else only with the token.

mod dcgm;
mod engines;
pub mod gpus;
mod memory;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::nvml::Versions;
use wharfage_link::server::{Limits, serve};
use wharfage_link::socket::cannot_listen;
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::notice::SourceHeard;
use wharfage_shared::replica::EngineLoad;
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity};
use wharfage_shared::time::Millis;

use crate::config;
use crate::exit::Failure;
use crate::gpu::census::Missing;
use crate::plain;
use crate::runtime::{Ask, KeptNote};
use gpus::ShownGpu;

/// A step is carried out in much less: beyond it the page says that the agent is not up yet.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The node's decisions.
    #[serde(flatten)]
    pub core: wharfage_agent_core::Status,
    /// What engines say of their work, by replica.
    pub engine_loads: BTreeMap<ReplicaId, EngineLoad>,
    /// The slots with all that was read of them.
    pub gpus: Vec<ShownGpu>,
    /// GPUs that not everybody sees of NVML, the kernel driver and the PCI bus.
    pub gpus_missing: Vec<Missing>,
    /// Who the GPUs are.
    pub gpu_names: Vec<GpuIdentity>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// Versions of the library and of CUDA beside it.
    pub driver_versions: Versions,
    /// Helper processes alive, abandoned ones included.
    pub gpu_helpers: usize,
    /// How long ago the scheduler answered last.
    pub last_answer_ago: Option<Millis>,
    /// Reports sent since the start.
    pub reports_sent: u64,
    /// Fields of the scheduler's answers that this release does not know, by kind of message.
    pub unknown_fields: BTreeMap<String, u64>,
    /// Engines that this host offers.
    pub engines: Vec<EngineOffer>,
    /// Hooks that this host offers.
    pub hooks: Vec<HookId>,
    /// Definitions that were refused, one sentence each.
    pub refused: Vec<String>,
    /// How replicas are run: `process` or `systemd`.
    pub driver: &'static str,
    /// How long a shutdown of this host waits for its replicas; absent where it does not.
    pub shutdown_delay: Option<Millis>,
    /// When each source of notices that is asked was last heard.
    pub hearing: Vec<SourceHeard>,
    /// What is wrong now, one sentence each.
    pub alarms: Vec<String>,
    /// The last lines of the journal.
    pub notes: Vec<KeptNote>,
}

#[derive(Clone)]
struct Page {
    asks: mpsc::Sender<Ask>,
    token: Option<Arc<str>>,
}

/// Binds the page's address, so that a port in use is said before anything else happens.
pub async fn bind(settings: &config::Status) -> Result<TcpListener, Failure> {
    TcpListener::bind(settings.listen).await.map_err(|error| {
        Failure::unavailable(cannot_listen("status.listen", settings.listen, &error))
    })
}

/// The token that readers must show, if there is one.
pub fn token(settings: &config::Status) -> Result<Option<String>, Failure> {
    let Some(path) = &settings.token_file else { return Ok(None) };
    let text = plain::read(path, plain::LARGEST).map_err(|error| {
        Failure::config(format!("status.token_file `{}`: {error}", path.display()))
    })?;
    let token = text.trim();
    if token.len() < 16 {
        let path = path.display();
        return Err(Failure::config(format!(
            "status.token_file `{path}`: accepted is a token of at least 16 characters"
        )));
    }
    Ok(Some(token.to_owned()))
}

/// Serves the page until `stop`.
pub async fn run(
    listener: TcpListener,
    asks: mpsc::Sender<Ask>,
    token: Option<String>,
    stop: CancellationToken,
) {
    let page = Page { asks, token: token.map(Arc::from) };
    let router = Router::new()
        .route("/status", get(status))
        .route("/metrics", get(async |page| numbers(page, metrics::text).await))
        .route("/metrics/dcgm", get(async |page| numbers(page, dcgm::text).await))
        .layer(middleware::from_fn_with_state(page.clone(), admit))
        .route("/healthz", get(async || "ok\n"))
        .with_state(page);
    serve(listener, router, None, Limits::default(), stop).await;
}

async fn admit(State(page): State<Page>, request: Request, next: Next) -> Response {
    let Some(token) = &page.token else { return next.run(request).await };
    if bearer(request.headers()).is_some_and(|shown| same(shown, token)) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "show the token: Authorization: Bearer <token>\n").into_response()
}

async fn status(State(page): State<Page>) -> Response {
    match shown(&page).await {
        Some(shown) => axum::Json(shown).into_response(),
        None => starting(),
    }
}

async fn numbers(State(page): State<Page>, text: fn(&Shown) -> String) -> Response {
    match shown(&page).await {
        Some(shown) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text(&shown)).into_response()
        }
        None => starting(),
    }
}

async fn shown(page: &Page) -> Option<Shown> {
    let (reply, shown) = oneshot::channel();
    // Before the node has joined nobody listens yet: the page says so instead of waiting.
    page.asks.try_send(Ask::Status { reply }).ok()?;
    tokio::time::timeout(ANSWER_WITHIN, shown).await.ok()?.ok()
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the agent is starting or joining\n").into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Compares without telling by its duration where the first difference is.
fn same(shown: &str, token: &str) -> bool {
    let differing = shown.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == token.len() && differing == 0
}
