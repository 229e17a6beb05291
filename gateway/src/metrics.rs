//! What operators scrape.
//!
//! `/metrics` needs no token, so it speaks of the process alone: nothing in it names an
//! organization, a deployment or a model. Figures by deployment are the scheduler's, from reports.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use wharfage_link::Decoder;

use crate::gateway::Gateway;

/// Upper bounds in seconds: from a cached embedding to a long prompt on a busy replica.
const FIRST_BYTE: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// The process's figures.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    first_byte: Histogram,
    retries: Counter,
    lost: Counter,
    abandoned: Counter,
    tokens: Counter,
    in_flight: Gauge,
    waiting: Gauge,
    connected: Gauge,
    routes: Gauge<f64, AtomicU64>,
    unknown_fields: Family<Message, Counter>,
    decoder: Decoder,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Message {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    code: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("wharfage");
        let metrics = Self {
            requests: Family::default(),
            first_byte: Histogram::new(FIRST_BYTE),
            retries: Counter::default(),
            lost: Counter::default(),
            abandoned: Counter::default(),
            tokens: Counter::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            connected: Gauge::default(),
            routes: Gauge::default(),
            unknown_fields: Family::default(),
            decoder: Decoder::default(),
            registry: Registry::default(),
        };
        let help = "Fields of the scheduler's answers that this release does not know and ignores";
        registry.register("unknown_fields", help, metrics.unknown_fields.clone());
        let r = registry.sub_registry_with_prefix("gateway");
        r.register("requests", "Requests answered, by HTTP status", metrics.requests.clone());
        let help = "Seconds until the head of the replica's answer";
        r.register("first_byte_seconds", help, metrics.first_byte.clone());
        r.register("retries", "Requests sent to another replica", metrics.retries.clone());
        r.register("replica_lost", "Answers cut by a replica's end", metrics.lost.clone());
        r.register("abandoned", "Answers that the client left", metrics.abandoned.clone());
        r.register("tokens", "Tokens that answers said they used", metrics.tokens.clone());
        r.register("in_flight", "Requests at replicas", metrics.in_flight.clone());
        r.register("waiting", "Requests waiting for a replica", metrics.waiting.clone());
        let help = "1 if the last exchange with the scheduler went well";
        r.register("scheduler_connected", help, metrics.connected.clone());
        r.register("routes_number", "The number of the routes in use", metrics.routes.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Figures that show what this decoder did not know.
    pub fn with_decoder(decoder: Decoder) -> Self {
        Self { decoder, ..Self::default() }
    }

    /// An answer left with this status.
    pub fn answered(&self, status: StatusCode) {
        self.requests.get_or_create(&Answered { code: status.as_u16() }).inc();
    }

    /// A replica began its answer after so long.
    pub fn first_byte(&self, after: Duration) {
        self.first_byte.observe(after.as_secs_f64());
    }

    /// A request goes to another replica.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A replica ended in the middle of an answer.
    pub fn replica_lost(&self) {
        self.lost.inc();
    }

    /// A client left in the middle of an answer.
    pub fn abandoned(&self) {
        self.abandoned.inc();
    }

    /// An answer said how many tokens it used.
    pub fn tokens(&self, tokens: u64) {
        self.tokens.inc_by(tokens);
    }

    /// The text that Prometheus reads.
    pub fn text(&self, gateway: &Gateway) -> String {
        let report = gateway.report(0);
        self.in_flight.set(report.in_flight.values().map(|count| i64::from(*count)).sum());
        self.waiting.set(gateway.counts.waiting().into());
        self.connected.set(gateway.is_connected().into());
        self.routes.set(report.routes.number as f64);
        for (kind, count) in self.decoder.unknown_fields() {
            let counter = self.unknown_fields.get_or_create(&Message { kind });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing into a String cannot fail; an encoder's own refusal is told to the reader.
            let _ = writeln!(text, "# cannot encode");
        }
        text
    }

    /// How many answers with this status have left.
    pub fn count(&self, status: u16) -> u64 {
        self.requests.get_or_create(&Answered { code: status }).get()
    }

    /// How many answers were cut by a replica's end.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// How many answers the client left.
    pub fn left(&self) -> u64 {
        self.abandoned.get()
    }
}
