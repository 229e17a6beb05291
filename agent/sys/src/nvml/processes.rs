//! Processes that hold a GPU, by pid, with the memory that they hold.

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use serde::{Deserialize, Serialize};

use super::Value;
use super::trouble::{Listener, is_unsupported};

/// As `/status` calls the list.
const FIELD: &str = "processes";

/// A process that holds a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its pid, as the host counts.
    pub pid: u32,
    /// What it holds; absent where the driver does not say (in a pid namespace, under MIG).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Processes that compute, also through MPS, and those that draw; one with several contexts once.
pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> Value<Vec<GpuProcess>> {
    let mut held = BTreeMap::new();
    match device.running_compute_processes() {
        Ok(processes) => add(&mut held, processes),
        Err(error) => {
            let function = "nvmlDeviceGetComputeRunningProcesses_v3";
            return listener.value(FIELD, function, Err(error));
        }
    }
    // A board that only computes has no other lists.
    let drawing = device.running_graphics_processes();
    let shared = device.mps_running_compute_processes();
    for (function, others) in [
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", drawing),
        ("nvmlDeviceGetMPSComputeRunningProcesses_v3", shared),
    ] {
        match others {
            Ok(processes) => add(&mut held, processes),
            Err(error) if is_unsupported(&error) || matches!(error, NvmlError::InvalidArg) => {}
            Err(error) => return listener.value(FIELD, function, Err(error)),
        }
    }
    Value::Value(held.into_iter().map(|(pid, bytes)| GpuProcess { pid, bytes }).collect())
}

fn add(held: &mut BTreeMap<u32, Option<u64>>, processes: Vec<ProcessInfo>) {
    for process in processes {
        let bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = held.entry(process.pid).or_default();
        *known = (*known).max(bytes);
    }
}
