//! Performance counters: a sample keeps what the GPU did when it was taken.

use std::collections::BTreeMap;
use std::ffi::c_uint;
use std::sync::{Mutex, PoisonError};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t, nvmlGpmSample_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, SUCCESS, VERSION_MISMATCH};
use crate::gate::{call, on_gpu};
use crate::gpu::Gpu;
use crate::spec::Utilization;

static SAMPLES: Mutex<Samples> = Mutex::new(Samples { next: 1, taken: BTreeMap::new() });

struct Samples {
    next: usize,
    /// What each sample saw, once it was taken.
    taken: BTreeMap<usize, Option<Utilization>>,
}

fn samples<T>(look: impl FnOnce(&mut Samples) -> T) -> T {
    look(&mut SAMPLES.lock().unwrap_or_else(PoisonError::into_inner))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nvmlDevice_t,
    into: Out<ffi::nvmlGpmSupport_t>,
) -> Code {
    on_gpu("nvmlGpmQueryDeviceSupport", device, |gpu| {
        if into.version() != Some(ffi::NVML_GPM_SUPPORT_VERSION) {
            return VERSION_MISMATCH;
        }
        let version = ffi::NVML_GPM_SUPPORT_VERSION;
        let has_counters = c_uint::from(gpu.spec().modes.gpm);
        into.put(ffi::nvmlGpmSupport_t { version, isSupportedDevice: has_counters })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(sample: Out<nvmlGpmSample_t>) -> Code {
    call("nvmlGpmSampleAlloc", |_| {
        samples(|samples| {
            let code = sample.put(std::ptr::without_provenance_mut(samples.next));
            if code == SUCCESS {
                samples.taken.insert(samples.next, None);
                samples.next += 1;
            }
            code
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> Code {
    call("nvmlGpmSampleFree", |_| {
        let freed = samples(|samples| samples.taken.remove(&sample.addr()));
        freed.map_or(INVALID_ARGUMENT, |_| SUCCESS)
    })
}

fn take(gpu: &Gpu, sample: nvmlGpmSample_t) -> Code {
    if !gpu.spec().modes.gpm {
        return NOT_SUPPORTED;
    }
    let busy = gpu.utilization();
    samples(|samples| match samples.taken.get_mut(&sample.addr()) {
        Some(taken) => {
            *taken = Some(busy);
            SUCCESS
        }
        None => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleGet(device: nvmlDevice_t, sample: nvmlGpmSample_t) -> Code {
    on_gpu("nvmlGpmSampleGet", device, |gpu| take(gpu, sample))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(
    device: nvmlDevice_t,
    _gpu_instance: c_uint,
    sample: nvmlGpmSample_t,
) -> Code {
    on_gpu("nvmlGpmMigSampleGet", device, |gpu| take(gpu, sample))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMetricsGet(mut into: Out<ffi::nvmlGpmMetricsGet_t>) -> Code {
    call("nvmlGpmMetricsGet", |_| {
        if into.version() != Some(ffi::NVML_GPM_METRICS_GET_VERSION) {
            return VERSION_MISMATCH;
        }
        let Some([asked]) = into.row(1) else {
            return INVALID_ARGUMENT;
        };
        let taken = |sample: nvmlGpmSample_t| {
            samples(|samples| samples.taken.get(&sample.addr()).copied().flatten())
        };
        let (Some(_), Some(busy)) = (taken(asked.sample1), taken(asked.sample2)) else {
            return INVALID_ARGUMENT;
        };
        // A caller's row may be shorter than ours: only what it asked for is touched.
        let Some(metrics) = asked.metrics.get_mut(..asked.numMetrics as usize) else {
            return INVALID_ARGUMENT;
        };
        for metric in metrics {
            match value_of(busy, metric.metricId) {
                Some(value) => {
                    metric.value = value;
                    metric.nvmlReturn = SUCCESS;
                }
                None => metric.nvmlReturn = NOT_SUPPORTED,
            }
        }
        SUCCESS
    })
}

/// What a GPU that is this busy would show: percent, or MiB per second.
fn value_of(busy: Utilization, metric: c_uint) -> Option<f64> {
    let (gpu, memory) = (f64::from(busy.gpu), f64::from(busy.memory));
    match metric {
        ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_GRAPHICS_UTIL
        | ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL => Some(gpu),
        ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_OCCUPANCY
        | ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_ANY_TENSOR_UTIL => Some(gpu / 2.0),
        ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_DRAM_BW_UTIL => Some(memory),
        ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_FP64_UTIL
        | ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_FP32_UTIL
        | ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_FP16_UTIL => Some(gpu / 10.0),
        ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_PCIE_TX_PER_SEC
        | ffi::nvmlGpmMetricId_t_NVML_GPM_METRIC_PCIE_RX_PER_SEC => Some(gpu * 10.0),
        _ => None,
    }
}
