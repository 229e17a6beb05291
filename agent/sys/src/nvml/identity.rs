//! Who a GPU is: its names, its place in the host, the slots that it makes.
//!
//! A slot is the GPU itself or, with MIG on, each of its instances: then the GPU is none.

use std::ffi::c_ulong;

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings as ffi;
use serde::{Deserialize, Serialize};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::GpuIdentity;

use super::raw;
use super::trouble::{Listener, Trouble, trouble};
use super::{MIB, Value};

/// Words of a CPU mask that are asked for: 4,096 CPUs.
const CPU_WORDS: usize = 64;

/// Words of a mask of NUMA nodes: 256 nodes.
const NODE_WORDS: usize = 4;

/// The name of a GPU that does not tell it.
const UNKNOWN: &str = "unknown";

/// A GPU of the host, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its place in NVML's order.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// Its serial number.
    pub serial: Value<String>,
    /// Its PCI address, `00000000:1B:00.0`.
    pub pci: Value<String>,
    /// The number in `/dev/nvidia<number>`.
    pub minor: Value<u32>,
    /// `Ampere`, `Hopper`, ...
    pub architecture: Value<String>,
    /// CUDA compute capability, `9.0`.
    pub compute_capability: Value<String>,
    /// Its part number.
    pub part_number: Value<String>,
    /// Its VBIOS.
    pub vbios: Value<String>,
    /// Its place on a board of several.
    pub module: Value<u32>,
    /// The nearest NUMA node of the host.
    pub numa_node: Value<u32>,
    /// The CPUs that are near, `0-31,64-95`.
    pub cpu_affinity: Value<String>,
    /// What is at the other ends of its NVLinks, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nvlink_ends: Vec<End>,
    /// What replicas can be given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// What is at the other end of an NVLink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A switch, which connects all GPUs of the host that have links to one.
    Switch,
    /// The GPU at this PCI address, `00000000:1B:00.0`.
    Gpu(String),
}

/// A GPU or a MIG instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// As the scheduler knows it.
    pub identity: GpuIdentity,
    /// What it is of its GPU; absent when it is the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
}

/// A MIG instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigInstance {
    /// The GPU that it is a part of.
    pub parent: GpuUuid,
    /// Its profile, `1g.10gb`.
    pub profile: String,
    /// Its GPU instance.
    pub gpu_instance: Value<u32>,
    /// Its compute instance.
    pub compute_instance: Value<u32>,
}

/// The part of a split GPU that the driver names for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigPlace {
    /// The GPU instance.
    pub gpu_instance: u32,
    /// The compute instance in it; absent = all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
}

impl Board {
    /// The slots at a place of this GPU; none where it has no such part.
    pub fn slots_at(&self, place: MigPlace) -> Vec<GpuUuid> {
        let is_at = |mig: &MigInstance| {
            let compute = place.compute_instance;
            mig.gpu_instance.get() == Some(place.gpu_instance)
                && (compute.is_none() || mig.compute_instance.get() == compute)
        };
        let slots = self.slots.iter().filter(|slot| slot.mig.as_ref().is_some_and(is_at));
        slots.map(|slot| slot.identity.uuid.clone()).collect()
    }
}

impl Board {
    /// A name or a size that was told before and cannot be read now is what it was: boards do not
    /// change theirs, and a size of nothing would be a size that nobody read.
    pub(super) fn keep(&mut self, before: &Self) {
        if self.name == UNKNOWN {
            self.name.clone_from(&before.name);
        }
        for slot in self.slots.iter_mut().map(|slot| &mut slot.identity) {
            let same = before.slots.iter().find(|known| known.identity.uuid == slot.uuid);
            let Some(known) = same.map(|known| &known.identity) else { continue };
            if slot.name.starts_with(UNKNOWN) {
                slot.name.clone_from(&known.name);
            }
            if slot.memory_mib == 0 {
                slot.memory_mib = known.memory_mib;
            }
        }
    }
}

/// Who the GPU behind the handle is, and the handles of its MIG instances beside their slots.
pub(super) fn read<'nvml>(
    device: &Device<'nvml>,
    index: u32,
) -> Result<(Board, Vec<Option<Device<'nvml>>>), Trouble> {
    let uuid = device.uuid().map_err(|error| trouble("nvmlDeviceGetUUID", &error))?;
    let uuid = GpuUuid::from(uuid.as_str());
    let listener = &mut Listener::default();
    let name = device.name().unwrap_or_else(|_| UNKNOWN.to_owned());
    let serial = listener.value("board.serial", "nvmlDeviceGetSerial", device.serial());
    let pci = listener
        .value("board.pci", "nvmlDeviceGetPciInfo_v3", device.pci_info())
        .map(|pci| pci.bus_id);
    let memory = super::memory::read(device, listener).total_bytes.get();
    let numa = device.memory_affinity(NODE_WORDS, ffi::NVML_AFFINITY_SCOPE_NODE);
    let numa_node = match listener
        .value("board.numa_node", "nvmlDeviceGetMemoryAffinity", numa)
        .map(|mask| bits(&mask).next())
    {
        Value::Value(Some(node)) => Value::Value(node),
        Value::Value(None) | Value::Unsupported => Value::Unsupported,
        Value::Error(because) => Value::Error(because),
    };
    let itself = GpuIdentity {
        uuid: uuid.clone(),
        part_of: None,
        name: name.as_str().into(),
        memory_mib: memory.unwrap_or(0) / MIB,
        pci: pci.known().map(|pci| pci.as_str().into()),
        serial: serial.known().map(|serial| serial.as_str().into()),
        numa: numa_node.get(),
        nvlink: None,
    };
    let (slots, handles) = match instances(device, &itself) {
        Some(found) => found.into_iter().unzip(),
        None => (vec![Slot { identity: itself, mig: None }], vec![None]),
    };
    let board = Board {
        uuid,
        index,
        name,
        serial,
        pci,
        minor: listener.value("board.minor", "nvmlDeviceGetMinorNumber", device.minor_number()),
        architecture: listener
            .value("board.architecture", "nvmlDeviceGetArchitecture", device.architecture())
            .map(|kind| kind.to_string()),
        compute_capability: listener
            .value(
                "board.compute_capability",
                "nvmlDeviceGetCudaComputeCapability",
                device.cuda_compute_capability(),
            )
            .map(|version| format!("{}.{}", version.major, version.minor)),
        part_number: listener.value(
            "board.part_number",
            "nvmlDeviceGetBoardPartNumber",
            device.board_part_number(),
        ),
        vbios: listener.value("board.vbios", "nvmlDeviceGetVbiosVersion", device.vbios_version()),
        module: listener.value("board.module", "nvmlDeviceGetModuleId", raw::module_id(device)),
        numa_node,
        nvlink_ends: super::nvlink::ends(device),
        cpu_affinity: listener
            .value("board.cpu_affinity", "nvmlDeviceGetCpuAffinity", device.cpu_affinity(CPU_WORDS))
            .map(|mask| ranges(&mask)),
        slots,
    };
    // A GPU that is lost in the middle of this has no identity: it would look like another one.
    match std::mem::take(listener).beyond_one_value() {
        Some(trouble) => Err(trouble),
        None => Ok((board, handles)),
    }
}

/// The MIG instances of the GPU, when it is split.
fn instances<'nvml>(
    device: &Device<'nvml>,
    parent: &GpuIdentity,
) -> Option<Vec<(Slot, Option<Device<'nvml>>)>> {
    let mode = device.mig_mode().ok()?;
    if mode.current != ffi::NVML_DEVICE_MIG_ENABLE {
        return None;
    }
    let most = device.mig_device_count().unwrap_or(0);
    // Places that no instance has are "not found".
    let found = (0..most).filter_map(|place| {
        let instance = device.mig_device_by_index(place).ok()?;
        Some((slot(&instance, parent)?, Some(instance)))
    });
    Some(found.collect())
}

fn slot(instance: &Device<'_>, parent: &GpuIdentity) -> Option<Slot> {
    let uuid = instance.uuid().ok()?;
    let listener = &mut Listener::default();
    let memory = super::memory::read(instance, listener).total_bytes.get();
    let attributes = instance.attributes().ok();
    let slices = attributes.as_ref().map_or(0, |found| found.gpu_instance_slice_count);
    let memory_mib = memory.map(|bytes| bytes / MIB);
    let memory_mib = memory_mib.or(attributes.map(|found| found.memory_size_mb)).unwrap_or(0);
    // The driver's own name ends in the profile: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    let name = instance.name().ok();
    let named = name.as_deref().and_then(|name| name.rsplit_once(" MIG "));
    let profile = match named {
        Some((_, profile)) => profile.to_owned(),
        None => format!("{slices}g.{}gb", memory_mib.div_ceil(1024)),
    };
    let mig = MigInstance {
        parent: parent.uuid.clone(),
        gpu_instance: listener.value(
            "mig.gpu_instance",
            "nvmlDeviceGetGpuInstanceId",
            raw::gpu_instance(instance),
        ),
        compute_instance: listener.value(
            "mig.compute_instance",
            "nvmlDeviceGetComputeInstanceId",
            raw::compute_instance(instance),
        ),
        profile: profile.clone(),
    };
    let identity = GpuIdentity {
        uuid: GpuUuid::from(uuid.as_str()),
        part_of: Some(parent.uuid.clone().into()),
        name: format!("{} MIG {profile}", parent.name).into(),
        memory_mib,
        pci: parent.pci.clone(),
        serial: parent.serial.clone(),
        numa: parent.numa,
        // Instances of a split GPU have no NVLinks, whatever their GPU has.
        nvlink: None,
    };
    Some(Slot { identity, mig: Some(mig) })
}

/// The numbers of the bits that are set.
fn bits(mask: &[c_ulong]) -> impl Iterator<Item = u32> {
    let width = c_ulong::BITS;
    let words = mask.iter().zip(0_u32..);
    words.flat_map(move |(word, at)| {
        (0..width).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * width + bit)
    })
}

/// A mask as the kernel writes lists of CPUs.
fn ranges(mask: &[c_ulong]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in bits(mask) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            Some(_) | None => ranges.push((cpu, cpu)),
        }
    }
    let text = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn a_mask_reads_as_the_kernel_writes_it() {
        assert_eq!(ranges(&[0b1011, 0b1]), "0-1,3,64");
        assert_eq!(ranges(&[0]), "");
        assert_eq!(ranges(&[u64::MAX, 1]), "0-64");
    }
}
