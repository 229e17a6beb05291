//! What this process knows and holds: the devices it may see, contexts, and its memory, which
//! stands in one claim per GPU.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use wharfage_fake_gpus::door::{self, Refused};
use wharfage_fake_gpus::folder::Contents;
use wharfage_fake_gpus::gpu::Gpu;

use crate::abi::{
    Code, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_INITIALIZED,
    OUT_OF_MEMORY, UNKNOWN,
};

/// Which GPUs a process sees: uuids, or places in the list of all.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Addresses are no memory of this process, so they lie where none of it can.
const FIRST_ADDRESS: u64 = 0x7000_0000_0000_0000;

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

thread_local! {
    /// The contexts that this thread pushed, by device.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// After `cuInit`.
pub struct Process {
    /// The uuids of GPUs and MIG instances, in CUDA's order.
    devices: Vec<String>,
    /// How often each primary context is retained.
    contexts: BTreeMap<usize, u32>,
    /// Device and size by address.
    blocks: BTreeMap<u64, (usize, u64)>,
    next_address: u64,
}

/// Runs `body` after `cuInit`.
pub fn started<T>(body: impl FnOnce(&mut Process) -> Result<T, Code>) -> Result<T, Code> {
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    body(process.as_mut().ok_or(NOT_INITIALIZED)?)
}

/// Whether a call may proceed; it waits while it is blocked.
pub fn admitted(name: &str, uuid: Option<&str>) -> Result<Contents, Code> {
    door::admitted(&[name], uuid).map_err(|refused| match refused {
        Refused::NoFolder => NO_DEVICE,
        Refused::Fault(code) => code,
    })
}

/// `cuInit`: a process sees the devices that are there at that moment.
pub fn init() -> Result<(), Code> {
    let contents = admitted("cuInit", None)?;
    let devices = visible(&contents, std::env::var(VISIBLE).ok().as_deref());
    if devices.is_empty() {
        return Err(NO_DEVICE);
    }
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    process.get_or_insert(Process {
        devices,
        contexts: BTreeMap::new(),
        blocks: BTreeMap::new(),
        next_address: FIRST_ADDRESS,
    });
    Ok(())
}

/// As CUDA reads the list: the first entry that names nothing ends it.
fn visible(contents: &Contents, list: Option<&str>) -> Vec<String> {
    let gpus = &contents.fleet.gpus;
    let whole = gpus.iter().filter(|gpu| gpu.mig.is_none()).map(|gpu| gpu.uuid.as_str());
    let parts = gpus.iter().flat_map(|gpu| gpu.mig.iter().flatten()).map(|part| part.uuid.as_str());
    let all: Vec<&str> = whole.chain(parts).collect();
    let Some(list) = list else {
        return all.into_iter().map(str::to_owned).collect();
    };
    let named = list.split(',').map(str::trim).map_while(|entry| match entry.parse::<usize>() {
        Ok(index) => all.get(index).copied(),
        Err(_) if entry.is_empty() => None,
        Err(_) => all.iter().copied().find(|uuid| uuid.starts_with(entry)),
    });
    named.map(str::to_owned).collect()
}

impl Process {
    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The uuid of this device.
    pub fn uuid(&self, device: usize) -> Result<&str, Code> {
        self.devices.get(device).map(String::as_str).ok_or(INVALID_DEVICE)
    }

    /// Retains the primary context of a device.
    pub fn retain(&mut self, device: usize) {
        *self.contexts.entry(device).or_default() += 1;
    }

    /// Releases it; the last one gives its memory back.
    pub fn release(&mut self, device: usize) -> Result<(), Code> {
        let held = self.contexts.get_mut(&device).ok_or(INVALID_CONTEXT)?;
        *held -= 1;
        if *held == 0 {
            self.contexts.remove(&device);
            self.blocks.retain(|_, block| block.0 != device);
            self.claim(device)?;
        }
        Ok(())
    }

    /// Makes a context this thread's current one.
    pub fn push(&self, device: usize) -> Result<(), Code> {
        if !self.contexts.contains_key(&device) {
            return Err(INVALID_CONTEXT);
        }
        CURRENT.with_borrow_mut(|stack| stack.push(device));
        Ok(())
    }

    /// Takes memory of the current context's device.
    pub fn allocate(&mut self, contents: Contents, bytes: u64) -> Result<u64, Code> {
        let device = self.current()?;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        if bytes > self.memory(contents, device)?.0 {
            return Err(OUT_OF_MEMORY);
        }
        let address = self.next_address;
        self.next_address += bytes;
        self.blocks.insert(address, (device, bytes));
        self.claim(device)?;
        Ok(address)
    }

    /// Gives memory back.
    pub fn free(&mut self, address: u64) -> Result<(), Code> {
        let (device, _) = self.blocks.remove(&address).ok_or(INVALID_VALUE)?;
        self.claim(device)
    }

    /// Device of the current context.
    pub fn current(&self) -> Result<usize, Code> {
        CURRENT.with_borrow(|stack| stack.last().copied()).ok_or(INVALID_CONTEXT)
    }

    /// Free and total bytes.
    pub fn memory(&self, contents: Contents, device: usize) -> Result<(u64, u64), Code> {
        let uuid = self.uuid(device)?;
        let gpu = Gpu::holding(contents, uuid).ok_or(INVALID_DEVICE)?;
        let memory = gpu.memory_of(gpu.instance(uuid));
        Ok((memory.free, memory.total))
    }

    /// Writes what this process holds of a device; nothing is no claim.
    fn claim(&self, device: usize) -> Result<(), Code> {
        let uuid = self.uuid(device)?;
        let folder = admitted("", None)?.path.join("claims").join(uuid);
        let bytes: u64 =
            self.blocks.values().filter(|block| block.0 == device).map(|block| block.1).sum();
        write(folder, bytes).map_err(|_| UNKNOWN)
    }
}

/// Takes the current context away from this thread and says which it was.
pub fn pop() -> Result<usize, Code> {
    CURRENT.with_borrow_mut(Vec::pop).ok_or(INVALID_CONTEXT)
}

fn write(folder: PathBuf, bytes: u64) -> io::Result<()> {
    let file = folder.join(std::process::id().to_string());
    if bytes == 0 {
        return match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    fs::create_dir_all(folder)?;
    let next = file.with_extension("next");
    fs::write(&next, format!("{bytes}\n"))?;
    fs::rename(next, file)
}
