//! MIG: the parts of a GPU that is split, each with a handle of its own.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Out};
use crate::features::MigInstance;
use crate::gate::{handle_for, handle_of, on_gpu, on_slot};
use crate::gpu::Gpu;

/// An H100 can be split into so many parts.
const MOST: c_uint = 7;

/// Runs the body of a call about a MIG instance; a whole GPU does not know it.
fn on_part(
    name: &str,
    device: nvmlDevice_t,
    body: impl FnOnce(&Gpu, &MigInstance) -> Code,
) -> Code {
    on_slot(name, device, |gpu, instance| match instance {
        Some(instance) => body(gpu, instance),
        None => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetMaxMigDeviceCount", device, |_| count.put(MOST))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    part: Out<nvmlDevice_t>,
) -> Code {
    on_gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| {
        if gpu.spec().mig.is_none() {
            return NOT_SUPPORTED;
        }
        match gpu.instances().get(index as usize) {
            Some(instance) => part.put(handle_for(instance.uuid.as_str())),
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    device: nvmlDevice_t,
    parent: Out<nvmlDevice_t>,
) -> Code {
    on_part("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device, |gpu, _| {
        parent.put(handle_of(gpu))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is_part: Out<c_uint>) -> Code {
    on_slot("nvmlDeviceIsMigDeviceHandle", device, |_, instance| {
        is_part.put(c_uint::from(instance.is_some()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> Code {
    on_part("nvmlDeviceGetGpuInstanceId", device, |gpu, instance| {
        let place = gpu.instances().iter().position(|part| part.uuid == instance.uuid);
        let place = place.and_then(|place| c_uint::try_from(place).ok()).unwrap_or(0);
        id.put(instance.gpu_instance.unwrap_or(place + 1))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> Code {
    on_part("nvmlDeviceGetComputeInstanceId", device, |_, instance| {
        id.put(instance.compute_instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    into: Out<nvmlDeviceAttributes_t>,
) -> Code {
    on_part("nvmlDeviceGetAttributes_v2", device, |_, instance| {
        into.put(nvmlDeviceAttributes_t {
            multiprocessorCount: instance.slices() * 16,
            sharedCopyEngineCount: instance.slices(),
            sharedDecoderCount: instance.slices(),
            sharedEncoderCount: 0,
            sharedJpegCount: instance.slices(),
            sharedOfaCount: 0,
            gpuInstanceSliceCount: instance.slices(),
            computeInstanceSliceCount: instance.slices(),
            memorySizeMB: u64::from(instance.memory_mib),
        })
    })
}
