//! The exported functions, under the names that `cuda.h` gives today's versions.

use std::ffi::{CStr, c_char, c_int, c_uint};

use wharfage_fake_gpus::gpu;

use crate::abi::{self, Code, INVALID_DEVICE, INVALID_VALUE, NOT_SUPPORTED, Out, shielded};
use crate::process::{self, admitted, started};

/// A context is its device's number and one, so that none is null.
type Context = usize;

fn device(number: c_int) -> Result<usize, Code> {
    usize::try_from(number).map_err(|_| INVALID_DEVICE)
}

/// The uuid of a device, once `name` may be called for it.
fn admitted_for(name: &str, number: c_int) -> Result<(usize, String), Code> {
    let device = device(number)?;
    let uuid = started(|process| process.uuid(device).map(str::to_owned))?;
    // Not under the process's lock: a call that hangs must not hang the others.
    admitted(name, Some(&uuid))?;
    Ok((device, uuid))
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> Code {
    shielded(|| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        process::init().map(|()| abi::SUCCESS)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> Code {
    shielded(|| {
        let contents = admitted("cuDriverGetVersion", None)?;
        Ok(version.put(gpu::cuda_version(&contents.fleet).code()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(code: Code, text: Out<*const c_char>) -> Code {
    let name = abi::name(code);
    let put = text.put(name.map_or(std::ptr::null(), CStr::as_ptr));
    if name.is_some() { put } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> Code {
    shielded(|| {
        let devices = started(|process| Ok(process.device_count()))?;
        admitted("cuDeviceGetCount", None)?;
        Ok(count.put(c_int::try_from(devices).unwrap_or(c_int::MAX)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(into: Out<c_int>, index: c_int) -> Code {
    shielded(|| {
        admitted_for("cuDeviceGet", index)?;
        Ok(into.put(index))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(into: Out<[u8; 16]>, number: c_int) -> Code {
    shielded(|| {
        let (_, uuid) = admitted_for("cuDeviceGetUuid", number)?;
        // CUDA has room for NVIDIA's own form only; folders may name GPUs as they like.
        let plain = uuid.split_once('-').map_or("", |(_, plain)| plain);
        let digits: String = plain.chars().filter(|c| *c != '-').collect();
        let number = (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
        number.map(|number| into.put(number.to_be_bytes())).ok_or(NOT_SUPPORTED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(into: Out<Context>, number: c_int) -> Code {
    shielded(|| {
        let (device, _) = admitted_for("cuDevicePrimaryCtxRetain", number)?;
        started(|process| {
            process.retain(device);
            Ok(into.put(device + 1))
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(number: c_int) -> Code {
    shielded(|| {
        let (device, _) = admitted_for("cuDevicePrimaryCtxRelease", number)?;
        started(|process| process.release(device).map(|()| abi::SUCCESS))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: Context) -> Code {
    shielded(|| {
        let device = context.checked_sub(1).ok_or(abi::INVALID_CONTEXT)?;
        started(|process| process.push(device).map(|()| abi::SUCCESS))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent_v2(into: Out<Context>) -> Code {
    shielded(|| process::pop().map(|device| into.put(device + 1)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(into: Out<u64>, bytes: usize) -> Code {
    shielded(|| {
        let current = started(|process| process.uuid(process.current()?).map(str::to_owned))?;
        let contents = admitted("cuMemAlloc", Some(&current))?;
        started(|process| process.allocate(contents, bytes as u64).map(|at| into.put(at)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Code {
    shielded(|| {
        admitted("cuMemFree", None)?;
        started(|process| process.free(address).map(|()| abi::SUCCESS))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> Code {
    shielded(|| {
        let contents = admitted("cuMemGetInfo", None)?;
        let read = started(|process| process.memory(contents, process.current()?))?;
        let [read_free, read_total] = [read.0, read.1].map(|bytes| bytes as usize);
        Ok(free.put(read_free).max(total.put(read_total)))
    })
}
