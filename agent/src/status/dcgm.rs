//! GPU readings under the names of NVIDIA's dcgm-exporter, so that boards which people have work.
//! Only what NVML gives here is served; nothing is made up for the rest.
//!
//! `DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL` is called a counter by the exporter and is a rate in MB/s, as
//! DCGM makes it of NVML's counters; so it is here.

use std::collections::BTreeMap;

use wharfage_agent_sys::nvml::{
    Ecc, Fast, Gpm, HeldDown, Link, Pcie, PowerAndClocks, RemappedRows, RetiredPages, Value,
};

use super::Shown;
use super::gpus::ShownGpu;
use super::metrics::{Kind, Text, labelled};
use crate::gpu::MIB;
use crate::gpu::recent::WINDOW;

/// A name, its kind, its help, and how it is read.
type Family = (&'static str, Kind, &'static str, fn(&ShownGpu) -> Option<String>);

/// The families in the order of the exporter's own list.
const FAMILIES: [Family; 47] = [
    ("DCGM_FI_DEV_SM_CLOCK", Kind::Gauge, "SM clock frequency (in MHz).", |gpu| {
        power(gpu, |power| whole(&power.clocks_mhz.sm))
    }),
    ("DCGM_FI_DEV_MEM_CLOCK", Kind::Gauge, "Memory clock frequency (in MHz).", |gpu| {
        power(gpu, |power| whole(&power.clocks_mhz.memory))
    }),
    ("DCGM_FI_DEV_MEMORY_TEMP", Kind::Gauge, "Memory temperature (in C).", |gpu| {
        fast(gpu, |fast| whole(&fast.temperature.memory_c))
    }),
    ("DCGM_FI_DEV_GPU_TEMP", Kind::Gauge, "GPU temperature (in C).", |gpu| {
        fast(gpu, |fast| whole(&fast.temperature.gpu_c))
    }),
    ("DCGM_FI_DEV_POWER_USAGE", Kind::Gauge, "Power draw (in W).", |gpu| {
        fast(gpu, |fast| fast.power_mw.get().map(|mw| format!("{}.{:03}", mw / 1000, mw % 1000)))
    }),
    (
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        Kind::Counter,
        "Total energy consumption since boot (in mJ).",
        |gpu| power(gpu, |power| whole(&power.energy_mj)),
    ),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Kind::Counter, "Total number of PCIe retries.", |gpu| {
        pcie(gpu, |pcie| whole(&pcie.replays))
    }),
    ("DCGM_FI_DEV_GPU_UTIL", Kind::Gauge, "GPU utilization (in %).", |gpu| {
        fast(gpu, |fast| whole(&fast.utilization.gpu_percent))
    }),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", Kind::Gauge, "Memory utilization (in %).", |gpu| {
        fast(gpu, |fast| whole(&fast.utilization.memory_percent))
    }),
    ("DCGM_FI_DEV_ENC_UTIL", Kind::Gauge, "Encoder utilization (in %).", |gpu| {
        fast(gpu, |fast| whole(&fast.utilization.encoder_percent))
    }),
    ("DCGM_FI_DEV_DEC_UTIL", Kind::Gauge, "Decoder utilization (in %).", |gpu| {
        fast(gpu, |fast| whole(&fast.utilization.decoder_percent))
    }),
    ("DCGM_FI_DEV_XID_ERRORS", Kind::Gauge, "Value of the last XID error encountered.", |gpu| {
        Some(gpu.xids.last.unwrap_or(0).to_string())
    }),
    (
        "DCGM_FI_DEV_POWER_VIOLATION",
        Kind::Counter,
        "Throttling duration due to power constraints (in ns).",
        |gpu| held_down(gpu, |held| &held.power_ns),
    ),
    (
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        Kind::Counter,
        "Throttling duration due to thermal constraints (in ns).",
        |gpu| held_down(gpu, |held| &held.thermal_ns),
    ),
    (
        "DCGM_FI_DEV_SYNC_BOOST_VIOLATION",
        Kind::Counter,
        "Throttling duration due to sync-boost constraints (in ns).",
        |gpu| held_down(gpu, |held| &held.sync_boost_ns),
    ),
    (
        "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION",
        Kind::Counter,
        "Throttling duration due to board limit constraints (in ns).",
        |gpu| held_down(gpu, |held| &held.board_limit_ns),
    ),
    (
        "DCGM_FI_DEV_LOW_UTIL_VIOLATION",
        Kind::Counter,
        "Throttling duration due to low utilization (in ns).",
        |gpu| held_down(gpu, |held| &held.low_utilization_ns),
    ),
    (
        "DCGM_FI_DEV_RELIABILITY_VIOLATION",
        Kind::Counter,
        "Throttling duration due to reliability constraints (in ns).",
        |gpu| held_down(gpu, |held| &held.reliability_ns),
    ),
    ("DCGM_FI_DEV_FB_FREE", Kind::Gauge, "Framebuffer memory free (in MiB).", |gpu| {
        mib(gpu, |fast| &fast.memory.free_bytes)
    }),
    ("DCGM_FI_DEV_FB_USED", Kind::Gauge, "Framebuffer memory used (in MiB).", |gpu| {
        mib(gpu, |fast| &fast.memory.used_bytes)
    }),
    ("DCGM_FI_DEV_FB_RESERVED", Kind::Gauge, "Framebuffer memory reserved (in MiB).", |gpu| {
        mib(gpu, |fast| &fast.memory.reserved_bytes)
    }),
    (
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        Kind::Counter,
        "Total number of single-bit volatile ECC errors.",
        |gpu| ecc(gpu, |ecc| whole(&ecc.volatile_corrected)),
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        Kind::Counter,
        "Total number of double-bit volatile ECC errors.",
        |gpu| ecc(gpu, |ecc| whole(&ecc.volatile_uncorrected)),
    ),
    (
        "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
        Kind::Counter,
        "Total number of single-bit persistent ECC errors.",
        |gpu| ecc(gpu, |ecc| whole(&ecc.aggregate_corrected)),
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        Kind::Counter,
        "Total number of double-bit persistent ECC errors.",
        |gpu| ecc(gpu, |ecc| whole(&ecc.aggregate_uncorrected)),
    ),
    (
        "DCGM_FI_DEV_RETIRED_SBE",
        Kind::Counter,
        "Total number of retired pages due to single-bit errors.",
        |gpu| retired(gpu, |pages| whole(&pages.single_bit)),
    ),
    (
        "DCGM_FI_DEV_RETIRED_DBE",
        Kind::Counter,
        "Total number of retired pages due to double-bit errors.",
        |gpu| retired(gpu, |pages| whole(&pages.double_bit)),
    ),
    (
        "DCGM_FI_DEV_RETIRED_PENDING",
        Kind::Counter,
        "Total number of pages pending retirement.",
        |gpu| retired(gpu, |pages| flag(&pages.is_pending)),
    ),
    (
        "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
        Kind::Counter,
        "Total number of NVLink flow-control CRC errors.",
        |gpu| links(gpu, |link| &link.crc_flit_errors),
    ),
    (
        "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
        Kind::Counter,
        "Total number of NVLink data CRC errors.",
        |gpu| links(gpu, |link| &link.crc_data_errors),
    ),
    (
        "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL",
        Kind::Counter,
        "Total number of NVLink retries.",
        |gpu| links(gpu, |link| &link.replay_errors),
    ),
    (
        "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
        Kind::Counter,
        "Total number of NVLink recovery errors.",
        |gpu| links(gpu, |link| &link.recovery_errors),
    ),
    (
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        Kind::Counter,
        "Total number of NVLink bandwidth counters for all lanes",
        |gpu| gpu.slow()?.nvlink_mb_per_second.map(|rate| rate.to_string()),
    ),
    ("DCGM_FI_DEV_VGPU_LICENSE_STATUS", Kind::Gauge, "vGPU License status", |gpu| {
        flag(&gpu.slow()?.modes.as_ref()?.is_vgpu_licensed)
    }),
    (
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        Kind::Counter,
        "Number of remapped rows for uncorrectable errors",
        |gpu| remapped(gpu, |rows| whole(&rows.uncorrectable)),
    ),
    (
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        Kind::Counter,
        "Number of remapped rows for correctable errors",
        |gpu| remapped(gpu, |rows| whole(&rows.correctable)),
    ),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", Kind::Gauge, "Whether remapping of rows has failed", |gpu| {
        remapped(gpu, |rows| flag(&rows.has_failed))
    }),
    (
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        Kind::Gauge,
        "Ratio of time the graphics engine is active.",
        |gpu| ratio(gpu, |gpm| &gpm.graphics_active_ppm),
    ),
    (
        "DCGM_FI_PROF_SM_ACTIVE",
        Kind::Gauge,
        "The ratio of cycles an SM has at least 1 warp assigned.",
        |gpu| ratio(gpu, |gpm| &gpm.sm_active_ppm),
    ),
    (
        "DCGM_FI_PROF_SM_OCCUPANCY",
        Kind::Gauge,
        "The ratio of number of warps resident on an SM.",
        |gpu| ratio(gpu, |gpm| &gpm.sm_occupancy_ppm),
    ),
    (
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        Kind::Gauge,
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        |gpu| ratio(gpu, |gpm| &gpm.tensor_active_ppm),
    ),
    (
        "DCGM_FI_PROF_DRAM_ACTIVE",
        Kind::Gauge,
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        |gpu| ratio(gpu, |gpm| &gpm.dram_active_ppm),
    ),
    (
        "DCGM_FI_PROF_PIPE_FP64_ACTIVE",
        Kind::Gauge,
        "Ratio of cycles the fp64 pipes are active.",
        |gpu| ratio(gpu, |gpm| &gpm.fp64_active_ppm),
    ),
    (
        "DCGM_FI_PROF_PIPE_FP32_ACTIVE",
        Kind::Gauge,
        "Ratio of cycles the fp32 pipes are active.",
        |gpu| ratio(gpu, |gpm| &gpm.fp32_active_ppm),
    ),
    (
        "DCGM_FI_PROF_PIPE_FP16_ACTIVE",
        Kind::Gauge,
        "Ratio of cycles the fp16 pipes are active.",
        |gpu| ratio(gpu, |gpm| &gpm.fp16_active_ppm),
    ),
    (
        "DCGM_FI_PROF_PCIE_TX_BYTES",
        Kind::Gauge,
        "The rate of data transmitted over the PCIe bus - including both protocol headers and \
         data payloads - in bytes per second.",
        |gpu| gpm(gpu, |gpm| whole(&gpm.pcie_tx_bytes_per_second)),
    ),
    (
        "DCGM_FI_PROF_PCIE_RX_BYTES",
        Kind::Gauge,
        "The rate of data received over the PCIe bus - including both protocol headers and data \
         payloads - in bytes per second.",
        |gpu| gpm(gpu, |gpm| whole(&gpm.pcie_rx_bytes_per_second)),
    ),
];

/// All of them. A family without a value on any GPU is left out.
pub fn text(shown: &Shown) -> String {
    let mut out = Text::default();
    for (name, kind, help, read) in FAMILIES {
        let one = |gpu: &ShownGpu| Some((labels(shown, gpu, &[]), read(gpu)?));
        out.family(name, kind, help, shown.gpus.iter().filter_map(one).collect());
    }
    let xids = |gpu: &ShownGpu| Some(windowed("xid", &gpu.recent.xids, ToString::to_string));
    within_window(
        shown,
        &mut out,
        "DCGM_EXP_XID_ERRORS_COUNT",
        "Count of XID Errors within user-specified time window (see xid-count-window-size param).",
        xids,
    );
    let clocks = |gpu: &ShownGpu| {
        gpu.fast()?.throttle_reasons.known()?;
        Some(windowed("clock_event", &gpu.recent.clock_events, |reason| clock_event(reason)))
    };
    within_window(
        shown,
        &mut out,
        "DCGM_EXP_CLOCK_EVENTS_COUNT",
        "Count of clock events within the user-specified time window (see \
         clock-events-count-window-size param).",
        clocks,
    );
    out.finish()
}

/// One count with the label that tells what was counted; none when nothing was.
type Counted = (Option<(&'static str, String)>, u64);

/// The exporter says zero without the label where nothing was counted.
fn windowed<K>(
    label: &'static str,
    counts: &BTreeMap<K, u64>,
    name: impl Fn(&K) -> String,
) -> Vec<Counted> {
    if counts.is_empty() {
        return vec![(None, 0)];
    }
    counts.iter().map(|(key, count)| (Some((label, name(key))), *count)).collect()
}

fn within_window(
    shown: &Shown,
    out: &mut Text,
    name: &str,
    help: &str,
    counts: impl Fn(&ShownGpu) -> Option<Vec<Counted>>,
) {
    let window = [("window_size_in_ms", WINDOW.0.to_string())];
    let mut values = Vec::new();
    for gpu in &shown.gpus {
        for (label, count) in counts(gpu).unwrap_or_default() {
            let more: Vec<_> = window.iter().cloned().chain(label).collect();
            values.push((labels(shown, gpu, &more), count.to_string()));
        }
    }
    out.family(name, Kind::Gauge, help, values);
}

/// The exporter's word for a reason.
fn clock_event(reason: &str) -> String {
    match reason {
        "applications_clocks_setting" => "clocks_setting",
        "sw_power_cap" => "power_cap",
        "sw_thermal_slowdown" => "sw_thermal",
        "hw_thermal_slowdown" => "hw_thermal",
        "hw_power_brake_slowdown" => "hw_power_brake",
        "display_clock_setting" => "display_clocks",
        same => same,
    }
    .to_owned()
}

fn labels(shown: &Shown, gpu: &ShownGpu, more: &[(&'static str, String)]) -> String {
    let minor = gpu.board.minor.get().unwrap_or(gpu.index);
    let mut labels = vec![
        ("gpu", gpu.index.to_string()),
        ("UUID", gpu.board.uuid.to_string()),
        ("pci_bus_id", gpu.board.pci.known().cloned().unwrap_or_default()),
        ("device", format!("nvidia{minor}")),
        ("modelName", gpu.board.name.clone()),
    ];
    if let Some(mig) = &gpu.mig {
        let id = mig.gpu_instance.get().map(|id| id.to_string());
        labels.push(("GPU_I_PROFILE", mig.profile.clone()));
        labels.push(("GPU_I_ID", id.unwrap_or_default()));
    }
    labels.push(("hostname", shown.core.node.to_string()));
    labels.push(("DCGM_FI_DRIVER_VERSION", shown.driver_version.clone().unwrap_or_default()));
    labels.extend(more.iter().cloned());
    labelled(&labels)
}

fn whole<T: Copy + ToString>(value: &Value<T>) -> Option<String> {
    value.get().map(|value| value.to_string())
}

fn flag(value: &Value<bool>) -> Option<String> {
    value.get().map(|is_so| u8::from(is_so).to_string())
}

fn fast(gpu: &ShownGpu, read: impl Fn(&Fast) -> Option<String>) -> Option<String> {
    read(gpu.fast()?)
}

fn mib(gpu: &ShownGpu, read: impl Fn(&Fast) -> &Value<u64>) -> Option<String> {
    read(gpu.fast()?).get().map(|bytes| (bytes / MIB).to_string())
}

fn power(gpu: &ShownGpu, read: impl Fn(&PowerAndClocks) -> Option<String>) -> Option<String> {
    read(gpu.slow()?.power.as_ref()?)
}

fn held_down(gpu: &ShownGpu, read: impl Fn(&HeldDown) -> &Value<u64>) -> Option<String> {
    power(gpu, |power| whole(read(&power.held_down)))
}

fn pcie(gpu: &ShownGpu, read: impl Fn(&Pcie) -> Option<String>) -> Option<String> {
    read(gpu.slow()?.pcie.as_ref()?)
}

fn ecc(gpu: &ShownGpu, read: impl Fn(&Ecc) -> Option<String>) -> Option<String> {
    read(gpu.slow()?.ecc.as_ref()?)
}

fn retired(gpu: &ShownGpu, read: impl Fn(&RetiredPages) -> Option<String>) -> Option<String> {
    ecc(gpu, |ecc| read(&ecc.retired_pages))
}

fn remapped(gpu: &ShownGpu, read: impl Fn(&RemappedRows) -> Option<String>) -> Option<String> {
    ecc(gpu, |ecc| read(&ecc.remapped_rows))
}

/// The sum over the links that count it.
fn links(gpu: &ShownGpu, read: impl Fn(&Link) -> &Value<u64>) -> Option<String> {
    let links = gpu.slow()?.nvlink.as_ref()?.links.known()?;
    let counts: Vec<u64> = links.iter().filter_map(|link| read(link).get()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum::<u64>().to_string())
}

fn gpm(gpu: &ShownGpu, read: impl Fn(&Gpm) -> Option<String>) -> Option<String> {
    read(gpu.slow()?.gpm.as_ref()?.known()?)
}

fn ratio(gpu: &ShownGpu, read: impl Fn(&Gpm) -> &Value<u32>) -> Option<String> {
    let millionths = |ppm| format!("{}.{:06}", ppm / 1_000_000, ppm % 1_000_000);
    gpm(gpu, |gpm| read(gpm).get().map(millionths))
}
