//! The page's numbers in Prometheus' text format. What a GPU does not say is left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::gpus::ShownGpu;
use super::{Shown, engines, memory};
use crate::notices::cloud::told::word;

/// All of them.
pub fn text(shown: &Shown) -> String {
    let mut out = Text::default();
    gpus(shown, &mut out);
    memory::write(shown, &mut out);
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
    hearing(shown, &mut out);
    out.gauge("wharfage_agent_segments_waiting", "Closed segments not yet acknowledged.");
    out.value("", &core.segments_waiting.to_string());
    out.gauge("wharfage_agent_alarms", "Things that are wrong now and need an operator.");
    out.value("", &shown.alarms.len().to_string());
    out.gauge("wharfage_agent_definitions_refused", "Engine and hook files that are refused.");
    out.value("", &shown.refused.len().to_string());
    out.finish()
}

/// Sources that were never heard have no age: their trouble is an alarm.
fn hearing(shown: &Shown, out: &mut Text) {
    let help = "Seconds since a source of notices last answered rightly.";
    let ages = shown.hearing.iter().filter_map(|heard| {
        let source = word(heard.source).to_owned();
        let labels = [("source", source), ("question", heard.question.clone())];
        Some((labelled(&labels), heard.last_heard_ago?.as_seconds().to_string()))
    });
    let name = "wharfage_agent_notice_source_age_seconds";
    out.family(name, Kind::Gauge, help, ages.collect());
}

/// A name after `wharfage_gpu_`, its kind, its help, and how it is read.
type Family = (&'static str, Kind, &'static str, fn(&ShownGpu) -> Option<u64>);

const GPU_FAMILIES: [Family; 30] = [
    ("memory_total_bytes", Kind::Gauge, "Memory of the GPU.", |gpu| {
        Some(gpu.memory_total_mib * 1024 * 1024)
    }),
    ("memory_used_bytes", Kind::Gauge, "Memory in use, without what the driver reserves.", |gpu| {
        gpu.fast()?.memory.used_bytes.get()
    }),
    ("memory_free_bytes", Kind::Gauge, "Memory that can be had.", |gpu| {
        gpu.fast()?.memory.free_bytes.get()
    }),
    ("memory_reserved_bytes", Kind::Gauge, "Memory that the driver reserves.", |gpu| {
        gpu.fast()?.memory.reserved_bytes.get()
    }),
    ("utilization_percent", Kind::Gauge, "Share of time in which a kernel ran.", |gpu| {
        gpu.fast()?.utilization.gpu_percent.get().map(u64::from)
    }),
    (
        "memory_utilization_percent",
        Kind::Gauge,
        "Share of time in which memory was read or written.",
        |gpu| gpu.fast()?.utilization.memory_percent.get().map(u64::from),
    ),
    ("temperature_celsius", Kind::Gauge, "Temperature of the GPU.", |gpu| {
        gpu.fast()?.temperature.gpu_c.get().map(u64::from)
    }),
    ("memory_temperature_celsius", Kind::Gauge, "Temperature of its memory.", |gpu| {
        gpu.fast()?.temperature.memory_c.get().map(u64::from)
    }),
    ("power_milliwatts", Kind::Gauge, "Power drawn.", |gpu| gpu.fast()?.power_mw.get()),
    ("power_limit_milliwatts", Kind::Gauge, "The power limit in force.", |gpu| {
        gpu.slow()?.power.as_ref()?.power_limit_mw.get()
    }),
    ("energy_millijoules_total", Kind::Counter, "Energy since the driver was loaded.", |gpu| {
        gpu.slow()?.power.as_ref()?.energy_mj.get()
    }),
    ("sm_clock_megahertz", Kind::Gauge, "Clock of the multiprocessors.", |gpu| {
        gpu.slow()?.power.as_ref()?.clocks_mhz.sm.get().map(u64::from)
    }),
    ("processes", Kind::Gauge, "Processes that hold the GPU.", |gpu| {
        gpu.fast()?.processes.known().map(|processes| processes.len() as u64)
    }),
    (
        "ecc_corrected_total",
        Kind::Counter,
        "Memory errors corrected since the driver loaded.",
        |gpu| gpu.slow()?.ecc.as_ref()?.volatile_corrected.get(),
    ),
    (
        "ecc_uncorrected_total",
        Kind::Counter,
        "Memory errors not corrected since the driver loaded.",
        |gpu| gpu.slow()?.ecc.as_ref()?.volatile_uncorrected.get(),
    ),
    (
        "ecc_aggregate_uncorrected_total",
        Kind::Counter,
        "Memory errors not corrected in the board's life.",
        |gpu| gpu.slow()?.ecc.as_ref()?.aggregate_uncorrected.get(),
    ),
    (
        "remapped_rows_correctable_total",
        Kind::Counter,
        "Rows remapped after corrected errors.",
        |gpu| gpu.slow()?.ecc.as_ref()?.remapped_rows.correctable.get().map(u64::from),
    ),
    (
        "remapped_rows_uncorrectable_total",
        Kind::Counter,
        "Rows remapped after errors that were not corrected.",
        |gpu| gpu.slow()?.ecc.as_ref()?.remapped_rows.uncorrectable.get().map(u64::from),
    ),
    ("row_remap_pending", Kind::Gauge, "Whether a remapping waits for a reset.", |gpu| {
        gpu.slow()?.ecc.as_ref()?.remapped_rows.is_pending.get().map(u64::from)
    }),
    ("row_remap_failed", Kind::Gauge, "Whether a remapping ever failed.", |gpu| {
        gpu.slow()?.ecc.as_ref()?.remapped_rows.has_failed.get().map(u64::from)
    }),
    ("retired_pages", Kind::Gauge, "Pages retired after double bit errors.", |gpu| {
        gpu.slow()?.ecc.as_ref()?.retired_pages.double_bit.get()
    }),
    ("pcie_generation", Kind::Gauge, "PCIe generation of the link now.", |gpu| {
        gpu.slow()?.pcie.as_ref()?.generation.get().map(u64::from)
    }),
    ("pcie_width", Kind::Gauge, "PCIe lanes of the link now.", |gpu| {
        gpu.slow()?.pcie.as_ref()?.width.get().map(u64::from)
    }),
    ("pcie_replays_total", Kind::Counter, "PCIe packets sent again.", |gpu| {
        gpu.slow()?.pcie.as_ref()?.replays.get().map(u64::from)
    }),
    ("nvlinks_up", Kind::Gauge, "NVLinks that are up.", |gpu| {
        let links = gpu.slow()?.nvlink.as_ref()?.links.known()?;
        Some(links.iter().filter(|link| link.is_up.get() == Some(true)).count() as u64)
    }),
    ("nvlinks_down", Kind::Gauge, "NVLinks that are not up.", |gpu| {
        let links = gpu.slow()?.nvlink.as_ref()?.links.known()?;
        Some(links.iter().filter(|link| link.is_up.get() != Some(true)).count() as u64)
    }),
    ("xid_last", Kind::Gauge, "The last XID; absent when there was none.", |gpu| {
        gpu.xids.last.map(u64::from)
    }),
    ("xids_total", Kind::Counter, "XIDs since the agent started.", |gpu| {
        Some(gpu.xids.counts.values().sum())
    }),
    ("reading_age_milliseconds", Kind::Gauge, "Age of the reading.", |gpu| {
        Some(gpu.reading.age_ms)
    }),
    ("trouble", Kind::Gauge, "Whether the GPU cannot be trusted now (1) or can (0).", |gpu| {
        Some(u64::from(gpu.reading.trouble.is_some()))
    }),
];

fn gpus(shown: &Shown, out: &mut Text) {
    for (name, kind, help, read) in GPU_FAMILIES {
        let values = shown.gpus.iter().filter_map(|gpu| {
            let label = labelled(&[("uuid", gpu.reading.uuid.to_string())]);
            Some((label, read(gpu)?.to_string()))
        });
        out.family(&format!("wharfage_gpu_{name}"), kind, help, values.collect());
    }
    let help = "GPUs that not everybody sees of NVML, the kernel driver and the PCI bus.";
    out.gauge("wharfage_agent_gpus_missing", help);
    out.value("", &shown.gpus_missing.len().to_string());
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

    /// A whole family; without values it is left out.
    pub(super) fn family(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        values: Vec<(String, String)>,
    ) {
        if values.is_empty() {
            return;
        }
        self.begin(name, kind, help);
        for (labels, value) in values {
            self.value(&labels, &value);
        }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.begin(name, Kind::Gauge, help);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.begin(name, Kind::Counter, help);
    }

    fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.family);
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
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

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, until it begins anew.
    Counter,
}

/// `name="value"` pairs as they stand between the braces.
pub(super) fn labelled(labels: &[(&str, String)]) -> String {
    let one = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escaped(value));
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
