//! Memory of a GPU or a MIG instance: total, used, free and reserved apart.

use nvml_wrapper::Device;
use serde::{Deserialize, Serialize};

use super::Value;
use super::raw;
use super::trouble::{Listener, is_unsupported};

/// Memory in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total_bytes: Value<u64>,
    /// In use; without what the driver reserves, where the driver tells that apart.
    pub used_bytes: Value<u64>,
    /// What can be had.
    pub free_bytes: Value<u64>,
    /// What the driver keeps for itself; unsupported by drivers before R510.
    pub reserved_bytes: Value<u64>,
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> Memory {
    match device.memory_info() {
        Ok(memory) => Memory {
            total_bytes: Value::Value(memory.total),
            used_bytes: Value::Value(memory.used),
            free_bytes: Value::Value(memory.free),
            reserved_bytes: Value::Value(memory.reserved),
        },
        Err(error) if is_unsupported(&error) => {
            let memory =
                listener.value("memory", "nvmlDeviceGetMemoryInfo", raw::memory_v1(device));
            Memory {
                total_bytes: memory.clone().map(|memory| memory.total),
                used_bytes: memory.clone().map(|memory| memory.used),
                free_bytes: memory.map(|memory| memory.free),
                reserved_bytes: Value::Unsupported,
            }
        }
        Err(error) => {
            let failed: Value<u64> =
                listener.value("memory", "nvmlDeviceGetMemoryInfo_v2", Err(error));
            Memory {
                total_bytes: failed.clone(),
                used_bytes: failed.clone(),
                free_bytes: failed.clone(),
                reserved_bytes: failed,
            }
        }
    }
}
