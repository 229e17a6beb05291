//! The page's numbers, read back by a strict reader of Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wharfage_agent_sys::nvml::{
    Ecc, Fast, Gpm, Memory, MigInstance, Modes, RemappedRows, RetiredPages, Temperature,
    Utilization, Value, Versions,
};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::telemetry::GpuReading;

use super::gpus::{Readings, ShownGpu, ShownRecent, ShownXids};
use super::{Shown, dcgm, metrics};
use crate::gpu::MIB;
use crate::gpu::held::{Held, Other};
use crate::gpu::state::tests::board;

/// The names of the exporter's default list and the ones it has commented out, where NVML gives
/// the value.
const KNOWN: &str = "
    SM_CLOCK MEM_CLOCK MEMORY_TEMP GPU_TEMP POWER_USAGE TOTAL_ENERGY_CONSUMPTION
    PCIE_REPLAY_COUNTER GPU_UTIL MEM_COPY_UTIL ENC_UTIL DEC_UTIL XID_ERRORS POWER_VIOLATION
    THERMAL_VIOLATION SYNC_BOOST_VIOLATION BOARD_LIMIT_VIOLATION LOW_UTIL_VIOLATION
    RELIABILITY_VIOLATION FB_FREE FB_USED FB_RESERVED ECC_SBE_VOL_TOTAL ECC_DBE_VOL_TOTAL
    ECC_SBE_AGG_TOTAL ECC_DBE_AGG_TOTAL RETIRED_SBE RETIRED_DBE RETIRED_PENDING
    NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL NVLINK_CRC_DATA_ERROR_COUNT_TOTAL
    NVLINK_REPLAY_ERROR_COUNT_TOTAL NVLINK_RECOVERY_ERROR_COUNT_TOTAL
    NVLINK_BANDWIDTH_TOTAL VGPU_LICENSE_STATUS
    UNCORRECTABLE_REMAPPED_ROWS CORRECTABLE_REMAPPED_ROWS ROW_REMAP_FAILURE";

const KNOWN_PROFILING: &str = "
    GR_ENGINE_ACTIVE SM_ACTIVE SM_OCCUPANCY PIPE_TENSOR_ACTIVE DRAM_ACTIVE PIPE_FP64_ACTIVE
    PIPE_FP32_ACTIVE PIPE_FP16_ACTIVE PCIE_TX_BYTES PCIE_RX_BYTES";

fn fast() -> Fast {
    Fast {
        memory: Memory {
            total_bytes: Value::Value(1000 * MIB),
            used_bytes: Value::Value(300 * MIB),
            free_bytes: Value::Value(600 * MIB),
            reserved_bytes: Value::Value(100 * MIB),
        },
        utilization: Utilization {
            gpu_percent: Value::Value(40),
            memory_percent: Value::Value(0),
            encoder_percent: Value::Unsupported,
            decoder_percent: Value::Error("the driver is not ready yet".to_owned()),
        },
        temperature: Temperature { gpu_c: Value::Value(61), memory_c: Value::Unsupported },
        power_mw: Value::Value(412_034),
        throttle_reasons: Value::Value(vec!["sw_power_cap".to_owned()]),
        processes: Value::Value(Vec::new()),
    }
}

fn ecc() -> Ecc {
    Ecc {
        is_enabled: Value::Value(true),
        will_be_enabled: Value::Value(true),
        volatile_corrected: Value::Value(3),
        volatile_uncorrected: Value::Value(0),
        aggregate_corrected: Value::Value(9),
        aggregate_uncorrected: Value::Unsupported,
        sram_volatile_uncorrected: Value::Unsupported,
        sram_aggregate_uncorrected: Value::Unsupported,
        sram_threshold_exceeded: Value::Unsupported,
        retired_pages: RetiredPages {
            single_bit: Value::Unsupported,
            double_bit: Value::Unsupported,
            is_pending: Value::Unsupported,
        },
        remapped_rows: RemappedRows {
            correctable: Value::Value(1),
            uncorrectable: Value::Value(2),
            is_pending: Value::Value(false),
            has_failed: Value::Value(true),
            banks: Value::Unsupported,
        },
    }
}

fn modes() -> Modes {
    Modes {
        is_mig: Value::Value(false),
        will_be_mig: Value::Value(false),
        max_mig_instances: Value::Unsupported,
        compute_mode: Value::Unsupported,
        is_persistent: Value::Value(true),
        is_vgpu_licensed: Value::Value(false),
    }
}

fn gpm() -> Gpm {
    Gpm {
        graphics_active_ppm: Value::Value(401_234),
        sm_active_ppm: Value::Value(1_000_000),
        sm_occupancy_ppm: Value::Value(5),
        tensor_active_ppm: Value::Unsupported,
        dram_active_ppm: Value::Unsupported,
        fp64_active_ppm: Value::Unsupported,
        fp32_active_ppm: Value::Unsupported,
        fp16_active_ppm: Value::Unsupported,
        pcie_tx_bytes_per_second: Value::Value(123_456_789),
        pcie_rx_bytes_per_second: Value::Unsupported,
        nvlink_tx_bytes_per_second: Value::Unsupported,
        nvlink_rx_bytes_per_second: Value::Unsupported,
    }
}

fn gpu(uuid: &str, index: u32, age_ms: u64) -> ShownGpu {
    let board = board(uuid, index, "00000000:1B:00.0");
    let reading = GpuReading {
        uuid: uuid.into(),
        memory_used_mib: Some(300),
        memory_reserved_mib: Some(100),
        utilization: Some(40),
        temperature_c: Some(61),
        power_mw: Some(412_034),
        age_ms,
        trouble: None,
        unread: None,
    };
    let readings = Readings {
        fast: Some(Arc::new(fast())),
        ecc: Some(ecc()),
        gpm: Some(Value::Value(gpm())),
        modes: Some(modes()),
        nvlink_mb_per_second: Some(1200),
        slow_age_ms: Some(age_ms),
        ..Readings::default()
    };
    let xids = ShownXids { last: Some(79), counts: BTreeMap::from([(79, 2)]) };
    let name = board.name.clone();
    let memory_total_mib = 1000;
    let recent = ShownRecent {
        xids: BTreeMap::from([(79, 2)]),
        clock_events: BTreeMap::from([("sw_power_cap".to_owned(), 3)]),
    };
    let (mig, held) = (None, None);
    ShownGpu { reading, index, name, memory_total_mib, mig, board, readings, xids, recent, held }
}

fn shown(gpus: Vec<ShownGpu>) -> Shown {
    let config = wharfage_agent_core::Config::default();
    let (agent, _) = wharfage_agent_core::Agent::new(crate::testing::found(), config);
    Shown {
        engine_loads: BTreeMap::new(),
        core: agent.status(),
        gpus,
        gpus_missing: Vec::new(),
        gpu_names: Vec::new(),
        driver_version: Some("580.95\\\"05".to_owned()),
        driver_versions: Versions::default(),
        gpu_helpers: 1,
        last_answer_ago: None,
        reports_sent: 0,
        unknown_fields: BTreeMap::new(),
        engines: Vec::new(),
        hooks: Vec::new(),
        refused: Vec::new(),
        driver: "process",
        hearing: Vec::new(),
        shutdown_delay: None,
        alarms: Vec::new(),
        notes: Vec::new(),
    }
}

/// What a strict reader finds: kind and samples by name.
type Families = BTreeMap<String, (String, Vec<(BTreeMap<String, String>, f64)>)>;

/// Reads Prometheus' text: each family once, help and type first, every sample below its own
/// family, every label quoted, no series twice.
fn read(text: &str) -> Families {
    let mut families = Families::new();
    let mut helped = None;
    let mut current = String::new();
    let mut series = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help text");
            assert!(!words.is_empty());
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(helped.take().as_deref(), Some(name), "help comes first");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            let before = families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            assert!(before.is_none(), "{name} stands there twice");
            name.clone_into(&mut current);
        } else {
            let (series_of, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            let (name, labels) = match series_of.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').expect("a brace")),
                None => (series_of, ""),
            };
            assert_eq!(name, current, "a sample below its own family");
            assert!(series.insert(series_of.to_owned()), "{series_of} stands there twice");
            let family = families.get_mut(name).expect("a family");
            family.1.push((labels_of(labels), value));
        }
    }
    families
}

fn labels_of(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => match letters.next().expect("an escaped letter").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        let rest = &rest[end + 1..];
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

#[test]
fn the_exporters_names_units_and_labels_are_kept() {
    let families = read(&dcgm::text(&shown(vec![gpu("GPU-a", 0, 300), gpu("GPU-b", 1, 300)])));
    let device = KNOWN.split_whitespace().map(|name| format!("DCGM_FI_DEV_{name}"));
    let profiling = KNOWN_PROFILING.split_whitespace().map(|name| format!("DCGM_FI_PROF_{name}"));
    let counted = ["XID_ERRORS_COUNT", "CLOCK_EVENTS_COUNT"].map(|it| format!("DCGM_EXP_{it}"));
    let known: BTreeSet<String> = device.chain(profiling).chain(counted).collect();
    for name in families.keys() {
        assert!(known.contains(name), "`{name}` is no name of the exporter's");
    }
    let value = |name: &str| families[name].1[0].1;
    assert_eq!(value("DCGM_FI_DEV_FB_FREE"), 600.0);
    assert_eq!(value("DCGM_FI_DEV_POWER_USAGE"), 412.034);
    assert_eq!(value("DCGM_FI_DEV_XID_ERRORS"), 79.0);
    assert_eq!(value("DCGM_FI_DEV_MEM_COPY_UTIL"), 0.0, "a zero that was read is said");
    assert_eq!(value("DCGM_FI_DEV_ROW_REMAP_FAILURE"), 1.0);
    assert_eq!(value("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), 0.401_234);
    assert_eq!(value("DCGM_FI_PROF_SM_ACTIVE"), 1.0);
    assert_eq!(value("DCGM_FI_PROF_PCIE_TX_BYTES"), 123_456_789.0);
    assert_eq!(value("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"), 1200.0);
    assert_eq!(value("DCGM_FI_DEV_VGPU_LICENSE_STATUS"), 0.0);
    assert_eq!(families["DCGM_FI_DEV_ECC_SBE_AGG_TOTAL"].0, "counter");
    assert_eq!(families["DCGM_FI_DEV_FB_USED"].1.len(), 2);
    let labels = &families["DCGM_FI_DEV_GPU_TEMP"].1[1].0;
    let expected = [
        ("DCGM_FI_DRIVER_VERSION", "580.95\\\"05"),
        ("UUID", "GPU-b"),
        ("device", "nvidia1"),
        ("gpu", "1"),
        ("hostname", "node-1"),
        ("modelName", "NVIDIA H100 80GB HBM3"),
        ("pci_bus_id", "00000000:1B:00.0"),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(labels, expected);
}

#[test]
fn what_is_unsupported_failed_or_old_is_a_gap_and_no_zero() {
    let families = read(&dcgm::text(&shown(vec![gpu("GPU-a", 0, 300)])));
    for absent in ["ENC_UTIL", "DEC_UTIL", "MEMORY_TEMP", "RETIRED_DBE", "ECC_DBE_AGG_TOTAL"] {
        assert!(!families.contains_key(&format!("DCGM_FI_DEV_{absent}")), "{absent}");
    }
    let old = read(&dcgm::text(&shown(vec![gpu("GPU-a", 0, 10_001)])));
    let names = ["DCGM_EXP_XID_ERRORS_COUNT", "DCGM_FI_DEV_XID_ERRORS"];
    assert_eq!(old.keys().collect::<Vec<_>>(), names);
}

#[test]
fn what_the_exporter_counts_in_a_window_has_its_labels_and_nothing_is_a_zero_without() {
    let mut quiet = gpu("GPU-b", 1, 300);
    quiet.recent = ShownRecent::default();
    let families = read(&dcgm::text(&shown(vec![gpu("GPU-a", 0, 300), quiet])));
    let counted = |name: &str, label: &str| -> Vec<(Option<String>, f64)> {
        let (kind, samples) = &families[name];
        assert_eq!(kind, "gauge");
        let one = |(labels, value): &(BTreeMap<String, String>, f64)| {
            assert_eq!(labels["window_size_in_ms"], "300000");
            (labels.get(label).cloned(), *value)
        };
        samples.iter().map(one).collect()
    };
    let xids = counted("DCGM_EXP_XID_ERRORS_COUNT", "xid");
    assert_eq!(xids, [(Some("79".to_owned()), 2.0), (None, 0.0)]);
    let clocks = counted("DCGM_EXP_CLOCK_EVENTS_COUNT", "clock_event");
    assert_eq!(clocks, [(Some("power_cap".to_owned()), 3.0), (None, 0.0)]);
}

#[test]
fn a_mig_instance_is_labelled_with_its_profile() {
    let mut part = gpu("GPU-a", 0, 0);
    part.mig = Some(MigInstance {
        parent: "GPU-a".into(),
        profile: "1g.10gb".to_owned(),
        gpu_instance: Value::Value(7),
        compute_instance: Value::Value(0),
    });
    let families = read(&dcgm::text(&shown(vec![part])));
    let labels = &families["DCGM_FI_DEV_FB_USED"].1[0].0;
    assert_eq!((&*labels["GPU_I_PROFILE"], &*labels["GPU_I_ID"]), ("1g.10gb", "7"));
}

#[test]
fn our_own_numbers_read_as_strictly() {
    let families = read(&metrics::text(&shown(vec![gpu("GPU-a", 0, 300)])));
    assert_eq!(families["wharfage_gpu_memory_used_bytes"].1[0].1, 314_572_800.0);
    assert_eq!(
        families["wharfage_gpu_xids_total"],
        ("counter".to_owned(), {
            vec![(BTreeMap::from([("uuid".to_owned(), "GPU-a".to_owned())]), 2.0)]
        })
    );
    assert!(!families.contains_key("wharfage_gpu_retired_pages"));
}

#[test]
fn memory_is_told_as_promised_as_measured_and_as_unexplained() {
    let mut loading = gpu("GPU-a", 0, 300);
    let (mine, stranger) = (ReplicaId(7), ReplicaId(8));
    loading.held = Some(Held {
        promised: [(mine, 1000)].into(),
        replicas: [(mine, Some(300)), (stranger, None)].into(),
        others: Some(vec![Other { pid: 1, name: None, bytes: Some(40) }]),
        unexplained_bytes: Some(2),
    });
    let mut untold = gpu("GPU-b", 1, 300);
    untold.held = Some(Held {
        others: Some(vec![Other { pid: 1, name: None, bytes: None }]),
        ..Held::default()
    });
    let mut unlisted = gpu("GPU-c", 2, 300);
    unlisted.held = Some(Held::default());
    let mut old = loading.clone();
    old.reading.age_ms = 10_001;
    let families = read(&metrics::text(&shown(vec![loading, untold, unlisted])));
    let samples = |name: &str| -> Vec<(Option<String>, f64)> {
        let (_, samples) = &families[&format!("wharfage_gpu_memory_{name}")];
        samples.iter().map(|(labels, value)| (labels.get("replica").cloned(), *value)).collect()
    };
    assert_eq!(samples("promised_bytes"), [(Some("r-7".to_owned()), 1000.0)]);
    assert_eq!(samples("held_bytes"), [(Some("r-7".to_owned()), 300.0)], "8's are not told");
    assert_eq!(samples("others_bytes"), [(None, 40.0)]);
    assert_eq!(samples("unexplained_bytes"), [(None, 2.0)]);
    let families = read(&metrics::text(&shown(vec![old])));
    assert!(!families.contains_key("wharfage_gpu_memory_held_bytes"), "an old reading is a gap");
}

#[test]
fn the_page_says_unsupported_where_there_is_nothing() {
    let page = serde_json::to_value(shown(vec![gpu("GPU-a", 0, 300)])).expect("plain data");
    let gpu = &page["gpus"][0];
    assert_eq!(gpu["memory_used_mib"], 300, "what heartbeats carry keeps its names");
    assert_eq!(gpu["readings"]["memory"]["reserved_bytes"], 104_857_600);
    assert_eq!(gpu["readings"]["utilization"]["encoder_percent"], "unsupported");
    let failed = &gpu["readings"]["utilization"]["decoder_percent"];
    assert_eq!(failed["error"], "the driver is not ready yet");
    assert_eq!(gpu["readings"]["ecc"]["remapped_rows"]["has_failed"], true);
    assert_eq!(gpu["readings"]["nvlink"], serde_json::Value::Null, "not read yet");
    // What the helper writes, the agent reads.
    let read: Ecc = serde_json::from_value(gpu["readings"]["ecc"].clone()).expect("it reads back");
    assert_eq!(read, ecc());
    let read: Fast = serde_json::from_value(serde_json::to_value(fast()).expect("plain data"))
        .expect("it reads back");
    assert_eq!(read, fast());
}
