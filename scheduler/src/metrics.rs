//! The numbers behind `/metrics` and `/metrics/nodes`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde::Serialize;
use wharfage_link::Decoder;
use wharfage_scheduler_core::{Fleet, explain};
use wharfage_shared::time::Timestamp;

use crate::driver::View;
use crate::telemetry::Telemetry;

/// Cheap to clone; counted by everybody, read by a scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    records: Counter,
    commits: Histogram,
    group: Histogram,
    position: Gauge,
    disk_full: Gauge,
    queues: Family<Queue, Gauge>,
    reports: Family<Report, Counter>,
    report_seconds: Family<Report, Histogram>,
    nodes: Family<NodeState, Gauge>,
    replicas: Family<Phase, Gauge>,
    deployments: Gauge,
    starved: Gauge,
    moves: Gauge,
    pools: Family<PoolNodes, Gauge>,
    webhooks: Family<Outcome, Counter>,
    cpu: Gauge<f64, AtomicU64>,
    unknown_fields: Family<Message, Counter>,
    decoder: Decoder,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Message {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Report {
    path: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct NodeState {
    reach: String,
    health: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolNodes {
    pool: String,
    zone: String,
    sku: String,
    compute_class: String,
    nodes: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Phase {
    phase: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
        let mut registry = Registry::with_prefix("wharfage");
        let inner = Inner {
            registry: Registry::default(),
            records: Counter::default(),
            commits: seconds(),
            group: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            position: Gauge::default(),
            disk_full: Gauge::default(),
            queues: Family::default(),
            reports: Family::default(),
            report_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
            }),
            nodes: Family::default(),
            replicas: Family::default(),
            deployments: Gauge::default(),
            starved: Gauge::default(),
            moves: Gauge::default(),
            pools: Family::default(),
            webhooks: Family::default(),
            cpu: Gauge::default(),
            unknown_fields: Family::default(),
            decoder: Decoder::default(),
        };
        registry.register("log_records", "Records made durable", inner.records.clone());
        registry.register("log_commit_seconds", "One commit", inner.commits.clone());
        registry.register("log_commit_records", "Records in one commit", inner.group.clone());
        registry.register("log_position", "The last durable record", inner.position.clone());
        registry.register("log_disk_full", "1 while writes are refused", inner.disk_full.clone());
        registry.register("queue_depth", "What waits for the writer", inner.queues.clone());
        registry.register("machine_requests", "Requests of machines", inner.reports.clone());
        registry.register(
            "machine_request_seconds",
            "A machine's request without the time that it is held open",
            inner.report_seconds.clone(),
        );
        registry.register("nodes", "Nodes by reach and health", inner.nodes.clone());
        registry.register("replicas", "Replicas by phase", inner.replicas.clone());
        registry.register("deployments", "Deployments", inner.deployments.clone());
        registry.register(
            "replicas_starved",
            "Replicas that wait while others of a higher priority were placed",
            inner.starved.clone(),
        );
        registry.register(
            "consolidation_moves_within_an_hour",
            "Replicas that began to move within the last hour so that others fit",
            inner.moves.clone(),
        );
        registry.register(
            "pool_nodes",
            "Nodes of pools that are to have a stated number: target, current, queued (wanted)",
            inner.pools.clone(),
        );
        registry.register("webhook_deliveries", "Webhooks by outcome", inner.webhooks.clone());
        registry.register("process_cpu_seconds", "CPU of this process", inner.cpu.clone());
        registry.register(
            "unknown_fields",
            "Fields of machines' messages that this release does not know and ignores",
            inner.unknown_fields.clone(),
        );
        Self { inner: Arc::new(Inner { registry, ..inner }) }
    }

    /// Reads machines' messages, and counts what it does not know in them.
    pub(crate) fn decoder(&self) -> &Decoder {
        &self.inner.decoder
    }

    /// A commit made so many records durable.
    pub(crate) fn committed(&self, records: usize, took: Duration, position: u64) {
        self.inner.records.inc_by(records as u64);
        self.inner.group.observe(records as f64);
        self.inner.commits.observe(took.as_secs_f64());
        self.inner.position.set(position as i64);
    }

    /// Writes are refused, or not any more.
    pub(crate) fn disk_full(&self, is_full: bool) {
        self.inner.disk_full.set(i64::from(is_full));
    }

    /// A machine's request was answered, or is held open, after so long.
    pub(crate) fn machine_request(&self, path: &'static str, took: Duration) {
        self.inner.reports.get_or_create(&Report { path }).inc();
        self.inner.report_seconds.get_or_create(&Report { path }).observe(took.as_secs_f64());
    }

    /// A webhook was delivered, or failed.
    pub(crate) fn webhook(&self, outcome: &'static str) {
        self.inner.webhooks.get_or_create(&Outcome { outcome }).inc();
    }

    /// How many wait for the writer.
    pub(crate) fn queue(&self, queue: &'static str, depth: usize) {
        self.inner.queues.get_or_create(&Queue { queue }).set(depth as i64);
    }

    /// The text of `/metrics`, with the fleet as `view` shows it.
    pub fn render(&self, view: &View, now: Timestamp) -> String {
        let fleet = view.fleet();
        let mut nodes: BTreeMap<NodeState, i64> = BTreeMap::new();
        for node in fleet.nodes() {
            let state = NodeState { reach: word(&node.reach), health: word(&node.health) };
            *nodes.entry(state).or_default() += 1;
        }
        let mut replicas: BTreeMap<Phase, i64> = BTreeMap::new();
        for replica in fleet.replicas() {
            let phase = Phase { phase: word(&fleet.phase_word(replica)) };
            *replicas.entry(phase).or_default() += 1;
        }
        self.inner.nodes.clear();
        for (state, count) in nodes {
            self.inner.nodes.get_or_create(&state).set(count);
        }
        self.inner.replicas.clear();
        for (phase, count) in replicas {
            self.inner.replicas.get_or_create(&phase).set(count);
        }
        self.pools(fleet);
        self.inner.deployments.set(fleet.deployments().count() as i64);
        let starved: u32 = explain::starved(fleet).values().sum();
        self.inner.starved.set(starved.into());
        self.inner.moves.set(fleet.moves_within_an_hour(now).into());
        self.inner.cpu.set(cpu_seconds());
        for (kind, count) in self.inner.decoder.unknown_fields() {
            let counter = self.inner.unknown_fields.get_or_create(&Message { kind });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &self.inner.registry).expect("a String takes everything");
        text
    }
}

impl Metrics {
    /// Pools with a stated number of nodes: what is wanted can be read here too.
    fn pools(&self, fleet: &Fleet) {
        self.inner.pools.clear();
        for pool in fleet.pools() {
            let Some(count) = fleet.pool_count(&pool.id) else { continue };
            for (nodes, value) in [
                ("target", count.size.target),
                ("current", count.current),
                ("queued", count.queued),
            ] {
                let labels = PoolNodes {
                    pool: pool.id.to_string(),
                    zone: pool.zone.to_string(),
                    sku: pool.sku.to_string(),
                    compute_class: pool.compute_class.to_string(),
                    nodes,
                };
                self.inner.pools.get_or_create(&labels).set(value.into());
            }
        }
    }
}

/// The text of `/metrics/nodes`: each GPU's last reading with its age.
pub fn render_nodes(view: &View, telemetry: &Telemetry, now: Timestamp) -> String {
    let mut series: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in view.fleet().nodes() {
        let Some(told) = telemetry.node(&node.id) else { continue };
        for reading in &told.readings {
            let labels = format!(
                "{{node=\"{}\",pool=\"{}\",zone=\"{}\",sku=\"{}\",gpu=\"{}\"}}",
                escaped(node.id.as_str()),
                escaped(node.pool.as_str()),
                escaped(node.zone.as_str()),
                escaped(node.sku.as_str()),
                escaped(&reading.uuid.text()),
            );
            // What a GPU does not say has no line: it is not zero.
            let mut add = |name: &'static str, value: Option<f64>| {
                let Some(value) = value else { return };
                series.entry(name).or_default().push(format!("{labels} {value}"));
            };
            let mib = |mib: u64| (mib << 20) as f64;
            add("wharfage_gpu_memory_used_bytes", reading.memory_used_mib.map(mib));
            add("wharfage_gpu_memory_reserved_bytes", reading.memory_reserved_mib.map(mib));
            add(
                "wharfage_gpu_utilization_ratio",
                reading.utilization.map(|it| f64::from(it) / 100.0),
            );
            add("wharfage_gpu_temperature_celsius", reading.temperature_c.map(f64::from));
            add("wharfage_gpu_power_watts", reading.power_mw.map(|it| it as f64 / 1000.0));
            add("wharfage_gpu_reading_age_seconds", Some(told.age(reading, now).as_seconds()));
        }
    }
    let mut text = String::new();
    for (name, lines) in series {
        let _ = writeln!(text, "# TYPE {name} gauge");
        for line in lines {
            let _ = writeln!(text, "{name}{line}");
        }
    }
    text.push_str("# EOF\n");
    text
}

/// The word that a state has in JSON, with or without data beside it.
fn word(state: &impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(serde_json::Value::Object(fields)) => {
            let tag = fields.values().find_map(|value| value.as_str());
            tag.unwrap_or_default().to_owned()
        }
        Ok(_) | Err(_) => String::new(),
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// User and system time of this process in seconds.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
