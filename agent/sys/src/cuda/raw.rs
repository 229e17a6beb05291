//! The functions of `libcuda` that the product calls, each behind a safe method.
//!
//! The rule it guards: a function is called with the arguments that `cuda.h` names, with handles of
//! the same library, and the library stays loaded: once started it has threads of its own.

#![expect(unsafe_code, reason = "C symbols cannot be called otherwise")]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint};
use std::mem::ManuallyDrop;

use libloading::Library;

use super::{Code, Error};

/// `CUdevice`.
pub(super) type Device = c_int;

/// `CUcontext`: a pointer that only the library follows. As a number it may move between threads,
/// which the driver's interface allows.
#[derive(Clone, Copy)]
pub(super) struct Context(usize);

/// `CUdeviceptr`: an address on the GPU.
pub(super) struct Block(u64);

pub(super) type Answer = c_uint;

/// `CUuuid`.
type Uuid = [u8; 16];

/// Declares the functions: field, the names under which libraries export it (newest first), type.
macro_rules! calls {
    ($($field:ident: $($name:literal)|+ as fn($($argument:ty),*);)*) => {
        /// The loaded library with its functions.
        pub(super) struct Calls {
            $($field: unsafe extern "C" fn($($argument),*) -> Answer,)*
            library: ManuallyDrop<Library>,
        }

        impl Calls {
            fn from(library: Library, named: &OsStr) -> Result<Self, Error> {
                Ok(Self {
                    $($field: {
                        let names = [$($name),+];
                        // SAFETY: `cuda.h` gives these names this type.
                        let found = names.iter().find_map(|name| unsafe {
                            library.get(name.to_bytes_with_nul()).ok().map(|found| *found)
                        });
                        let last = names[names.len() - 1].to_str().unwrap_or_default();
                        found.ok_or_else(|| Error::Symbol {
                            library: named.to_string_lossy().into_owned(),
                            symbol: last,
                        })?
                    },)*
                    library: ManuallyDrop::new(library),
                })
            }
        }
    };
}

calls! {
    init: c"cuInit" as fn(c_uint);
    driver_version: c"cuDriverGetVersion" as fn(*mut c_int);
    error_name: c"cuGetErrorName" as fn(Answer, *mut *const c_char);
    device_count: c"cuDeviceGetCount" as fn(*mut c_int);
    device: c"cuDeviceGet" as fn(*mut Device, c_int);
    uuid: c"cuDeviceGetUuid_v2" | c"cuDeviceGetUuid" as fn(*mut Uuid, Device);
    retain: c"cuDevicePrimaryCtxRetain" as fn(*mut usize, Device);
    release: c"cuDevicePrimaryCtxRelease_v2" | c"cuDevicePrimaryCtxRelease" as fn(Device);
    push: c"cuCtxPushCurrent_v2" as fn(usize);
    pop: c"cuCtxPopCurrent_v2" as fn(*mut usize);
    allocate: c"cuMemAlloc_v2" as fn(*mut u64, usize);
    free: c"cuMemFree_v2" as fn(u64);
    memory: c"cuMemGetInfo_v2" as fn(*mut usize, *mut usize);
}

impl Calls {
    /// Loads the library.
    pub(super) fn load(named: &OsStr) -> Result<Self, Error> {
        // SAFETY: what the operator names as CUDA's library, or the system's own, may run its
        // initialisers in this process.
        let library = unsafe { Library::new(named) }.map_err(|error| Error::Library {
            library: named.to_string_lossy().into_owned(),
            because: error.to_string(),
        })?;
        Self::from(library, named)
    }

    /// Whether the library exports this function.
    pub(super) fn has_symbol(&self, name: &CStr) -> bool {
        // SAFETY: the address is compared with nothing and called by nobody.
        unsafe { self.library.get::<*const ()>(name.to_bytes_with_nul()) }.is_ok()
    }

    /// A function that not every library has, as a pointer of type `F`.
    ///
    /// # Safety
    ///
    /// `F` is the type that `cuda.h` gives this name.
    pub(super) unsafe fn symbol<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the caller's word.
        unsafe { self.library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|found| *found)
    }

    pub(super) fn answered(&self, call: &'static str, answer: Answer) -> Result<(), Error> {
        if answer == 0 {
            return Ok(());
        }
        Err(Error::Call { call, code: Code { number: answer, name: self.name_of(answer) } })
    }

    fn name_of(&self, answer: Answer) -> Option<String> {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: it writes one pointer, which is null or a text that the library holds for ever.
        let known = unsafe { (self.error_name)(answer, &mut name) } == 0 && !name.is_null();
        // SAFETY: as above; not null.
        known.then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    pub(super) fn init(&self) -> Result<(), Error> {
        // SAFETY: a number that must be zero.
        self.answered("cuInit", unsafe { (self.init)(0) })
    }

    pub(super) fn driver_version(&self) -> Result<c_int, Error> {
        let mut version = 0;
        // SAFETY: it writes one number.
        self.answered("cuDriverGetVersion", unsafe { (self.driver_version)(&mut version) })?;
        Ok(version)
    }

    pub(super) fn device_count(&self) -> Result<c_int, Error> {
        let mut count = 0;
        // SAFETY: it writes one number.
        self.answered("cuDeviceGetCount", unsafe { (self.device_count)(&mut count) })?;
        Ok(count)
    }

    pub(super) fn device(&self, index: c_int) -> Result<Device, Error> {
        let mut device = 0;
        // SAFETY: it writes one number; an index that does not exist is an answer.
        self.answered("cuDeviceGet", unsafe { (self.device)(&mut device, index) })?;
        Ok(device)
    }

    pub(super) fn uuid(&self, device: Device) -> Result<Uuid, Error> {
        let mut uuid = [0; 16];
        // SAFETY: it writes sixteen bytes.
        self.answered("cuDeviceGetUuid", unsafe { (self.uuid)(&mut uuid, device) })?;
        Ok(uuid)
    }

    /// The GPU's primary context, made if there is none yet.
    pub(super) fn retain(&self, device: Device) -> Result<Context, Error> {
        let mut context = 0;
        // SAFETY: it writes one pointer.
        self.answered("cuDevicePrimaryCtxRetain", unsafe { (self.retain)(&mut context, device) })?;
        Ok(Context(context))
    }

    pub(super) fn release(&self, device: Device) -> Result<(), Error> {
        // SAFETY: a number; a context that is not retained is an answer.
        self.answered("cuDevicePrimaryCtxRelease", unsafe { (self.release)(device) })
    }

    /// Runs `work` while the context is this thread's current one.
    pub(super) fn within<T>(
        &self,
        context: Context,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        // SAFETY: a context of this library that is retained as long as its owner lives.
        self.answered("cuCtxPushCurrent", unsafe { (self.push)(context.0) })?;
        let done = work();
        let mut popped = 0;
        // SAFETY: it writes one pointer.
        let answer = unsafe { (self.pop)(&mut popped) };
        let done = done?;
        self.answered("cuCtxPopCurrent", answer)?;
        Ok(done)
    }

    /// Memory of the current context's GPU.
    pub(super) fn allocate(&self, bytes: u64) -> Result<Block, Error> {
        let mut address = 0;
        // More than an address can count is more than any GPU has: the driver says so.
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: it writes one address of the GPU.
        self.answered("cuMemAlloc", unsafe { (self.allocate)(&mut address, bytes) })?;
        Ok(Block(address))
    }

    /// Gives memory of the current context's GPU back.
    pub(super) fn free(&self, block: Block) -> Result<(), Error> {
        // SAFETY: the address is one that `allocate` gave; it is given back once, being moved here.
        self.answered("cuMemFree", unsafe { (self.free)(block.0) })
    }

    /// Free and total bytes of the current context's GPU.
    pub(super) fn memory(&self) -> Result<(u64, u64), Error> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: it writes two numbers.
        self.answered("cuMemGetInfo", unsafe { (self.memory)(&mut free, &mut total) })?;
        Ok((free as u64, total as u64))
    }
}
