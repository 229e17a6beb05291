//! One gateway process: the table in use, the counts, the way to guards.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use wharfage_link::Decoder;
use wharfage_link::tls::GuardConnector;
use wharfage_shared::gateway::{GatewayReport, Routes};
use wharfage_shared::ids::GatewayName;

use crate::counts::Counts;
use crate::metrics::Metrics;
use crate::routes::Table;

/// What requests are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a request may wait for a first replica.
    pub queue_timeout: Duration,
    /// How many requests may wait at one time.
    pub queue_limit: u32,
    /// How long a replica may take until the head of its answer.
    pub answer_timeout: Duration,
}

/// What every request handler shares.
pub struct Gateway {
    /// Its name in the installation.
    pub name: GatewayName,
    /// Where clients reach it, told to the scheduler.
    pub endpoint: Option<String>,
    /// What requests are bounded by.
    pub bounds: Bounds,
    /// What the scheduler is told.
    pub counts: Arc<Counts>,
    /// What operators are told.
    pub metrics: Metrics,
    /// The way to guards.
    pub connector: GuardConnector,
    tables: watch::Sender<Arc<Table>>,
    tickets: AtomicU64,
    connected: AtomicBool,
}

impl Gateway {
    /// A gateway without routes.
    pub fn new(name: GatewayName, bounds: Bounds, connector: GuardConnector) -> Self {
        Self {
            name,
            endpoint: None,
            bounds,
            counts: Arc::new(Counts::default()),
            metrics: Metrics::default(),
            connector,
            tables: watch::Sender::new(Arc::new(Table::default())),
            tickets: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        }
    }

    /// Clients reach it here.
    pub fn reached_at(self, endpoint: String) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// The scheduler's answers are read with this decoder.
    pub fn reading_with(self, decoder: Decoder) -> Self {
        Self { metrics: Metrics::with_decoder(decoder), ..self }
    }

    /// The table in use.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.tables.borrow())
    }

    /// Wakes up whenever another table is in use.
    pub fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.tables.subscribe()
    }

    /// The number of the next request.
    pub fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Uses `routes` from now on, unless what is in use is as new: an older (term, number) never
    /// undoes a newer one. Says whether it did.
    pub fn adopt(&self, routes: &Routes) -> bool {
        let old = self.table();
        if routes.version <= old.version {
            return false;
        }
        let new = Arc::new(Table::new(routes, &self.counts));
        for upstream in new.upstreams() {
            upstream.admit();
        }
        // Marked before the new version can be reported: see `Upstream::enter`.
        let named: HashSet<_> = new.upstreams().map(Arc::as_ptr).collect();
        for upstream in old.upstreams().filter(|known| !named.contains(&Arc::as_ptr(known))) {
            upstream.retire();
        }
        self.counts.follow(new.upstreams().map(Arc::clone));
        self.tables.send_replace(new);
        self.counts.urgent.notify_one();
        true
    }

    /// What the scheduler is told now.
    pub fn report(&self, number: u64) -> GatewayReport {
        // The version first: what is counted after it is at least as new.
        let version = self.table().version;
        let counted = self.counts.report(&self.name, number, version);
        GatewayReport { endpoint: self.endpoint.clone(), ..counted }
    }

    /// Whether the last exchange with the scheduler went well.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Remembers how the last exchange with the scheduler went; whether that is news.
    pub fn set_connected(&self, connected: bool) -> bool {
        self.connected.swap(connected, Ordering::Relaxed) != connected
    }
}
