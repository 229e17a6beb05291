//! The listener for machines: agents and gateways, each speaking for itself alone.
//!
//! The rule it guards: who speaks is decided by the certificate, never by the body.

mod enroll;
mod gateway;
mod heartbeat;
mod peer;
mod problem;
mod reports;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use wharfage_link::Authority;

use self::problem::Problem;
use crate::driver::Handle;
use crate::telemetry::Telemetry;

/// The largest heartbeat: with an inventory of a large host. One without is held to
/// [`heartbeat::STEADY_BYTES`].
const HEARTBEAT_BYTES: usize = 1 << 20;

/// The largest batch of segments.
const SEGMENTS_BYTES: usize = 4 << 20;

/// The largest of everything else.
const BODY_BYTES: usize = 256 << 10;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    handle: Handle,
    telemetry: Telemetry,
    authority: Arc<Authority>,
    routes: Arc<Mutex<gateway::Cached>>,
    shutdown: CancellationToken,
}

impl State {
    /// Held requests end when `shutdown` is asked for.
    pub fn new(
        handle: Handle,
        telemetry: Telemetry,
        authority: Arc<Authority>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { handle, telemetry, authority, routes: Arc::default(), shutdown }
    }

    /// Reads a message; unknown fields are ignored and counted, because the sender may be a
    /// release ahead.
    fn read<T: DeserializeOwned>(&self, kind: &str, body: &[u8]) -> Result<T, Problem> {
        let read = self.handle.metrics().decoder().read(kind, body);
        read.map_err(|error| Problem::malformed(format!("the body: {error}")))
    }
}

/// Everything that machines may ask.
pub fn router(state: State) -> Router {
    let limited = |bytes| DefaultBodyLimit::max(bytes);
    Router::new()
        .route("/agent/v1/enroll", post(enroll::node))
        .route("/agent/v1/renew", post(enroll::renew))
        .route("/agent/v1/heartbeat", post(heartbeat::take).layer(limited(HEARTBEAT_BYTES)))
        .route("/agent/v1/segments", post(reports::segments).layer(limited(SEGMENTS_BYTES)))
        .route("/agent/v1/logs", post(reports::logs))
        .route("/gateway/v1/enroll", post(enroll::gateway))
        .route("/gateway/v1/renew", post(enroll::renew))
        .route("/gateway/v1/routes", get(gateway::routes))
        .route("/gateway/v1/report", post(gateway::report))
        .fallback(problem::no_such_path)
        .layer(limited(BODY_BYTES))
        .with_state(state)
}
