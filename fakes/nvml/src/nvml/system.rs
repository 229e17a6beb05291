//! Start and end of the library, its versions and the text of its errors.

use std::ffi::{c_char, c_int, c_uint};

use crate::abi::{self, Code, Out};
use crate::gate::{self, call};
use crate::gpu;

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Code {
    gate::init()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit() -> Code {
    gate::init()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Code {
    gate::init()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Code {
    gate::shutdown()
}

/// The words of NVIDIA's own library.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: Code) -> *const c_char {
    let text = match code {
        abi::SUCCESS => c"Success",
        abi::UNINITIALIZED => c"Uninitialized",
        abi::INVALID_ARGUMENT => c"Invalid Argument",
        abi::NOT_SUPPORTED => c"Not Supported",
        4 => c"Insufficient Permissions",
        5 => c"Already Initialized",
        abi::NOT_FOUND => c"Not Found",
        abi::INSUFFICIENT_SIZE => c"Insufficient Size",
        8 => c"Insufficient External Power",
        abi::DRIVER_NOT_LOADED => c"Driver Not Loaded",
        abi::TIMEOUT => c"Timeout",
        11 => c"Interrupt Request Issue",
        12 => c"NVML Shared Library Not Found",
        13 => c"Function Not Found",
        14 => c"Corrupted infoROM",
        abi::GPU_IS_LOST => c"GPU is lost",
        16 => c"GPU requires reset",
        17 => c"GPU access blocked by the operating system",
        18 => c"Driver/library version mismatch",
        19 => c"In use by another client",
        20 => c"Insufficient Memory",
        21 => c"No data",
        23 => c"Insufficient Resources",
        abi::VERSION_MISMATCH => c"Argument version mismatch",
        27 => c"Not Ready",
        28 => c"GPU not found",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(mut version: Out<c_char>, length: c_uint) -> Code {
    call("nvmlSystemGetDriverVersion", |contents| {
        version.put_text(length, gpu::driver_version(&contents.fleet))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(mut version: Out<c_char>, length: c_uint) -> Code {
    call("nvmlSystemGetNVMLVersion", |contents| {
        version.put_text(length, &gpu::nvml_version(&contents.fleet))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) -> Code {
    call("nvmlSystemGetCudaDriverVersion", |contents| {
        version.put(gpu::cuda_version(&contents.fleet).code())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) -> Code {
    call("nvmlSystemGetCudaDriverVersion_v2", |contents| {
        version.put(gpu::cuda_version(&contents.fleet).code())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetProcessName(pid: c_uint, mut name: Out<c_char>, length: c_uint) -> Code {
    call("nvmlSystemGetProcessName", |_| {
        let Ok(line) = std::fs::read_to_string(format!("/proc/{pid}/cmdline")) else {
            return abi::NOT_FOUND;
        };
        let mut program = line.split('\0').next().unwrap_or_default();
        // The real library cuts a name that is too long as well.
        while program.len() >= length as usize && !program.is_empty() {
            program = &program[..program.floor_char_boundary(program.len() - 1)];
        }
        name.put_text(length, program)
    })
}
