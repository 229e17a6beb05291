//! How a GPU is set up: MIG, compute mode, persistence.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::ComputeMode;
use nvml_wrapper_sys::bindings as ffi;
use serde::{Deserialize, Serialize};

use super::Value;
use super::raw;
use super::trouble::Listener;

/// How a GPU is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Whether it is split into MIG instances.
    pub is_mig: Value<bool>,
    /// Whether it will be after the next reset.
    pub will_be_mig: Value<bool>,
    /// So many instances it can be split into at most.
    pub max_mig_instances: Value<u32>,
    /// `default`, `exclusive_process`, `exclusive_thread`, `prohibited`.
    pub compute_mode: Value<String>,
    /// Whether the driver stays loaded while nobody uses the GPU.
    pub is_persistent: Value<bool>,
    /// Whether a vGPU feature is licensed.
    #[serde(default = "unsupported")]
    pub is_vgpu_licensed: Value<bool>,
}

fn unsupported() -> Value<bool> {
    Value::Unsupported
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> Modes {
    let mig = listener.value("modes.is_mig", "nvmlDeviceGetMigMode", device.mig_mode());
    let compute_mode =
        listener.value("modes.compute_mode", "nvmlDeviceGetComputeMode", device.compute_mode());
    let compute_mode = compute_mode.map(|mode| {
        match mode {
            ComputeMode::Default => "default",
            ComputeMode::ExclusiveThread => "exclusive_thread",
            ComputeMode::Prohibited => "prohibited",
            ComputeMode::ExclusiveProcess => "exclusive_process",
        }
        .to_owned()
    });
    Modes {
        is_mig: mig.clone().map(|mode| mode.current == ffi::NVML_DEVICE_MIG_ENABLE),
        will_be_mig: mig.map(|mode| mode.pending == ffi::NVML_DEVICE_MIG_ENABLE),
        max_mig_instances: listener.value(
            "modes.max_mig_instances",
            "nvmlDeviceGetMaxMigDeviceCount",
            device.mig_device_count(),
        ),
        compute_mode,
        is_persistent: listener.value(
            "modes.is_persistent",
            "nvmlDeviceGetPersistenceMode",
            device.is_in_persistent_mode(),
        ),
        is_vgpu_licensed: listener.value(
            "modes.is_vgpu_licensed",
            "nvmlDeviceGetGridLicensableFeatures_v4",
            raw::vgpu_license(device),
        ),
    }
}
