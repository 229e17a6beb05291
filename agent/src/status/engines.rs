//! What engines say of their work and what this host has learned of them, for Prometheus.

use wharfage_shared::replica::EngineLoad;

use super::Shown;
use super::metrics::{Text, escaped};

type Read = fn(&EngineLoad) -> Option<String>;

/// The three canonical names in Prometheus' spelling.
const FAMILIES: [(&str, &str, Read); 3] = [
    (
        "wharfage_engine_total_queued_requests",
        "Requests that wait inside the engine (TotalQueuedRequests).",
        |load| load.queued.map(|count| count.to_string()),
    ),
    (
        "wharfage_engine_total_running_requests",
        "Requests that the engine works on (TotalRunningRequests).",
        |load| load.running.map(|count| count.to_string()),
    ),
    (
        "wharfage_engine_kv_cache_utilization",
        "Share of the key-value cache in use, 0 to 1 (KVCacheUtilization).",
        |load| load.kv_cache_permille.map(|p| format!("{}.{:03}", p / 1000, p % 1000)),
    ),
];

/// All of them; a number that an engine does not give is left out.
pub(super) fn write(shown: &Shown, out: &mut Text) {
    for (name, help, read) in FAMILIES {
        out.gauge(name, help);
        for (replica, load) in &shown.engine_loads {
            let Some(value) = read(load) else { continue };
            let row = shown.core.replicas.iter().find(|row| row.replica == *replica);
            let deployment = row.map_or_else(String::new, |row| row.deployment.to_string());
            let labels = format!("replica=\"{replica}\",deployment=\"{}\"", escaped(&deployment));
            out.value(&labels, &value);
        }
    }
    let help = "Starts at which an engine said that it was ready and failed the generation.";
    out.counter("wharfage_engine_false_ready_total", help);
    for row in &shown.core.false_ready {
        let (engine, version) = (escaped(&row.engine), escaped(&row.version));
        out.value(&format!("engine=\"{engine}\",version=\"{version}\""), &row.count.to_string());
    }
}
