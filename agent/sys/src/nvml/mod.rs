//! NVML as the helper process reads it: who the GPUs are, and their readings again and again.
//!
//! What a GPU or driver does not support is `unsupported`, never zero. Every call here may block
//! for ever when the driver is broken: nobody but the helper process calls them, each GPU from a
//! thread of its own.

mod ecc;
mod gpm;
mod identity;
mod memory;
mod modes;
mod nvlink;
mod pcie;
mod power_and_clocks;
mod processes;
mod raw;
mod trouble;
mod value;
mod xids;

use std::ffi::{OsStr, OsString};

use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};
use wharfage_shared::ids::GpuUuid;

pub use ecc::{Banks, Ecc, RemappedRows, RetiredPages};
pub use gpm::Gpm;
pub use identity::{Board, End, MigInstance, MigPlace, Slot};
pub use memory::Memory;
pub use modes::Modes;
pub use nvlink::{Fabric, Link, NvLink};
pub use pcie::Pcie;
pub use power_and_clocks::{Clocks, HeldDown, PowerAndClocks, Temperature, Utilization};
pub use processes::GpuProcess;
pub use trouble::{Reach, Trouble};
pub use value::Value;
pub use xids::{XidEvent, Xids};

use trouble::Listener;

const MIB: u64 = 1024 * 1024;

/// An initialised NVML.
pub struct Reader {
    nvml: Nvml,
}

/// Versions of the driver and what comes with it, where they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The kernel driver.
    pub driver: Option<String>,
    /// The library.
    pub nvml: Option<String>,
    /// The newest CUDA that the driver runs, `12.8`.
    pub cuda: Option<String>,
}

/// What matters from moment to moment, of one slot. Under MIG, memory and processes are the
/// instance's own and the rest is the whole GPU's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fast {
    /// Memory.
    pub memory: Memory,
    /// Utilization.
    pub utilization: Utilization,
    /// Temperatures.
    pub temperature: Temperature,
    /// Power drawn, in milliwatts.
    pub power_mw: Value<u64>,
    /// What holds the clocks down now, each as one word.
    pub throttle_reasons: Value<Vec<String>>,
    /// Who holds it.
    pub processes: Value<Vec<GpuProcess>>,
}

/// One slot was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReading {
    /// Which.
    pub slot: GpuUuid,
    /// What was read.
    pub fast: Fast,
    /// Why it cannot be trusted, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The first value that could not be read beside: it closes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// What matters more slowly, of one GPU: read one subject after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Power, clocks, limits.
    Power(PowerAndClocks),
    /// Memory errors.
    Ecc(Ecc),
    /// The PCIe link.
    Pcie(Pcie),
    /// NVLinks and the fabric.
    Nvlink(NvLink),
    /// MIG, compute mode, persistence.
    Modes(Modes),
    /// Performance counters.
    Gpm(Value<Gpm>),
}

/// So many sections there are.
pub const SECTIONS: usize = 6;

impl Reader {
    /// Loads the library (the system's own without a path) and initialises it.
    pub fn open(library: Option<&OsStr>) -> Result<Self, Trouble> {
        let path = library.map_or_else(|| OsString::from("libnvidia-ml.so.1"), OsString::from);
        let opened = Nvml::builder().lib_path(&path).init();
        let nvml = opened.map_err(|error| trouble::at_start(&error, &path))?;
        Ok(Self { nvml })
    }

    /// Versions, as far as they are told.
    pub fn versions(&self) -> Versions {
        let cuda = self.nvml.sys_cuda_driver_version().ok();
        Versions {
            driver: self.nvml.sys_driver_version().ok(),
            nvml: self.nvml.sys_nvml_version().ok(),
            cuda: cuda.map(|code| format!("{}.{}", code / 1000, code % 1000 / 10)),
        }
    }

    /// How many GPUs NVML lists.
    pub fn count(&self) -> Result<u32, Trouble> {
        self.nvml.device_count().map_err(|error| trouble::trouble("nvmlDeviceGetCount_v2", &error))
    }

    /// The GPU at this place of NVML's list.
    pub fn gpu(&self, index: u32) -> Result<Gpu<'_>, Trouble> {
        let device = self.nvml.device_by_index(index);
        let because = |error| trouble::trouble("nvmlDeviceGetHandleByIndex_v2", &error);
        let device = device.map_err(because)?;
        let (board, instances) = identity::read(&device, index)?;
        Ok(Gpu { device, board, instances, gpm: gpm::Sampler::default() })
    }

    /// XIDs of the GPU with this UUID from now on; nothing where they are not told.
    pub fn xids(&self, gpu: &GpuUuid) -> Result<Option<Xids<'_>>, Trouble> {
        let device = self.nvml.device_by_uuid(&*gpu.text());
        let because = |error| trouble::trouble("nvmlDeviceGetHandleByUUID", &error);
        Xids::of(&device.map_err(because)?)
    }
}

/// One GPU with its handles.
pub struct Gpu<'nvml> {
    device: Device<'nvml>,
    board: Board,
    /// Beside `board.slots`: the handle of each that is a MIG instance.
    instances: Vec<Option<Device<'nvml>>>,
    gpm: gpm::Sampler<'nvml>,
}

impl Gpu<'_> {
    /// Who it is.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reads again who it is; whether that changed (its MIG layout may).
    pub fn identify(&mut self) -> Result<bool, Trouble> {
        let (mut board, instances) = identity::read(&self.device, self.board.index)?;
        board.keep(&self.board);
        let changed = board != self.board;
        self.board = board;
        self.instances = instances;
        Ok(changed)
    }

    /// Reads what matters from moment to moment: one reading of each slot.
    pub fn read(&self) -> Vec<SlotReading> {
        let mut listener = Listener::default();
        let utilization = power_and_clocks::utilization(&self.device, &mut listener);
        let temperature = power_and_clocks::temperature(&self.device, &mut listener);
        let power_mw = listener
            .value("power_mw", "nvmlDeviceGetPowerUsage", self.device.power_usage())
            .map(u64::from);
        let throttle_reasons = power_and_clocks::throttle_reasons(&self.device, &mut listener);
        // What people and bills read: one value of it closes no GPU.
        let (common, unread) = listener.apart();
        let slots = self.board.slots.iter().zip(&self.instances);
        let read = slots.map(|(slot, instance)| {
            let mut listener = Listener::default();
            let device = instance.as_ref().unwrap_or(&self.device);
            let fast = Fast {
                memory: memory::read(device, &mut listener),
                utilization: utilization.clone(),
                temperature: temperature.clone(),
                power_mw: power_mw.clone(),
                throttle_reasons: throttle_reasons.clone(),
                processes: processes::read(device, &mut listener),
            };
            // What placement and proofs of release rest on must have been read.
            let own = listener.worst();
            let trouble = [common.clone(), own].into_iter().flatten().max_by_key(|t| t.reach);
            SlotReading { slot: slot.identity.uuid.clone(), fast, trouble, unread: unread.clone() }
        });
        read.collect()
    }

    /// Reads the section with this number (modulo [`SECTIONS`]), and the worst that was wrong with
    /// it. A section that needs two looks is absent at the first.
    pub fn section(&mut self, number: usize) -> (Option<Section>, Option<Trouble>) {
        let mut listener = Listener::default();
        let (device, listening) = (&self.device, &mut listener);
        let section = match number % SECTIONS {
            0 => Some(Section::Ecc(ecc::read(device, listening))),
            1 => Some(Section::Modes(modes::read(device, listening))),
            2 => Some(Section::Pcie(pcie::read(device, listening))),
            3 => Some(Section::Power(power_and_clocks::read(device, listening))),
            4 => Some(Section::Nvlink(nvlink::read(device, listening))),
            _ => self.gpm.read(device, listening).map(Section::Gpm),
        };
        (section, listener.worst())
    }
}
