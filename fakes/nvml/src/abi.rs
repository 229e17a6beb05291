//! The C side of the boundary: pointers that callers hand in, and the return codes.
//!
//! `Out` and `Text` wrap the raw pointers, so that `unsafe` stands in this file only. They cannot
//! be made in Rust; they arrive from C callers, who promise what `nvml.h` demands: null, or valid
//! for the stated length. Null is answered with "invalid argument".

use std::ffi::{CStr, c_char, c_uint};

use nvml_wrapper_sys::bindings as ffi;

/// An NVML return code.
pub type Code = ffi::nvmlReturn_t;

pub const SUCCESS: Code = ffi::nvmlReturn_enum_NVML_SUCCESS;
pub const UNINITIALIZED: Code = ffi::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED;
pub const INVALID_ARGUMENT: Code = ffi::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
pub const NOT_SUPPORTED: Code = ffi::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
pub const NOT_FOUND: Code = ffi::nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
pub const INSUFFICIENT_SIZE: Code = ffi::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
pub const DRIVER_NOT_LOADED: Code = ffi::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED;
pub const TIMEOUT: Code = ffi::nvmlReturn_enum_NVML_ERROR_TIMEOUT;
pub const GPU_IS_LOST: Code = ffi::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;
pub const VERSION_MISMATCH: Code = ffi::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
pub const UNKNOWN: Code = ffi::nvmlReturn_enum_NVML_ERROR_UNKNOWN;

/// Where a caller wants one value, or several in a row.
#[repr(transparent)]
pub struct Out<T: Copy>(*mut T);

impl<T: Copy> Out<T> {
    /// Stands for an output that a call does not have.
    pub fn none() -> Self {
        Self(std::ptr::null_mut())
    }

    /// Writes the value.
    pub fn put(&self, value: T) -> Code {
        if self.0.is_null() {
            return INVALID_ARGUMENT;
        }
        // SAFETY: not null, and by the contract of this file valid for one `T`.
        unsafe { self.0.write(value) };
        SUCCESS
    }

    /// The value that the caller put there, for calls that read a version or a size first.
    pub fn held(&self) -> Option<T> {
        // SAFETY: not null, and by the contract of this file valid and initialised.
        (!self.0.is_null()).then(|| unsafe { self.0.read() })
    }

    /// The caller's row of `count` values, to be filled in place.
    pub fn row(&mut self, count: usize) -> Option<&mut [T]> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: not null, and by the contract of this file valid for the caller's own count.
        Some(unsafe { std::slice::from_raw_parts_mut(self.0, count) })
    }

    /// The usual NVML conversation about a list: the caller states how many fit, is told how many
    /// there are, and gets them if they fit.
    pub fn put_all(&mut self, count: &Out<c_uint>, values: &[T]) -> Code {
        let Some(room) = count.held() else {
            return INVALID_ARGUMENT;
        };
        count.put(c_uint::try_from(values.len()).unwrap_or(c_uint::MAX));
        if (room as usize) < values.len() {
            return INSUFFICIENT_SIZE;
        }
        if values.is_empty() {
            return SUCCESS;
        }
        match self.row(values.len()) {
            Some(row) => {
                row.copy_from_slice(values);
                SUCCESS
            }
            None => INVALID_ARGUMENT,
        }
    }
}

impl<T: Copy> Out<T> {
    /// The same place, to look at the version that a structure begins with: a caller's structure
    /// of another version may be smaller than ours.
    pub fn version(&self) -> Option<u32> {
        Out::<u32>(self.0.cast()).held()
    }
}

impl Out<c_char> {
    /// Writes text with its terminating zero if it fits into `length`.
    pub fn put_text(&mut self, length: c_uint, text: &str) -> Code {
        let length = length as usize;
        let Some(row) = self.row(length) else {
            return INVALID_ARGUMENT;
        };
        if text.len() >= length {
            return INSUFFICIENT_SIZE;
        }
        fill_text(row, text);
        SUCCESS
    }
}

/// Fills a fixed field of a C structure; the rest of it becomes zero.
pub fn fill_text(field: &mut [c_char], text: &str) {
    // `c_char` is signed on some machines and unsigned on others; the bits are the same.
    let bytes = text.bytes().map(|byte| c_char::from_ne_bytes([byte]));
    let last = field.len().saturating_sub(1);
    field.fill(0);
    for (place, byte) in field[..last].iter_mut().zip(bytes) {
        *place = byte;
    }
}

/// Text that a caller hands in.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The text, unless it is null or no UTF-8.
    pub fn read(&self) -> Option<&str> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: not null, and by the contract of this file it ends with a zero.
        unsafe { CStr::from_ptr(self.0) }.to_str().ok()
    }
}
