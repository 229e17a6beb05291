//! GPU readings under the names of NVIDIA's dcgm-exporter, so that boards which people have work.
//! Only what NVML gives here is served; nothing is made up for the rest.

use wharfage_shared::telemetry::{GpuIdentity, GpuReading};

use super::Shown;
use super::metrics::{Text, escaped};

type Read = fn(&GpuIdentity, &GpuReading) -> Option<String>;

const FAMILIES: [(&str, &str, Read); 6] = [
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", |_, gpu| {
        gpu.temperature_c.map(|degrees| degrees.to_string())
    }),
    ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", |_, gpu| {
        gpu.power_mw.map(|milliwatts| format!("{}.{:03}", milliwatts / 1000, milliwatts % 1000))
    }),
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", |_, gpu| {
        gpu.utilization.map(|share| share.to_string())
    }),
    ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", |identity, gpu| {
        let taken = gpu.memory_used_mib? + gpu.memory_reserved_mib.unwrap_or(0);
        Some(identity.memory_mib.saturating_sub(taken).to_string())
    }),
    ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", |_, gpu| {
        gpu.memory_used_mib.map(|mib| mib.to_string())
    }),
    ("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", |_, gpu| {
        gpu.memory_reserved_mib.map(|mib| mib.to_string())
    }),
];

/// All of them.
pub fn text(shown: &Shown) -> String {
    let mut out = Text::default();
    for (name, help, read) in FAMILIES {
        out.gauge(name, help);
        for (index, (identity, gpu)) in shown.gpu_names.iter().zip(&shown.gpus).enumerate() {
            // A reading that is in trouble is old: a gap says so better than a flat line.
            if let Some(value) = read(identity, gpu).filter(|_| gpu.trouble.is_none()) {
                out.value(&labels(shown, index, identity), &value);
            }
        }
    }
    out.finish()
}

fn labels(shown: &Shown, index: usize, gpu: &GpuIdentity) -> String {
    let driver = shown.driver_version.as_deref().unwrap_or_default();
    let labels = [
        ("gpu", index.to_string()),
        ("UUID", gpu.uuid.to_string()),
        ("pci_bus_id", gpu.pci.clone().unwrap_or_default()),
        ("device", format!("nvidia{index}")),
        ("modelName", gpu.name.clone()),
        ("hostname", shown.core.node.to_string()),
        ("DCGM_FI_DRIVER_VERSION", driver.to_owned()),
    ];
    let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
    labels.join(",")
}
