//! `[nvml]`: how GPUs are read.

use std::path::PathBuf;

use serde::Deserialize;

use super::yes;

/// How GPUs are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvml {
    /// Whether to look for GPUs at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The library's path (default: the system's `libnvidia-ml.so.1`).
    pub library: Option<PathBuf>,
    /// The path of CUDA's driver library (default: the system's `libcuda.so.1`).
    pub cuda_library: Option<PathBuf>,
    /// Where the kernel driver lists its GPUs.
    #[serde(default = "default_driver_gpus")]
    pub driver_gpus: PathBuf,
    /// Where the kernel lists what is on the PCI bus.
    #[serde(default = "default_pci_devices")]
    pub pci_devices: PathBuf,
}

impl Default for Nvml {
    fn default() -> Self {
        Self {
            enabled: true,
            library: None,
            cuda_library: None,
            driver_gpus: default_driver_gpus(),
            pci_devices: default_pci_devices(),
        }
    }
}

fn default_driver_gpus() -> PathBuf {
    PathBuf::from("/proc/driver/nvidia/gpus")
}

fn default_pci_devices() -> PathBuf {
    PathBuf::from("/sys/bus/pci/devices")
}
