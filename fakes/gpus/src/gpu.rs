//! One GPU as it reads at the moment of a call: what `gpus.json` says, the claims, and for the
//! rest the values of a healthy H100.

use std::fs;
use std::time::Duration;

use crate::claims::{self, Claims};
use crate::features::MigInstance;
use crate::folder::Contents;
use crate::spec::{CudaVersion, Fleet, GpuSpec, PciAddress, Utilization, Uuid};

const MIB: u64 = 1024 * 1024;

/// Where the eight GPUs of an HGX H100 board sit on the PCI bus.
const BUSES: [u8; 8] = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf];

/// One GPU of the folder.
pub struct Gpu {
    contents: Contents,
    index: usize,
}

/// Memory in bytes; the four add up as NVML's second version of the call has them.
pub struct Memory {
    /// All of the board.
    pub total: u64,
    /// Kept by the driver.
    pub reserved: u64,
    /// Used by processes, plus baseline and leak.
    pub used: u64,
    /// The rest.
    pub free: u64,
}

impl Gpu {
    /// The GPU with this index, if the folder has it.
    pub fn at(contents: Contents, index: usize) -> Option<Self> {
        (index < contents.fleet.gpus.len()).then_some(Self { contents, index })
    }

    /// The GPU with this uuid, or with a MIG instance of this uuid.
    pub fn holding(contents: Contents, uuid: &str) -> Option<Self> {
        let index = contents.fleet.gpus.iter().position(|gpu| {
            let instances = gpu.mig.as_deref().unwrap_or_default();
            gpu.uuid.as_str() == uuid || instances.iter().any(|part| part.uuid.as_str() == uuid)
        })?;
        Some(Self { contents, index })
    }

    /// Its MIG instances, in order; none when it is whole.
    pub fn instances(&self) -> &[MigInstance] {
        self.spec().mig.as_deref().unwrap_or_default()
    }

    /// Its MIG instance with this uuid.
    pub fn instance(&self, uuid: &str) -> Option<&MigInstance> {
        self.instances().iter().find(|instance| instance.uuid.as_str() == uuid)
    }

    /// What `gpus.json` says of it.
    pub fn spec(&self) -> &GpuSpec {
        &self.contents.fleet.gpus[self.index]
    }

    /// Its place in the list.
    pub fn index(&self) -> u32 {
        u32::try_from(self.index).unwrap_or(u32::MAX)
    }

    /// Product name.
    pub fn name(&self) -> &str {
        self.spec().name.as_deref().unwrap_or("NVIDIA H100 80GB HBM3")
    }

    /// Board serial number.
    pub fn serial(&self) -> String {
        self.spec().serial.clone().unwrap_or(format!("{}", 1_650_924_000_000 + self.index))
    }

    /// Place on the PCI bus.
    pub fn pci(&self) -> PciAddress {
        place(self.spec(), self.index)
    }

    /// Claims of this moment on the GPU itself.
    pub fn claims(&self) -> Claims {
        self.claims_on(&self.spec().uuid)
    }

    /// Claims of this moment on the GPU or one of its instances.
    pub fn claims_on(&self, uuid: &Uuid) -> Claims {
        let seconds = self.spec().linger_seconds;
        let linger = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        claims::read(&self.contents.path, uuid.as_str(), linger)
    }

    /// Memory of this moment of the GPU or one of its instances.
    pub fn memory_of(&self, instance: Option<&MigInstance>) -> Memory {
        let Some(instance) = instance else {
            return self.memory();
        };
        let total = u64::from(instance.memory_mib) * MIB;
        let used = self.claims_on(&instance.uuid).bytes().min(total);
        Memory { total, reserved: 0, used, free: total - used }
    }

    /// Memory of this moment.
    fn memory(&self) -> Memory {
        let spec = self.spec();
        let total = u64::from(spec.memory_mib.unwrap_or(81_559)) * MIB;
        let reserved = (u64::from(spec.reserved_mib.unwrap_or(551)) * MIB).min(total);
        let standing = u64::from(spec.baseline_mib.unwrap_or(4)) + u64::from(spec.leak_mib);
        let parts = self.instances().iter().map(|part| self.claims_on(&part.uuid).bytes());
        let claimed = parts.fold(self.claims().bytes(), u64::saturating_add);
        let used = (standing * MIB).saturating_add(claimed).min(total - reserved);
        Memory { total, reserved, used, free: total - reserved - used }
    }

    /// Utilization of this moment, claims included.
    pub fn utilization(&self) -> Utilization {
        let own = self.spec().utilization;
        let serving: u32 = self.claims().live.iter().map(|claim| claim.utilization).sum();
        Utilization {
            gpu: own.gpu.saturating_add(serving).min(100),
            memory: own.memory.saturating_add(serving / 2).min(100),
        }
    }

    /// Core temperature in degrees Celsius.
    pub fn temperature(&self) -> u32 {
        self.spec().temperature_c.unwrap_or_else(|| 31 + self.utilization().gpu * 2 / 5)
    }

    /// Memory's temperature in degrees Celsius.
    pub fn memory_temperature(&self) -> u32 {
        self.spec().memory_temperature_c.unwrap_or_else(|| self.temperature() + 8)
    }

    /// Power drawn in milliwatts.
    pub fn power(&self) -> u32 {
        let drawn = self.spec().power_w.unwrap_or_else(|| 72 + self.utilization().gpu * 5);
        drawn.saturating_mul(1000)
    }

    /// Enforced power limit in milliwatts.
    pub fn power_limit(&self) -> u32 {
        self.spec().power_limit_w.unwrap_or(700).saturating_mul(1000)
    }

    /// Energy in millijoules since the host started: the present draw over the time it is up.
    pub fn energy(&self) -> u64 {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split('.').next().and_then(|text| text.parse::<u64>().ok());
        seconds.unwrap_or(0).saturating_mul(u64::from(self.power()))
    }
}

/// The GPU at this place of the PCI bus, if the folder has it.
pub fn index_at(fleet: &Fleet, address: PciAddress) -> Option<usize> {
    fleet.gpus.iter().enumerate().position(|(index, gpu)| place(gpu, index) == address)
}

fn place(spec: &GpuSpec, index: usize) -> PciAddress {
    spec.pci.unwrap_or_else(|| {
        let domain = u32::try_from(index / BUSES.len()).unwrap_or(u32::MAX);
        PciAddress { domain, bus: BUSES[index % BUSES.len()], device: 0 }
    })
}

/// Version of the kernel driver.
pub fn driver_version(fleet: &Fleet) -> &str {
    fleet.driver_version.as_deref().unwrap_or("580.95.05")
}

/// Version of the library.
pub fn nvml_version(fleet: &Fleet) -> String {
    fleet.nvml_version.clone().unwrap_or_else(|| format!("13.{}", driver_version(fleet)))
}

/// The newest CUDA version that the driver supports.
pub fn cuda_version(fleet: &Fleet) -> CudaVersion {
    fleet.cuda_version.unwrap_or(CudaVersion::DEFAULT)
}
