//! NVML as the helper process reads it: identities once, readings again and again.
//!
//! What a GPU or driver does not support is absent, never zero. Every call here may block for
//! ever when the driver is broken: nobody but the helper process calls them.

use std::ffi::{OsStr, OsString};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::{GpuIdentity, GpuReading};

const MIB: u64 = 1024 * 1024;

/// An initialised NVML.
pub struct Reader {
    nvml: Nvml,
}

/// A process that holds a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its pid.
    pub pid: u32,
    /// What it holds; absent where the driver does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Why NVML cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there or refuses: one sentence for an operator.
    #[error("{0}")]
    Unusable(String),
    /// A call failed in a way that means NVML must be initialised anew.
    #[error("{0}")]
    Lost(String),
}

impl Reader {
    /// Loads the library (the system's own without a path) and initialises it.
    pub fn open(library: Option<&OsStr>) -> Result<Self, Error> {
        let path = library.map_or_else(|| OsString::from("libnvidia-ml.so.1"), OsString::from);
        let opened = Nvml::builder().lib_path(&path).init();
        let nvml = opened.map_err(|error| Error::Unusable(sentence(&error, &path)))?;
        Ok(Self { nvml })
    }

    /// The driver's version, where it says so.
    pub fn driver_version(&self) -> Option<String> {
        self.nvml.sys_driver_version().ok()
    }

    /// Who the GPUs are, in NVML's order.
    pub fn identities(&self) -> Result<Vec<GpuIdentity>, Error> {
        let count = self.nvml.device_count().map_err(lost)?;
        (0..count).map(|index| self.identity(index)).collect()
    }

    fn identity(&self, index: u32) -> Result<GpuIdentity, Error> {
        let device = self.nvml.device_by_index(index).map_err(lost)?;
        let uuid = device.uuid().map_err(lost)?;
        Ok(GpuIdentity {
            uuid: GpuUuid::from(uuid.as_str()),
            name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
            memory_mib: device.memory_info().map(|memory| memory.total / MIB).unwrap_or(0),
            pci: device.pci_info().ok().map(|pci| pci.bus_id),
            serial: device.serial().ok(),
        })
    }

    /// One reading of one GPU, with the processes that hold it.
    pub fn read(&self, uuid: &GpuUuid) -> Result<(GpuReading, Vec<GpuProcess>), Error> {
        let device = self.nvml.device_by_uuid(uuid.as_str()).map_err(lost)?;
        let memory = absent_if_unsupported(device.memory_info())?;
        let utilization = absent_if_unsupported(device.utilization_rates())?;
        let temperature = absent_if_unsupported(device.temperature(TemperatureSensor::Gpu))?;
        let power = absent_if_unsupported(device.power_usage())?;
        let processes = absent_if_unsupported(device.running_compute_processes())?;
        let reading = GpuReading {
            uuid: uuid.clone(),
            memory_used_mib: memory.as_ref().map(|memory| memory.used / MIB),
            memory_reserved_mib: memory.as_ref().map(|memory| memory.reserved / MIB),
            utilization: utilization.map(|rates| u8::try_from(rates.gpu.min(100)).unwrap_or(100)),
            temperature_c: temperature.and_then(|degrees| u16::try_from(degrees).ok()),
            power_mw: power.map(u64::from),
            age_ms: 0,
            trouble: None,
        };
        let held = |used| match used {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let processes = processes.unwrap_or_default().into_iter();
        let holders =
            processes.map(|p| GpuProcess { pid: p.pid, bytes: held(p.used_gpu_memory) }).collect();
        Ok((reading, holders))
    }
}

fn absent_if_unsupported<T>(read: Result<T, NvmlError>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Ok(None),
        Err(error) => Err(lost(error)),
    }
}

fn lost(error: NvmlError) -> Error {
    match error {
        NvmlError::GpuLost => Error::Lost("the GPU is lost: it fell off the bus".to_owned()),
        NvmlError::LibRmVersionMismatch => Error::Lost(version_mismatch()),
        other => Error::Lost(format!("the driver says: {other}")),
    }
}

fn version_mismatch() -> String {
    "the NVIDIA driver was upgraded without a reboot: library and kernel module differ; reboot \
     the host"
        .to_owned()
}

fn sentence(error: &NvmlError, path: &OsStr) -> String {
    let path = path.to_string_lossy();
    match error {
        NvmlError::LibloadingError(_) => {
            format!("no NVIDIA driver: the library `{path}` cannot be loaded")
        }
        NvmlError::DriverNotLoaded => {
            "no NVIDIA driver: its kernel module is not loaded".to_owned()
        }
        NvmlError::LibRmVersionMismatch => version_mismatch(),
        other => format!("NVML (`{path}`) cannot be initialised: {other}"),
    }
}
