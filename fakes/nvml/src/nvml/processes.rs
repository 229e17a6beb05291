//! Who uses a GPU: the claims of living processes.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_t, nvmlProcessUtilizationSample_t};

use crate::abi::{Code, Out};
use crate::gate::{on_gpu, on_slot};

/// What stands for "no MIG instance".
const NO_INSTANCE: c_uint = c_uint::MAX;

fn computing(
    name: &str,
    device: nvmlDevice_t,
    count: &Out<c_uint>,
    into: &mut Out<nvmlProcessInfo_t>,
) -> Code {
    on_slot(name, device, |gpu, instance| {
        let uuid = instance.map_or(&gpu.spec().uuid, |instance| &instance.uuid);
        let processes: Vec<nvmlProcessInfo_t> = gpu
            .claims_on(uuid)
            .live
            .iter()
            .map(|claim| nvmlProcessInfo_t {
                pid: claim.pid,
                usedGpuMemory: claim.bytes,
                gpuInstanceId: NO_INSTANCE,
                computeInstanceId: NO_INSTANCE,
            })
            .collect();
        into.put_all(count, &processes)
    })
}

/// Nothing draws on these GPUs and nothing shares them through MPS.
fn nobody(
    name: &str,
    device: nvmlDevice_t,
    count: &Out<c_uint>,
    into: &mut Out<nvmlProcessInfo_t>,
) -> Code {
    on_slot(name, device, |_, _| into.put_all(count, &[]))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    mut into: Out<nvmlProcessInfo_t>,
) -> Code {
    computing("nvmlDeviceGetComputeRunningProcesses_v3", device, &count, &mut into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    mut into: Out<nvmlProcessInfo_t>,
) -> Code {
    computing("nvmlDeviceGetComputeRunningProcesses_v2", device, &count, &mut into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    mut into: Out<nvmlProcessInfo_t>,
) -> Code {
    nobody("nvmlDeviceGetGraphicsRunningProcesses_v3", device, &count, &mut into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v2(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    mut into: Out<nvmlProcessInfo_t>,
) -> Code {
    nobody("nvmlDeviceGetGraphicsRunningProcesses_v2", device, &count, &mut into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    mut into: Out<nvmlProcessInfo_t>,
) -> Code {
    nobody("nvmlDeviceGetMPSComputeRunningProcesses_v3", device, &count, &mut into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    mut into: Out<nvmlProcessUtilizationSample_t>,
    count: Out<c_uint>,
    _last_seen_us: c_ulonglong,
) -> Code {
    on_gpu("nvmlDeviceGetProcessUtilization", device, |gpu| {
        let now = super::fields::now_us();
        let samples: Vec<nvmlProcessUtilizationSample_t> = gpu
            .claims()
            .live
            .iter()
            .map(|claim| nvmlProcessUtilizationSample_t {
                pid: claim.pid,
                timeStamp: now.unsigned_abs(),
                smUtil: claim.utilization,
                memUtil: claim.utilization / 2,
                encUtil: 0,
                decUtil: 0,
            })
            .collect();
        into.put_all(&count, &samples)
    })
}
