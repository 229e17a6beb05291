//! `nvmlDeviceGetFieldValues`: many values in one call, each with its own return code.

use std::ffi::{c_int, c_uint};
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings::{self as ffi, field_id, nvmlDevice_t, nvmlFieldValue_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, SUCCESS};
use crate::gate::on_gpu;
use crate::gpu::Gpu;

/// How many fields one call may ask for; the real library knows about 280.
const MOST_FIELDS: usize = 1024;

enum Value {
    Int(c_uint),
    Long(u64),
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    mut fields: Out<nvmlFieldValue_t>,
) -> Code {
    on_gpu("nvmlDeviceGetFieldValues", device, |gpu| {
        let row = usize::try_from(count).ok().filter(|count| (1..=MOST_FIELDS).contains(count));
        let Some(row) = row.and_then(|count| fields.row(count)) else {
            return INVALID_ARGUMENT;
        };
        let now = now_us();
        for field in row {
            field.timestamp = now;
            field.latencyUsec = 0;
            match value_of(gpu, field.fieldId).or_else(|| of_links(gpu, field)) {
                Some(Value::Int(value)) => {
                    field.valueType = ffi::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
                    field.value = ffi::nvmlValue_t { ullVal: u64::from(value) };
                    field.nvmlReturn = SUCCESS;
                }
                Some(Value::Long(value)) => {
                    field.valueType = ffi::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
                    field.value = ffi::nvmlValue_t { ullVal: value };
                    field.nvmlReturn = SUCCESS;
                }
                None => field.nvmlReturn = NOT_SUPPORTED,
            }
        }
        SUCCESS
    })
}

fn value_of(gpu: &Gpu, field: c_uint) -> Option<Value> {
    let health = &gpu.spec().health;
    match field {
        field_id::NVML_FI_DEV_ECC_CURRENT | field_id::NVML_FI_DEV_ECC_PENDING => {
            Some(Value::Int(c_uint::from(gpu.spec().modes.ecc)))
        }
        field_id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL => Some(Value::Long(health.ecc_corrected)),
        field_id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL => Some(Value::Long(health.ecc_uncorrected)),
        field_id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL => {
            Some(Value::Long(health.ecc_aggregate_corrected.unwrap_or(health.ecc_corrected)))
        }
        field_id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL => {
            Some(Value::Long(health.ecc_aggregate_uncorrected.unwrap_or(health.ecc_uncorrected)))
        }
        field_id::NVML_FI_DEV_RETIRED_SBE | field_id::NVML_FI_DEV_RETIRED_PENDING => {
            health.retired_pages.map(|_| Value::Int(0))
        }
        field_id::NVML_FI_DEV_RETIRED_DBE => health.retired_pages.map(Value::Int),
        field_id::NVML_FI_DEV_MEMORY_TEMP => Some(Value::Int(gpu.memory_temperature())),
        field_id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION => Some(Value::Long(gpu.energy())),
        field_id::NVML_FI_DEV_PCIE_REPLAY_COUNTER => Some(Value::Int(health.pcie_replays)),
        field_id::NVML_FI_DEV_REMAPPED_COR => Some(Value::Int(health.remapped_corrected)),
        field_id::NVML_FI_DEV_REMAPPED_UNC => Some(Value::Int(health.remapped_uncorrected)),
        field_id::NVML_FI_DEV_REMAPPED_PENDING => {
            Some(Value::Int(c_uint::from(health.remap_pending)))
        }
        field_id::NVML_FI_DEV_REMAPPED_FAILURE => {
            Some(Value::Int(c_uint::from(health.remap_failed)))
        }
        field_id::NVML_FI_DEV_POWER_AVERAGE | field_id::NVML_FI_DEV_POWER_INSTANT => {
            Some(Value::Int(gpu.power()))
        }
        field_id::NVML_FI_DEV_POWER_CURRENT_LIMIT => Some(Value::Int(gpu.power_limit())),
        _ => None,
    }
}

/// Data over one NVLink, or over all of them when none is named.
fn of_links(gpu: &Gpu, field: &nvmlFieldValue_t) -> Option<Value> {
    let links = gpu.spec().nvlinks.as_deref()?;
    let asked = match field.scopeId {
        c_uint::MAX => links,
        one => std::slice::from_ref(links.get(one as usize)?),
    };
    match field.fieldId {
        field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX => {
            Some(Value::Long(asked.iter().map(|link| link.sent_kib).sum()))
        }
        field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX => {
            Some(Value::Long(asked.iter().map(|link| link.received_kib).sum()))
        }
        _ => None,
    }
}

/// Microseconds since 1970, as NVML stamps its samples.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
