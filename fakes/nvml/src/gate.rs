//! The gate that every call passes: is the library initialised, does the call hang, is it to fail.
//! A panic becomes "unknown error".

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use crate::abi::{
    Code, DRIVER_NOT_LOADED, GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, UNINITIALIZED,
    UNKNOWN,
};
use crate::cost::counted;
use crate::door::{self, Refused};
use crate::features::MigInstance;
use crate::folder::Contents;
use crate::gpu::Gpu;
use crate::spec::EVERY_FUNCTION;

/// The three names under which NVML is initialised; a fault or block on one is on all.
const INIT_NAMES: [&str; 3] = ["nvmlInit_v2", "nvmlInitWithFlags", "nvmlInit"];

static LIBRARY: Mutex<Library> = Mutex::new(Library { initialised: 0, handles: Vec::new() });

struct Library {
    /// Calls of init without their shutdown.
    initialised: u32,
    /// Handle n + 1 stands for the GPU with the uuid at n, as long as this process lives.
    handles: Vec<String>,
}

fn library<T>(look: impl FnOnce(&mut Library) -> T) -> T {
    look(&mut LIBRARY.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the body of a call that is about no GPU.
pub fn call(name: &str, body: impl FnOnce(&Contents) -> Code) -> Code {
    shielded(|| {
        if library(|library| library.initialised) == 0 {
            return UNINITIALIZED;
        }
        match admitted(&[name], None) {
            Ok(contents) => body(&contents),
            Err(code) => code,
        }
    })
}

/// Runs the body of a call about the GPU behind `device`; a MIG instance does not support it.
pub fn on_gpu(name: &str, device: nvmlDevice_t, body: impl FnOnce(&Gpu) -> Code) -> Code {
    on_slot(name, device, |gpu, instance| match instance {
        None => body(gpu),
        Some(_) => NOT_SUPPORTED,
    })
}

/// Runs the body of a call about the GPU or the MIG instance behind `device`. Faults and blocks
/// are those of the GPU.
pub fn on_slot(
    name: &str,
    device: nvmlDevice_t,
    body: impl FnOnce(&Gpu, Option<&MigInstance>) -> Code,
) -> Code {
    shielded(|| {
        if library(|library| library.initialised) == 0 {
            return UNINITIALIZED;
        }
        let Some(uuid) = uuid_of(device) else {
            return INVALID_ARGUMENT;
        };
        match admitted(&[name], Some(&uuid)) {
            Ok(contents) => match Gpu::holding(contents, &uuid) {
                Some(gpu) => body(&gpu, gpu.instance(&uuid)),
                None => GPU_IS_LOST,
            },
            Err(code) => code,
        }
    })
}

/// `nvmlInit` under any of its names.
pub fn init() -> Code {
    shielded(|| match admitted(&INIT_NAMES, None) {
        Ok(_) => library(|library| {
            library.initialised = library.initialised.saturating_add(1);
            SUCCESS
        }),
        Err(code) => code,
    })
}

/// `nvmlShutdown`: the last one closes the library.
pub fn shutdown() -> Code {
    call("nvmlShutdown", |_| {
        library(|library| library.initialised = library.initialised.saturating_sub(1));
        SUCCESS
    })
}

/// The handle for a GPU: the same GPU has the same handle even when the list changes.
pub fn handle_of(gpu: &Gpu) -> nvmlDevice_t {
    handle_for(gpu.spec().uuid.as_str())
}

/// The handle for what has this UUID.
pub fn handle_for(uuid: &str) -> nvmlDevice_t {
    let index = library(|library| {
        library.handles.iter().position(|known| known == uuid).unwrap_or_else(|| {
            library.handles.push(uuid.to_owned());
            library.handles.len() - 1
        })
    });
    std::ptr::without_provenance_mut(index + 1)
}

/// The uuid behind a handle that this process was given.
pub fn uuid_of(device: nvmlDevice_t) -> Option<String> {
    let index = device.addr().checked_sub(1)?;
    library(|library| library.handles.get(index).cloned())
}

/// Waits while the call is blocked, then says whether it may proceed.
pub fn admitted(names: &[&str], uuid: Option<&str>) -> Result<Contents, Code> {
    door::admitted(&[names, &[EVERY_FUNCTION]].concat(), uuid).map_err(|refused| match refused {
        Refused::NoFolder => DRIVER_NOT_LOADED,
        Refused::Fault(code) => code,
    })
}

/// A panic must not cross into C.
fn shielded(body: impl FnOnce() -> Code) -> Code {
    catch_unwind(AssertUnwindSafe(|| counted(body))).unwrap_or(UNKNOWN)
}
