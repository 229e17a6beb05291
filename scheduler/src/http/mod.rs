//! The public listener: CoreWeave's API, Baseten's, our own, the probes and the dashboard.
//!
//! Handlers are short: take the request apart, check it into the core's words, ask the driver's
//! handle, show rows of the view. Who may do what is in the table of [`routes`].

pub mod api;
pub mod baseten;
pub mod body;
pub mod coreweave;
pub mod fault;
pub mod fields;
pub mod gate;
pub mod limits;
pub mod openapi;
pub mod problem;
pub mod query;
pub mod refusals;
pub mod route;
pub mod rows;

mod dry_run;
mod price;
mod probes;
mod seal;

use std::cell::OnceCell;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::principal::Caller;

use self::fault::Fault;
use self::limits::Limiter;
use self::route::Route;
use self::rows::Shown;
use crate::config::Config;
use crate::dashboard;
use crate::driver::{Handle, View};
use crate::telemetry::Telemetry;

/// Replays of the whole log at one time: each takes a core.
const REPLAYS: usize = 2;

/// What the listener is made of.
#[derive(Clone)]
pub struct State {
    /// The way to the controller.
    pub handle: Handle,
    /// What was heard last.
    pub telemetry: Telemetry,
    /// The configuration.
    pub config: Arc<Config>,
    /// What join strings need to name.
    pub machines: Machines,
    /// Ends streams that would go on for ever.
    pub shutdown: CancellationToken,
}

/// Where agents and gateways dial, and whom they trust there.
#[derive(Clone, Debug)]
pub struct Machines {
    /// `host:port` of the listener for machines.
    pub address: String,
    /// SHA-256 (hex) of the authority's public key.
    pub authority: String,
}

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    inner: Arc<Inner>,
}

/// See [`Shared`].
pub struct Inner {
    /// The way to the controller.
    pub handle: Handle,
    /// What was heard last.
    pub telemetry: Telemetry,
    /// The configuration.
    pub config: Arc<Config>,
    /// What join strings need to name.
    pub machines: Machines,
    /// Ends streams that would go on for ever.
    pub shutdown: CancellationToken,
    /// Requests per key.
    pub limiter: Limiter,
    /// People who have signed in.
    pub sessions: dashboard::session::Sessions,
    /// Writes that were refused.
    pub refusals: refusals::Refusals,
    /// Taken by those who replay the whole log for one answer.
    pub replays: Semaphore,
    /// Secrets of repeatable requests.
    sealer: seal::Sealer,
}

impl std::ops::Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Shared {
    /// Gives `show` the view and all that rows are made from.
    pub fn show<T>(&self, caller: &Caller, show: impl FnOnce(&Shown<'_>) -> T) -> T {
        let view = self.handle.view();
        self.show_view(&view, caller, show)
    }

    /// The same for a view that is at hand.
    pub fn show_view<T>(
        &self,
        view: &View,
        caller: &Caller,
        show: impl FnOnce(&Shown<'_>) -> T,
    ) -> T {
        self.show_fleet(view.fleet(), caller, show)
    }

    /// The same for a fleet that is at hand.
    pub fn show_fleet<T>(
        &self,
        fleet: &Fleet,
        caller: &Caller,
        show: impl FnOnce(&Shown<'_>) -> T,
    ) -> T {
        show(&Shown {
            fleet,
            telemetry: &self.telemetry,
            now: self.handle.now(),
            caller,
            starved: OnceCell::new(),
        })
    }
}

/// Every route of the listener.
pub fn routes() -> Vec<Route> {
    let mut routes = probes::routes();
    routes.extend(coreweave::routes());
    routes.extend(baseten::routes());
    routes.extend(api::routes());
    routes.extend(dashboard::routes());
    routes
}

/// The listener's router.
pub fn router(state: State) -> std::io::Result<Router> {
    let State { handle, telemetry, config, machines, shutdown } = state;
    let limiter = Limiter::new(config.limits.writes_per_minute, config.limits.reads_per_minute);
    let sealer = seal::Sealer::open(&config.state_dir)?;
    let sessions = dashboard::session::Sessions::default();
    let refusals = refusals::Refusals::default();
    let replays = Semaphore::new(REPLAYS);
    let inner = Inner {
        handle,
        telemetry,
        config,
        machines,
        shutdown,
        limiter,
        sessions,
        refusals,
        replays,
        sealer,
    };
    let shared = Shared { inner: Arc::new(inner) };
    let mut router = Router::new();
    for route in routes() {
        router = route.mount(router, &shared);
    }
    Ok(router
        .fallback(gate::no_such_path)
        .method_not_allowed_fallback(gate::no_such_method)
        .with_state(shared))
}

/// The parts of the path that a route leaves open, in their order.
pub struct Parted<T>(pub T);

impl<T> FromRequestParts<Shared> for Parted<T>
where
    T: serde::de::DeserializeOwned + Send,
{
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Fault> {
        let path = parts.uri.path().to_owned();
        match Path::<T>::from_request_parts(parts, shared).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(Fault::not_found("path", &path)),
        }
    }
}
