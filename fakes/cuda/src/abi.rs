//! The C side of the boundary: the pointers that callers hand in, and the return codes.
//!
//! `Out` wraps the raw pointer, so that `unsafe` stands in this file only. It cannot be made in
//! Rust; it arrives from C callers, who promise what `cuda.h` demands: null, or valid for one value.
//! Null is answered with "invalid value".

use std::ffi::{CStr, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `CUresult`.
pub type Code = c_uint;

pub const SUCCESS: Code = 0;
pub const INVALID_VALUE: Code = 1;
pub const OUT_OF_MEMORY: Code = 2;
pub const NOT_INITIALIZED: Code = 3;
pub const NO_DEVICE: Code = 100;
pub const INVALID_DEVICE: Code = 101;
pub const INVALID_CONTEXT: Code = 201;
pub const ILLEGAL_STATE: Code = 401;
pub const NOT_READY: Code = 600;
pub const NOT_SUPPORTED: Code = 801;
pub const UNKNOWN: Code = 999;

/// The names of the codes that the stand-in answers or that drills tend to name.
pub fn name(code: Code) -> Option<&'static CStr> {
    Some(match code {
        SUCCESS => c"CUDA_SUCCESS",
        INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        NOT_INITIALIZED => c"CUDA_ERROR_NOT_INITIALIZED",
        4 => c"CUDA_ERROR_DEINITIALIZED",
        46 => c"CUDA_ERROR_DEVICE_UNAVAILABLE",
        NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
        INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
        INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
        214 => c"CUDA_ERROR_ECC_UNCORRECTABLE",
        304 => c"CUDA_ERROR_OPERATING_SYSTEM",
        ILLEGAL_STATE => c"CUDA_ERROR_ILLEGAL_STATE",
        NOT_READY => c"CUDA_ERROR_NOT_READY",
        NOT_SUPPORTED => c"CUDA_ERROR_NOT_SUPPORTED",
        802 => c"CUDA_ERROR_SYSTEM_NOT_READY",
        803 => c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        UNKNOWN => c"CUDA_ERROR_UNKNOWN",
        _ => return None,
    })
}

/// Where a caller wants one value.
#[repr(transparent)]
pub struct Out<T: Copy>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the value.
    pub fn put(&self, value: T) -> Code {
        if self.0.is_null() {
            return INVALID_VALUE;
        }
        // SAFETY: not null, and by the contract of this file valid for one `T`.
        unsafe { self.0.write(value) };
        SUCCESS
    }
}

/// A panic must not cross into C.
pub fn shielded(body: impl FnOnce() -> Result<Code, Code>) -> Code {
    catch_unwind(AssertUnwindSafe(|| body().unwrap_or_else(|code| code))).unwrap_or(UNKNOWN)
}
