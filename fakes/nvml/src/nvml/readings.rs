//! What changes from second to second: utilization, temperature, power and clocks.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t, nvmlUtilization_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, SUCCESS, VERSION_MISMATCH};
use crate::gate::on_gpu;
use crate::gpu::Gpu;

/// `NVML_STRUCT_VERSION(Temperature, 1)`.
const TEMPERATURE_V1: u32 = size_of::<ffi::nvmlTemperature_v1_t>() as u32 | 1 << 24;

/// Every reason that this stand-in can be told to report.
const ALL_THROTTLE_REASONS: c_ulonglong = 0x1ff;

const MAX_SM_MHZ: c_uint = 1980;
const IDLE_SM_MHZ: c_uint = 345;
const MEMORY_MHZ: c_uint = 2619;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    into: Out<nvmlUtilization_t>,
) -> Code {
    on_gpu("nvmlDeviceGetUtilizationRates", device, |gpu| {
        // A GPU that is split has no utilization of its own.
        if gpu.spec().mig.is_some() {
            return NOT_SUPPORTED;
        }
        let busy = gpu.utilization();
        into.put(nvmlUtilization_t { gpu: busy.gpu, memory: busy.memory })
    })
}

/// Video engines stand still; the sampling period is what a real board states.
fn idle_engine(name: &str, device: nvmlDevice_t, busy: &Out<c_uint>, us: &Out<c_uint>) -> Code {
    on_gpu(name, device, |_| match busy.put(0) {
        SUCCESS => us.put(167_000),
        refused => refused,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEncoderUtilization(
    device: nvmlDevice_t,
    busy: Out<c_uint>,
    period_us: Out<c_uint>,
) -> Code {
    idle_engine("nvmlDeviceGetEncoderUtilization", device, &busy, &period_us)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDecoderUtilization(
    device: nvmlDevice_t,
    busy: Out<c_uint>,
    period_us: Out<c_uint>,
) -> Code {
    idle_engine("nvmlDeviceGetDecoderUtilization", device, &busy, &period_us)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    sensor: c_uint,
    degrees: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetTemperature", device, |gpu| {
        if sensor != ffi::nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU {
            return INVALID_ARGUMENT;
        }
        degrees.put(gpu.temperature())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureV(
    device: nvmlDevice_t,
    into: Out<ffi::nvmlTemperature_v1_t>,
) -> Code {
    on_gpu("nvmlDeviceGetTemperatureV", device, |gpu| {
        let Some(mut answer) = into.held() else {
            return INVALID_ARGUMENT;
        };
        if answer.version != TEMPERATURE_V1 {
            return VERSION_MISMATCH;
        }
        answer.temperature = i32::try_from(gpu.temperature()).unwrap_or(i32::MAX);
        into.put(answer)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: nvmlDevice_t,
    threshold: c_uint,
    degrees: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetTemperatureThreshold", device, |_| match threshold {
        ffi::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SHUTDOWN => degrees.put(92),
        ffi::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SLOWDOWN => degrees.put(89),
        ffi::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_MEM_MAX => degrees.put(95),
        ffi::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_GPU_MAX => degrees.put(87),
        _ => NOT_SUPPORTED,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, milliwatts: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetPowerUsage", device, |gpu| milliwatts.put(gpu.power()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: nvmlDevice_t, limit: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetEnforcedPowerLimit", device, |gpu| limit.put(gpu.power_limit()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimit(device: nvmlDevice_t, limit: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetPowerManagementLimit", device, |gpu| limit.put(gpu.power_limit()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(
    device: nvmlDevice_t,
    limit: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetPowerManagementDefaultLimit", device, |_| limit.put(700_000))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: nvmlDevice_t,
    least: Out<c_uint>,
    most: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetPowerManagementLimitConstraints", device, |_| match least.put(200_000) {
        SUCCESS => most.put(700_000),
        refused => refused,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: nvmlDevice_t,
    millijoules: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetTotalEnergyConsumption", device, |gpu| millijoules.put(gpu.energy()))
}

/// An idle GPU clocks down; a busy one runs at its maximum.
fn clock(gpu: &Gpu, kind: c_uint) -> Option<c_uint> {
    let core = if gpu.utilization().gpu == 0 { IDLE_SM_MHZ } else { MAX_SM_MHZ };
    match kind {
        ffi::nvmlClockType_enum_NVML_CLOCK_GRAPHICS | ffi::nvmlClockType_enum_NVML_CLOCK_SM => {
            Some(core)
        }
        ffi::nvmlClockType_enum_NVML_CLOCK_MEM => Some(MEMORY_MHZ),
        ffi::nvmlClockType_enum_NVML_CLOCK_VIDEO => Some(core * 3 / 4),
        _ => None,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(device: nvmlDevice_t, kind: c_uint, mhz: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetClockInfo", device, |gpu| {
        clock(gpu, kind).map_or(INVALID_ARGUMENT, |value| mhz.put(value))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: nvmlDevice_t,
    kind: c_uint,
    mhz: Out<c_uint>,
) -> Code {
    on_gpu("nvmlDeviceGetMaxClockInfo", device, |_| match kind {
        ffi::nvmlClockType_enum_NVML_CLOCK_GRAPHICS | ffi::nvmlClockType_enum_NVML_CLOCK_SM => {
            mhz.put(MAX_SM_MHZ)
        }
        ffi::nvmlClockType_enum_NVML_CLOCK_MEM => mhz.put(MEMORY_MHZ),
        ffi::nvmlClockType_enum_NVML_CLOCK_VIDEO => mhz.put(MAX_SM_MHZ * 3 / 4),
        _ => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPerformanceState(device: nvmlDevice_t, state: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetPerformanceState", device, |_| state.put(0))
}

fn reasons(name: &str, device: nvmlDevice_t, into: &Out<c_ulonglong>) -> Code {
    on_gpu(name, device, |gpu| {
        let told = gpu.spec().health.clocks_throttle_reasons;
        let is_idle = gpu.utilization().gpu == 0;
        let idle = if is_idle { ffi::nvmlClocksThrottleReasonGpuIdle } else { 0 };
        into.put(told | c_ulonglong::from(idle))
    })
}

/// Nothing but heat has held these clocks down; the causes are those that the header numbers first.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetViolationStatus(
    device: nvmlDevice_t,
    cause: c_uint,
    into: Out<ffi::nvmlViolationTime_t>,
) -> Code {
    on_gpu("nvmlDeviceGetViolationStatus", device, |gpu| {
        if cause > ffi::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_RELIABILITY {
            return NOT_SUPPORTED;
        }
        let now = super::fields::now_us().unsigned_abs();
        let is_heat = cause == ffi::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_THERMAL;
        let held_ms = if is_heat { gpu.spec().health.held_down_by_heat_ms } else { 0 };
        let held = held_ms.saturating_mul(1_000_000);
        into.put(ffi::nvmlViolationTime_t { referenceTime: now, violationTime: held })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: nvmlDevice_t,
    into: Out<c_ulonglong>,
) -> Code {
    reasons("nvmlDeviceGetCurrentClocksThrottleReasons", device, &into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(
    device: nvmlDevice_t,
    into: Out<c_ulonglong>,
) -> Code {
    reasons("nvmlDeviceGetCurrentClocksEventReasons", device, &into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedClocksThrottleReasons(
    device: nvmlDevice_t,
    into: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetSupportedClocksThrottleReasons", device, |_| {
        into.put(ALL_THROTTLE_REASONS)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedClocksEventReasons(
    device: nvmlDevice_t,
    into: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetSupportedClocksEventReasons", device, |_| into.put(ALL_THROTTLE_REASONS))
}
