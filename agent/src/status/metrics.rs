//! The page's numbers in Prometheus' text format. What a GPU does not say is left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Shown, engines};

/// All of them.
pub fn text(shown: &Shown) -> String {
    let mut out = Text::default();
    gpus(shown, &mut out);
    engines::write(shown, &mut out);
    let core = &shown.core;
    let now = core.now;
    out.gauge("wharfage_agent_gpu_helpers", "NVML helper processes alive.");
    out.value("", &shown.gpu_helpers.to_string());
    out.gauge(
        "wharfage_agent_control_lease_live",
        "Whether anything new may start (1) or not (0).",
    );
    out.value("", if core.control_lease.live { "1" } else { "0" });
    if let Some(until) = core.control_lease.until {
        out.gauge("wharfage_agent_control_lease_seconds", "Seconds left of the control lease.");
        out.value("", &until.since(now).as_seconds().to_string());
    }
    if let Some(ago) = shown.last_answer_ago {
        let help = "Seconds since the scheduler answered last.";
        out.gauge("wharfage_agent_heartbeat_answer_age_seconds", help);
        out.value("", &ago.as_seconds().to_string());
    }
    out.counter("wharfage_agent_heartbeats_total", "Reports sent since the agent started.");
    out.value("", &shown.reports_sent.to_string());
    let help = "Fields of the scheduler's answers that this release does not know and ignores.";
    out.counter("wharfage_unknown_fields_total", help);
    for (kind, count) in &shown.unknown_fields {
        out.value(&format!("kind=\"{}\"", escaped(kind)), &count.to_string());
    }
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    for replica in &core.replicas {
        let phase = serde_json::to_value(replica.phase).unwrap_or_default();
        *phases.entry(phase.as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    out.gauge("wharfage_agent_replicas", "Replicas on this host by phase.");
    for (phase, count) in phases {
        out.value(&format!("phase=\"{phase}\""), &count.to_string());
    }
    out.gauge("wharfage_agent_notices", "Notices in force.");
    out.value("", &core.notices.len().to_string());
    out.gauge("wharfage_agent_segments_waiting", "Closed segments not yet acknowledged.");
    out.value("", &core.segments_waiting.to_string());
    out.gauge("wharfage_agent_alarms", "Things that are wrong now and need an operator.");
    out.value("", &shown.alarms.len().to_string());
    out.gauge("wharfage_agent_definitions_refused", "Engine and hook files that are refused.");
    out.value("", &shown.refused.len().to_string());
    out.finish()
}

fn gpus(shown: &Shown, out: &mut Text) {
    const MIB: u64 = 1024 * 1024;
    let each = |read: &dyn Fn(&wharfage_shared::telemetry::GpuReading) -> Option<u64>| {
        let all = shown.gpus.iter().filter_map(|gpu| Some((gpu.uuid.to_string(), read(gpu)?)));
        all.collect::<Vec<_>>()
    };
    let total: Vec<_> =
        shown.gpu_names.iter().map(|gpu| (gpu.uuid.to_string(), gpu.memory_mib * MIB)).collect();
    let families = [
        ("memory_total_bytes", "Memory of the GPU.", total),
        (
            "memory_used_bytes",
            "Memory in use, without what the driver reserves.",
            each(&|gpu| gpu.memory_used_mib.map(|mib| mib * MIB)),
        ),
        (
            "memory_reserved_bytes",
            "Memory that the driver reserves.",
            each(&|gpu| gpu.memory_reserved_mib.map(|mib| mib * MIB)),
        ),
        (
            "utilization_percent",
            "Share of time in which a kernel ran.",
            each(&|gpu| gpu.utilization.map(u64::from)),
        ),
        (
            "temperature_celsius",
            "Temperature of the GPU.",
            each(&|gpu| gpu.temperature_c.map(u64::from)),
        ),
        ("power_milliwatts", "Power drawn.", each(&|gpu| gpu.power_mw)),
        ("reading_age_milliseconds", "Age of the reading.", each(&|gpu| Some(gpu.age_ms))),
        (
            "trouble",
            "Whether the GPU cannot be read now (1) or can (0).",
            each(&|gpu| Some(u64::from(gpu.trouble.is_some()))),
        ),
    ];
    for (name, help, values) in families {
        if values.is_empty() {
            continue;
        }
        out.gauge(&format!("wharfage_gpu_{name}"), help);
        for (uuid, value) in values {
            out.value(&format!("uuid=\"{}\"", escaped(&uuid)), &value.to_string());
        }
    }
}

/// Text in Prometheus' format, family by family.
#[derive(Default)]
pub(super) struct Text {
    written: String,
    /// The name of the family that values belong to.
    family: String,
}

impl Text {
    /// All of it.
    pub(super) fn finish(self) -> String {
        self.written
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, help, "gauge");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.family(name, help, "counter");
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        name.clone_into(&mut self.family);
        // Writing into a string cannot fail.
        let _ = write!(self.written, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn value(&mut self, labels: &str, value: &str) {
        let name = &self.family;
        let written = if labels.is_empty() {
            writeln!(self.written, "{name} {value}")
        } else {
            writeln!(self.written, "{name}{{{labels}}} {value}")
        };
        let _ = written;
    }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
