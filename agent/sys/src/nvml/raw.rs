//! NVML's symbols that the wrapper lacks, each behind a safe function.
//!
//! The rule it guards: a symbol is called with a live handle of the same library and a structure of
//! the type that its header names; a symbol that is not there is an error, never a crash.

#![expect(unsafe_code, reason = "C symbols cannot be called otherwise")]

use std::ffi::c_uint;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, EventSet};
use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t, nvmlReturn_t};

/// A symbol that fills one structure about one GPU.
type Fills<T> = unsafe extern "C" fn(nvmlDevice_t, *mut T) -> nvmlReturn_t;

/// A structure whose bytes may all be zero.
trait Plain: Copy {
    fn zero() -> Self;
}

macro_rules! plain {
    ($($name:ty),*) => {
        $(impl Plain for $name {
            fn zero() -> Self {
                // SAFETY: numbers and arrays of numbers only: zero is a value of each.
                unsafe { std::mem::zeroed() }
            }
        })*
    };
}

plain!(
    c_uint,
    ffi::nvmlMemory_t,
    ffi::nvmlRowRemapperHistogramValues_t,
    ffi::nvmlEccSramErrorStatus_t,
    ffi::nvmlGpuFabricInfo_t,
    ffi::nvmlGpuFabricInfoV_t,
    ffi::nvmlGridLicensableFeatures_t
);

/// `NVML_STRUCT_VERSION`: a structure's size and its number.
const fn version_of<T>(number: u32) -> u32 {
    // Structures of NVML are far smaller than 16 MiB.
    size_of::<T>() as u32 | number << 24
}

/// Calls a symbol that fills one structure.
///
/// # Safety
/// `symbol` must be one that writes a `T` and nothing else.
unsafe fn fill<T: Plain, E: std::fmt::Display>(
    device: &Device<'_>,
    symbol: &Result<Fills<T>, E>,
    mut into: T,
) -> Result<T, NvmlError> {
    let missing = |error: &E| NvmlError::FailedToLoadSymbol(error.to_string());
    let symbol = symbol.as_ref().map_err(missing)?;
    // SAFETY: the handle lives as long as `device`; `into` is a valid `T` of this frame.
    nvml_try(unsafe { symbol(device.handle(), &mut into) })?;
    Ok(into)
}

/// `nvmlEventSetWait_v2`: the wrapper's own leaves out which MIG instance an event is of.
pub(super) fn next_event(
    set: &EventSet<'_>,
    timeout_ms: u32,
) -> Result<ffi::nvmlEventData_t, NvmlError> {
    let symbol = nvml_sym(set.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
    let mut event = ffi::nvmlEventData_t {
        device: std::ptr::null_mut(),
        eventType: 0,
        eventData: 0,
        gpuInstanceId: c_uint::MAX,
        computeInstanceId: c_uint::MAX,
    };
    // SAFETY: the set's handle lives as long as `set`; the header has this symbol write one
    // `nvmlEventData_t`.
    nvml_try(unsafe { symbol(set.handle(), &mut event, timeout_ms) })?;
    Ok(event)
}

/// `nvmlDeviceGetMemoryInfo`: the first version, for drivers before R510. Its `used` holds what
/// the driver reserves.
pub(super) fn memory_v1(device: &Device<'_>) -> Result<ffi::nvmlMemory_t, NvmlError> {
    let symbol = &device.nvml().lib().nvmlDeviceGetMemoryInfo;
    // SAFETY: the header has this symbol write one `nvmlMemory_t`.
    unsafe { fill(device, symbol, Plain::zero()) }
}

/// Rows of memory that were replaced by spare ones.
#[derive(Clone, Copy)]
pub(super) struct Remapped {
    pub(super) correctable: u32,
    pub(super) uncorrectable: u32,
    pub(super) is_pending: bool,
    pub(super) has_failed: bool,
}

/// `nvmlDeviceGetRemappedRows`.
pub(super) fn remapped_rows(device: &Device<'_>) -> Result<Remapped, NvmlError> {
    let symbol = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let [mut corrected, mut uncorrected, mut pending, mut failed] = [0; 4];
    // SAFETY: the handle lives as long as `device`; the header has this symbol write four numbers.
    let code = unsafe {
        symbol(device.handle(), &mut corrected, &mut uncorrected, &mut pending, &mut failed)
    };
    nvml_try(code)?;
    Ok(Remapped {
        correctable: corrected,
        uncorrectable: uncorrected,
        is_pending: pending != 0,
        has_failed: failed != 0,
    })
}

/// `nvmlDeviceGetRowRemapperHistogram`.
pub(super) fn remap_histogram(
    device: &Device<'_>,
) -> Result<ffi::nvmlRowRemapperHistogramValues_t, NvmlError> {
    let symbol = &device.nvml().lib().nvmlDeviceGetRowRemapperHistogram;
    // SAFETY: the header has this symbol write one such structure.
    unsafe { fill(device, symbol, Plain::zero()) }
}

/// `nvmlDeviceGetSramEccErrorStatus`.
pub(super) fn sram_errors(device: &Device<'_>) -> Result<ffi::nvmlEccSramErrorStatus_t, NvmlError> {
    let symbol = &device.nvml().lib().nvmlDeviceGetSramEccErrorStatus;
    let version = version_of::<ffi::nvmlEccSramErrorStatus_t>(1);
    let asked = ffi::nvmlEccSramErrorStatus_t { version, ..Plain::zero() };
    // SAFETY: the header has this symbol write one structure of the version that it holds.
    unsafe { fill(device, symbol, asked) }
}

/// The state of the NVLink fabric, as far as the driver's version of the structure has it.
#[derive(Clone, Copy)]
pub(super) struct FabricState {
    pub(super) state: u8,
    pub(super) status: nvmlReturn_t,
    pub(super) clique: u32,
    pub(super) cluster: [u8; 16],
    pub(super) health_mask: Option<u32>,
}

/// `nvmlDeviceGetGpuFabricInfoV`, or the symbol before it where the library does not know the
/// structure.
pub(super) fn fabric(device: &Device<'_>) -> Result<FabricState, NvmlError> {
    let library = device.nvml().lib();
    let version = version_of::<ffi::nvmlGpuFabricInfoV_t>(3);
    let asked = ffi::nvmlGpuFabricInfoV_t { version, ..Plain::zero() };
    // SAFETY: the header has this symbol write one structure of the version that it holds.
    let answer = unsafe { fill(device, &library.nvmlDeviceGetGpuFabricInfoV, asked) };
    match answer {
        Ok(told) => Ok(FabricState {
            state: told.state,
            status: told.status,
            clique: told.cliqueId,
            cluster: told.clusterUuid,
            health_mask: Some(told.healthMask),
        }),
        Err(NvmlError::UnexpectedVariant(25) | NvmlError::FailedToLoadSymbol(_)) => {
            // SAFETY: the header has this symbol write one `nvmlGpuFabricInfo_t`.
            let told = unsafe { fill(device, &library.nvmlDeviceGetGpuFabricInfo, Plain::zero()) }?;
            Ok(FabricState {
                state: told.state,
                status: told.status,
                clique: told.cliqueId,
                cluster: told.clusterUuid,
                health_mask: None,
            })
        }
        Err(error) => Err(error),
    }
}

/// `nvmlDeviceGetNvLinkRemoteDeviceType` (the wrapper's own drops the answer).
pub(super) fn nvlink_remote(device: &Device<'_>, link: u32) -> Result<u32, NvmlError> {
    let symbol = nvml_sym(device.nvml().lib().nvmlDeviceGetNvLinkRemoteDeviceType.as_ref())?;
    let mut kind: c_uint = 0;
    // SAFETY: the handle lives as long as `device`; the header has this symbol write one number.
    nvml_try(unsafe { symbol(device.handle(), link, &mut kind) })?;
    Ok(kind)
}

/// `nvmlDeviceGetModuleId`: the place of the GPU on its board.
pub(super) fn module_id(device: &Device<'_>) -> Result<u32, NvmlError> {
    // SAFETY: the header has this symbol write one number.
    unsafe { fill(device, &device.nvml().lib().nvmlDeviceGetModuleId, 0) }
}

/// `nvmlDeviceGetGpuInstanceId` of a MIG device.
pub(super) fn gpu_instance(device: &Device<'_>) -> Result<u32, NvmlError> {
    // SAFETY: the header has this symbol write one number.
    unsafe { fill(device, &device.nvml().lib().nvmlDeviceGetGpuInstanceId, 0) }
}

/// `nvmlDeviceGetComputeInstanceId` of a MIG device.
pub(super) fn compute_instance(device: &Device<'_>) -> Result<u32, NvmlError> {
    // SAFETY: the header has this symbol write one number.
    unsafe { fill(device, &device.nvml().lib().nvmlDeviceGetComputeInstanceId, 0) }
}

/// `nvmlDeviceGetGpuMaxPcieLinkGeneration`: what the GPU can, whatever its slot can.
pub(super) fn gpu_pcie_generation(device: &Device<'_>) -> Result<u32, NvmlError> {
    // SAFETY: the header has this symbol write one number.
    unsafe { fill(device, &device.nvml().lib().nvmlDeviceGetGpuMaxPcieLinkGeneration, 0) }
}

/// `nvmlDeviceGetFieldValues` of the data counters of all NVLinks together, sent and received, in
/// KiB (the wrapper's own cannot name all links).
pub(super) fn nvlink_data(device: &Device<'_>) -> Result<[Result<u64, NvmlError>; 2], NvmlError> {
    use ffi::field_id::{
        NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX as RECEIVED,
        NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX as SENT,
    };
    let symbol = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let asked = |field| ffi::nvmlFieldValue_t {
        fieldId: field,
        scopeId: c_uint::MAX,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: 0,
        value: ffi::nvmlValue_t { ullVal: 0 },
    };
    let mut values = [asked(SENT), asked(RECEIVED)];
    // SAFETY: the handle lives as long as `device`; the header has this symbol fill so many values.
    nvml_try(unsafe { symbol(device.handle(), 2, values.as_mut_ptr()) })?;
    Ok(values.map(|value| {
        nvml_try(value.nvmlReturn)?;
        // SAFETY: every field of this union is a number, and zero where the library wrote less.
        Ok(unsafe { value.value.ullVal })
    }))
}

/// `nvmlDeviceGetGridLicensableFeatures_v4`: whether any feature of virtual GPUs is licensed.
pub(super) fn vgpu_license(device: &Device<'_>) -> Result<bool, NvmlError> {
    let symbol = &device.nvml().lib().nvmlDeviceGetGridLicensableFeatures_v4;
    // SAFETY: the header has this symbol write one such structure.
    let told =
        unsafe { fill::<ffi::nvmlGridLicensableFeatures_t, _>(device, symbol, Plain::zero()) }?;
    let count = (told.licensableFeaturesCount as usize).min(told.gridLicensableFeatures.len());
    Ok(told.gridLicensableFeatures[..count].iter().any(|feature| feature.featureEnabled != 0))
}
