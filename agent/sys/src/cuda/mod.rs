//! CUDA's driver library, loaded at run time: does it start, and real memory of a GPU.
//!
//! The rule it guards: a host without the library, or with one that is broken, gets an error with a
//! sentence, never a panic and never a zero. A call may block for ever when the driver is broken,
//! and a started library stays in its process: who only wants to know whether CUDA starts asks from
//! a process of its own.

mod checkpoint;
mod raw;

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use wharfage_shared::ids::GpuUuid;

pub use checkpoint::{Checkpoints, ProcessState};

/// Where the system's own library is found.
pub const LIBRARY: &str = "libcuda.so.1";

/// What went wrong, as a sentence that an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The library cannot be loaded.
    #[error("no CUDA driver: the library `{library}` cannot be loaded ({because})")]
    Library {
        /// Its name or path.
        library: String,
        /// What the loader says.
        because: String,
    },
    /// The library lacks a function that every CUDA driver has.
    #[error("the library `{library}` is no CUDA driver library: it has no `{symbol}`")]
    Symbol {
        /// Its name or path.
        library: String,
        /// The function.
        symbol: &'static str,
    },
    /// The driver is older than the calls that checkpoint processes.
    #[error(
        "the driver cannot checkpoint processes (it has no `{symbol}`): branch 570 or later can"
    )]
    CannotCheckpoint {
        /// The function.
        symbol: &'static str,
    },
    /// A function failed.
    #[error("{call} failed: {code}")]
    Call {
        /// The function.
        call: &'static str,
        /// Its answer.
        code: Code,
    },
    /// None of the devices that this process may use has this UUID.
    #[error(
        "CUDA shows no GPU {uuid} to this process; it shows {}",
        if visible.is_empty() { "none".to_owned() } else { visible.join(", ") }
    )]
    NoSuchGpu {
        /// Which was wanted.
        uuid: GpuUuid,
        /// Those it shows.
        visible: Vec<String>,
    },
}

impl Error {
    /// The GPU has too little free memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Call { code: Code { number: OUT_OF_MEMORY, .. }, .. })
    }

    /// There is no library to load: a host without an NVIDIA driver, not a broken one.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Library { .. })
    }
}

const OUT_OF_MEMORY: u32 = 2;

/// What a function of the library answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// `CUresult`; never zero.
    pub number: u32,
    /// Its name as the library tells it, `CUDA_ERROR_NO_DEVICE`.
    pub name: Option<String>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.number),
            None => write!(f, "unknown code {}", self.number),
        }
    }
}

/// The library, loaded and not yet started.
pub struct Library {
    calls: raw::Calls,
}

impl Library {
    /// Loads it (the system's own without a path).
    pub fn load(library: Option<&OsStr>) -> Result<Self, Error> {
        Ok(Self { calls: raw::Calls::load(library.unwrap_or(OsStr::new(LIBRARY)))? })
    }

    /// The newest CUDA that the driver runs, `12.8`. Asks no GPU.
    pub fn version(&self) -> Result<String, Error> {
        let code = self.calls.driver_version()?;
        Ok(format!("{}.{}", code / 1000, code % 1000 / 10))
    }

    /// Whether the driver can checkpoint a process (R570 and later). Asks no GPU.
    pub fn can_checkpoint(&self) -> bool {
        self.calls.has_symbol(c"cuCheckpointProcessCheckpoint")
    }

    /// The calls that checkpoint other processes. They ask no GPU from this one, so that it need
    /// not be started.
    pub fn checkpoints(self) -> Result<Checkpoints, Error> {
        Checkpoints::of(self.calls)
    }

    /// Starts it (`cuInit`).
    pub fn start(self) -> Result<Cuda, Error> {
        self.calls.init()?;
        Ok(Cuda { calls: Arc::new(self.calls) })
    }
}

/// A started library.
pub struct Cuda {
    calls: Arc<raw::Calls>,
}

impl Cuda {
    /// Loads the library (the system's own without a path) and starts it.
    pub fn open(library: Option<&OsStr>) -> Result<Self, Error> {
        Library::load(library)?.start()
    }

    /// The UUIDs of the devices that this process may use (`CUDA_VISIBLE_DEVICES`), in CUDA's
    /// order and without NVML's prefix.
    pub fn devices(&self) -> Result<Vec<String>, Error> {
        let count = self.calls.device_count()?;
        (0..count).map(|index| self.calls.uuid(self.calls.device(index)?).map(uuid_text)).collect()
    }

    /// Makes ready to take memory of the GPU or MIG instance with this UUID. That alone takes what
    /// a CUDA context needs, some hundred MiB on a large GPU.
    pub fn memory_of(&self, gpu: &GpuUuid) -> Result<Memory, Error> {
        let wanted = plain_uuid(&gpu.text());
        let mut visible = Vec::new();
        for index in 0..self.calls.device_count()? {
            let device = self.calls.device(index)?;
            let uuid = uuid_text(self.calls.uuid(device)?);
            if wanted.as_deref() == Some(uuid.as_str()) {
                let context = self.calls.retain(device)?;
                let calls = Arc::clone(&self.calls);
                return Ok(Memory { calls, device, context, blocks: Vec::new() });
            }
            visible.push(uuid);
        }
        Err(Error::NoSuchGpu { uuid: gpu.clone(), visible })
    }
}

/// Memory of one GPU that this process holds; given back when dropped, and by the driver when the
/// process ends however it ends.
pub struct Memory {
    calls: Arc<raw::Calls>,
    device: raw::Device,
    context: raw::Context,
    blocks: Vec<raw::Block>,
}

impl Memory {
    /// Takes so many bytes more.
    pub fn take(&mut self, bytes: u64) -> Result<(), Error> {
        if bytes > 0 {
            let block = self.calls.within(self.context, || self.calls.allocate(bytes))?;
            self.blocks.push(block);
        }
        Ok(())
    }

    /// Gives back all that was taken; the context stays.
    pub fn give_back(&mut self) -> Result<(), Error> {
        while let Some(block) = self.blocks.pop() {
            self.calls.within(self.context, || self.calls.free(block))?;
        }
        Ok(())
    }

    /// Free and total bytes of the GPU.
    pub fn free_and_total(&self) -> Result<(u64, u64), Error> {
        self.calls.within(self.context, || self.calls.memory())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A GPU that is lost meanwhile refuses both; then nothing is held there any more.
        let _ = self.give_back();
        let _ = self.calls.release(self.device);
    }
}

/// `GPU-` or `MIG-` and 32 hexadecimal digits with dashes: the part that CUDA knows as well.
fn plain_uuid(nvml: &str) -> Option<String> {
    let plain = nvml.strip_prefix("GPU-").or_else(|| nvml.strip_prefix("MIG-"))?;
    Some(plain.to_ascii_lowercase())
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let dash = |index: usize| if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
    bytes.iter().enumerate().map(|(i, byte)| format!("{}{byte:02x}", dash(i))).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Code, Cuda, Error, Library, plain_uuid, uuid_text};

    #[test]
    fn a_host_without_the_library_is_told_apart_from_one_with_another_library() {
        let error = Cuda::open(Some(OsStr::new("/nowhere/libcuda.so.1"))).err();
        let error = error.expect("it is not there");
        assert!(error.is_absent(), "{error}");
        assert!(error.to_string().contains("`/nowhere/libcuda.so.1` cannot be loaded"), "{error}");
        // The C library is on every host and is no CUDA driver.
        let error = Library::load(Some(OsStr::new("libc.so.6"))).err().expect("it is another");
        assert!(!error.is_absent(), "{error}");
        assert!(error.to_string().contains("has no `cuInit`"), "{error}");
    }

    #[test]
    fn a_uuid_reads_as_nvml_prints_it_less_the_prefix() {
        let bytes: Vec<u8> = (0..16).collect();
        let text = uuid_text(bytes.try_into().expect("sixteen"));
        assert_eq!(text, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(plain_uuid(&format!("GPU-{}", text.to_uppercase())), Some(text));
        assert_eq!(plain_uuid("0"), None);
    }

    #[test]
    fn only_one_code_says_that_memory_is_short() {
        let of = |number| Error::Call { call: "cuMemAlloc", code: Code { number, name: None } };
        assert!(of(2).is_out_of_memory());
        assert!(!of(100).is_out_of_memory());
        assert_eq!(of(100).to_string(), "cuMemAlloc failed: unknown code 100");
    }
}
