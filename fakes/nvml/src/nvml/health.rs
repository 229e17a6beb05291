//! What tells that a GPU wears out: memory errors, retired pages, remapped rows, the PCIe link.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, SUCCESS, VERSION_MISMATCH};
use crate::gate::on_gpu;
use crate::gpu::Gpu;

/// Memory banks of an H100.
const BANKS: c_uint = 2560;

/// Errors of one kind, since the driver was loaded or in the board's life.
fn ecc_errors(gpu: &Gpu, kind: c_uint, counter: c_uint) -> Option<c_ulonglong> {
    let health = &gpu.spec().health;
    let (volatile, aggregate) = match kind {
        ffi::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => {
            (health.ecc_corrected, health.ecc_aggregate_corrected)
        }
        ffi::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => {
            (health.ecc_uncorrected, health.ecc_aggregate_uncorrected)
        }
        _ => return None,
    };
    match counter {
        ffi::nvmlEccCounterType_enum_NVML_VOLATILE_ECC => Some(volatile),
        ffi::nvmlEccCounterType_enum_NVML_AGGREGATE_ECC => Some(aggregate.unwrap_or(volatile)),
        _ => None,
    }
}

/// `NVML_STRUCT_VERSION(EccSramErrorStatus, 1)`.
const SRAM_V1: u32 = size_of::<ffi::nvmlEccSramErrorStatus_v1_t>() as u32 | 1 << 24;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSramEccErrorStatus(
    device: nvmlDevice_t,
    into: Out<ffi::nvmlEccSramErrorStatus_v1_t>,
) -> Code {
    on_gpu("nvmlDeviceGetSramEccErrorStatus", device, |gpu| {
        if into.version() != Some(SRAM_V1) {
            return VERSION_MISMATCH;
        }
        let errors = gpu.spec().health.sram_uncorrected;
        into.put(ffi::nvmlEccSramErrorStatus_v1_t {
            version: SRAM_V1,
            aggregateUncParity: 0,
            aggregateUncSecDed: errors,
            aggregateCor: 0,
            volatileUncParity: 0,
            volatileUncSecDed: errors,
            volatileCor: 0,
            aggregateUncBucketL2: errors,
            aggregateUncBucketSm: 0,
            aggregateUncBucketPcie: 0,
            aggregateUncBucketMcu: 0,
            aggregateUncBucketOther: 0,
            bThresholdExceeded: c_uint::from(errors >= SRAM_THRESHOLD),
        })
    })
}

/// From so many on the stand-in says that the board is to be replaced.
const SRAM_THRESHOLD: u64 = 10;

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
        let Some(pages) = gpu.spec().health.retired_pages else {
            return NOT_SUPPORTED;
        };
        let pages = if cause == double_bit { pages } else { 0 };
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
    on_gpu("nvmlDeviceGetRetiredPagesPendingStatus", device, |gpu| {
        match gpu.spec().health.retired_pages {
            Some(_) => pending.put(c_uint::from(gpu.spec().health.retirement_pending)),
            None => NOT_SUPPORTED,
        }
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
        // As real boards do while they are split.
        if !gpu.instances().is_empty() {
            return NOT_SUPPORTED;
        }
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
    on_gpu("nvmlDeviceGetMaxPcieLinkGeneration", device, |gpu| {
        generation.put(gpu.spec().health.pcie_max_generation.unwrap_or(5))
    })
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
