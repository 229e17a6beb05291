//! How the GPU is set up: ECC, MIG, persistence and compute mode, and which CPUs are near.

use std::ffi::{c_uint, c_ulong};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t};

use crate::abi::{Code, INVALID_ARGUMENT, Out, SUCCESS};
use crate::features::ComputeMode;
use crate::gate::on_gpu;
use crate::gpu::Gpu;

/// A mode that is the same now and after the next reboot.
fn both(
    name: &str,
    device: nvmlDevice_t,
    at: [&Out<c_uint>; 2],
    is_on: impl FnOnce(&Gpu) -> bool,
) -> Code {
    on_gpu(name, device, |gpu| {
        let value = c_uint::from(is_on(gpu));
        match at[0].put(value) {
            SUCCESS => at[1].put(value),
            refused => refused,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(
    device: nvmlDevice_t,
    current: Out<c_uint>,
    pending: Out<c_uint>,
) -> Code {
    both("nvmlDeviceGetEccMode", device, [&current, &pending], |gpu| gpu.spec().modes.ecc)
}

/// No virtual GPU is licensed: a host that runs replicas has whole ones.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGridLicensableFeatures_v4(
    device: nvmlDevice_t,
    mut into: Out<ffi::nvmlGridLicensableFeatures_t>,
) -> Code {
    on_gpu("nvmlDeviceGetGridLicensableFeatures_v4", device, |_| {
        let Some([told]) = into.row(1) else {
            return INVALID_ARGUMENT;
        };
        told.isGridLicenseSupported = 0;
        told.licensableFeaturesCount = 0;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: Out<c_uint>,
    pending: Out<c_uint>,
) -> Code {
    both("nvmlDeviceGetMigMode", device, [&current, &pending], |gpu| gpu.spec().mig.is_some())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPersistenceMode(device: nvmlDevice_t, mode: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetPersistenceMode", device, |gpu| {
        mode.put(c_uint::from(gpu.spec().modes.persistence))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetComputeMode", device, |gpu| {
        mode.put(match gpu.spec().modes.compute {
            ComputeMode::Default => ffi::nvmlComputeMode_enum_NVML_COMPUTEMODE_DEFAULT,
            ComputeMode::ExclusiveProcess => {
                ffi::nvmlComputeMode_enum_NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
            }
            ComputeMode::Prohibited => ffi::nvmlComputeMode_enum_NVML_COMPUTEMODE_PROHIBITED,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMultiGpuBoard(device: nvmlDevice_t, is_multi: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetMultiGpuBoard", device, |_| is_multi.put(0))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNumaNodeId(device: nvmlDevice_t, node: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetNumaNodeId", device, |gpu| node.put(gpu.spec().numa_node))
}

/// The first `bits` bits of a caller's mask are set, the others cleared.
fn fill_mask(mask: &mut [c_ulong], bits: usize) {
    for (index, word) in mask.iter_mut().enumerate() {
        let width = c_ulong::BITS as usize;
        let left = bits.saturating_sub(index * width).min(width);
        *word = if left == width { c_ulong::MAX } else { (1 << left) - 1 };
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCpuAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    mut mask: Out<c_ulong>,
) -> Code {
    on_gpu("nvmlDeviceGetCpuAffinity", device, |_| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        match mask.row(words as usize) {
            Some(row) => {
                fill_mask(row, cpus);
                SUCCESS
            }
            None => INVALID_ARGUMENT,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    mut mask: Out<c_ulong>,
    _scope: c_uint,
) -> Code {
    on_gpu("nvmlDeviceGetMemoryAffinity", device, |gpu| {
        let node = gpu.spec().numa_node;
        let Some(row) = mask.row(words as usize) else {
            return INVALID_ARGUMENT;
        };
        row.fill(0);
        if let Some(word) = row.get_mut((node / c_ulong::BITS) as usize) {
            *word = 1 << (node % c_ulong::BITS);
        }
        SUCCESS
    })
}

#[cfg(test)]
mod tests {
    use super::fill_mask;

    #[test]
    fn a_mask_covers_exactly_the_cpus_that_there_are() {
        let mut mask = [7; 3];
        fill_mask(&mut mask, 65);
        assert_eq!(mask, [u64::MAX, 1, 0]);
        fill_mask(&mut mask, 2);
        assert_eq!(mask, [3, 0, 0]);
    }
}
