//! What tells that a GPU wears out: memory errors, retired pages, remapped rows, the PCIe link.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t};

use crate::abi::{Code, INVALID_ARGUMENT, Out, SUCCESS};
use crate::gate::on_gpu;
use crate::gpu::Gpu;

/// Memory banks of an H100.
const BANKS: c_uint = 2560;

/// Errors of one kind; volatile and aggregate counts are the same, the board has had one boot.
fn ecc_errors(gpu: &Gpu, kind: c_uint, counter: c_uint) -> Option<c_ulonglong> {
    if counter >= ffi::nvmlEccCounterType_enum_NVML_ECC_COUNTER_TYPE_COUNT {
        return None;
    }
    match kind {
        ffi::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => {
            Some(gpu.spec().health.ecc_corrected)
        }
        ffi::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => {
            Some(gpu.spec().health.ecc_uncorrected)
        }
        _ => None,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    kind: c_uint,
    counter: c_uint,
    count: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetTotalEccErrors", device, |gpu| {
        ecc_errors(gpu, kind, counter).map_or(INVALID_ARGUMENT, |errors| count.put(errors))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: nvmlDevice_t,
    kind: c_uint,
    counter: c_uint,
    location: c_uint,
    count: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetMemoryErrorCounter", device, |gpu| {
        let Some(errors) = ecc_errors(gpu, kind, counter) else {
            return INVALID_ARGUMENT;
        };
        // Every error that the folder tells of is one of the board's own memory.
        let in_memory = location == ffi::nvmlMemoryLocation_enum_NVML_MEMORY_LOCATION_DEVICE_MEMORY;
        count.put(if in_memory { errors } else { 0 })
    })
}

fn retired(
    name: &str,
    device: nvmlDevice_t,
    cause: c_uint,
    rows: [&mut Out<c_ulonglong>; 2],
    count: &Out<c_uint>,
) -> Code {
    on_gpu(name, device, |gpu| {
        let double_bit =
            ffi::nvmlPageRetirementCause_enum_NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR;
        let pages = if cause == double_bit { gpu.spec().health.retired_pages } else { 0 };
        let addresses: Vec<c_ulonglong> = (0..u64::from(pages)).map(|page| page << 16).collect();
        let [at, when] = rows;
        let code = at.put_all(count, &addresses);
        if code == SUCCESS {
            // The older form of the call has no row for the moments.
            if let Some(row) = when.row(addresses.len()) {
                row.fill(0);
            }
        }
        code
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages(
    device: nvmlDevice_t,
    cause: c_uint,
    count: Out<c_uint>,
    mut addresses: Out<c_ulonglong>,
) -> Code {
    let rows = [&mut addresses, &mut Out::none()];
    retired("nvmlDeviceGetRetiredPages", device, cause, rows, &count)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: nvmlDevice_t,
    cause: c_uint,
    count: Out<c_uint>,
    mut addresses: Out<c_ulonglong>,
    mut moments: Out<c_ulonglong>,
) -> Code {
    let rows = [&mut addresses, &mut moments];
    retired("nvmlDeviceGetRetiredPages_v2", device, cause, rows, &count)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPagesPendingStatus(
    device: nvmlDevice_t,
    pending: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetRetiredPagesPendingStatus", device, |_| {
        pending.put(ffi::nvmlEnableState_enum_NVML_FEATURE_DISABLED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    corrected: Out<c_uint>,
    uncorrected: Out<c_uint>,
    pending: Out<c_uint>,
    failed: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetRemappedRows", device, |gpu| {
        let health = &gpu.spec().health;
        let answers = [
            corrected.put(health.remapped_corrected),
            uncorrected.put(health.remapped_uncorrected),
            pending.put(c_uint::from(health.remap_pending)),
            failed.put(c_uint::from(health.remap_failed)),
        ];
        answers.into_iter().find(|code| *code != SUCCESS).unwrap_or(SUCCESS)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRowRemapperHistogram(
    device: nvmlDevice_t,
    into: Out<ffi::nvmlRowRemapperHistogramValues_t>,
) -> Code {
    on_gpu("nvmlDeviceGetRowRemapperHistogram", device, |gpu| {
        let none = gpu.spec().health.banks_without_spares.min(BANKS);
        into.put(ffi::nvmlRowRemapperHistogramValues_t {
            max: BANKS - none,
            high: 0,
            partial: 0,
            low: 0,
            none,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(
    device: nvmlDevice_t,
    generation: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetCurrPcieLinkGeneration", device, |gpu| {
        generation.put(gpu.spec().health.pcie_generation.unwrap_or(5))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetCurrPcieLinkWidth", device, |gpu| {
        width.put(gpu.spec().health.pcie_width.unwrap_or(16))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkGeneration(
    device: nvmlDevice_t,
    generation: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetMaxPcieLinkGeneration", device, |_| generation.put(5))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuMaxPcieLinkGeneration(
    device: nvmlDevice_t,
    generation: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetGpuMaxPcieLinkGeneration", device, |_| generation.put(5))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetMaxPcieLinkWidth", device, |_| width.put(16))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieReplayCounter(device: nvmlDevice_t, count: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetPcieReplayCounter", device, |gpu| {
        count.put(gpu.spec().health.pcie_replays)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieThroughput(
    device: nvmlDevice_t,
    _counter: c_uint,
    kilobytes: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetPcieThroughput", device, |gpu| kilobytes.put(gpu.utilization().gpu * 1000))
}
