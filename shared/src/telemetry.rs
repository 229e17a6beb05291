//! What a host says of its hardware. Readings are telemetry, never facts of the log.
//!
//! A field that a GPU or driver does not support is absent, never zero.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{GpuUuid, HookId};

/// What seldom changes on a host: sent when its hash changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The GPUs, in NVML's order.
    pub gpus: Vec<GpuIdentity>,
    /// The driver's version, if one is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Why GPUs cannot be read, as one sentence for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_trouble: Option<String>,
    /// The engines that the node's owner has defined here: the same on many nodes.
    pub engines: Arc<[EngineOffer]>,
    /// The hooks that the node's owner has defined here.
    pub hooks: Vec<HookId>,
    /// Versions of agent and kernel, for people.
    pub agent_version: String,
    /// `uname -r`.
    pub kernel: String,
    /// Versions of engines that were not ready here when they said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub false_ready: Vec<FalseReady>,
    /// Models that lie whole in the host's cache, in the order of bucket and path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<CachedModel>,
    /// Where other hosts reach this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The fast network that it is on, by its owner's name; replicas do not stretch over two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// The instance's id at the provider, by which events name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

/// A model in a host's cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CachedModel {
    /// The bucket that it came from, by its local name.
    pub bucket: String,
    /// Its folder there.
    pub path: String,
    /// The sum of its files.
    pub bytes: u64,
}

/// A version of an engine whose health was good while its generation failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FalseReady {
    /// The engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Starts at which that was seen on this host.
    pub count: u32,
}

/// Who a GPU is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuIdentity {
    /// Its UUID.
    pub uuid: GpuUuid,
    /// The GPU that it is a part of, where it is a MIG instance: few are, and a fleet keeps many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<Box<GpuUuid>>,
    /// Its product name: GPUs of one host share it.
    pub name: Arc<str>,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Its PCI address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Box<str>>,
    /// Its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Box<str>>,
    /// The host's memory node that is nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// GPUs of a host with the same number reach each other over NVLinks; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvlink: Option<u32>,
}

impl GpuIdentity {
    /// A whole GPU of which no more is known.
    pub fn whole(uuid: GpuUuid, name: &str, memory_mib: u64) -> Self {
        Self {
            uuid,
            part_of: None,
            name: name.into(),
            memory_mib,
            pci: None,
            serial: None,
            numa: None,
            nvlink: None,
        }
    }

    /// The GPU itself: what breaks, is reset and is replaced as a whole.
    pub fn board(&self) -> &GpuUuid {
        self.part_of.as_deref().unwrap_or(&self.uuid)
    }
}

/// An engine that a node can run: a local definition, never a command from the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineOffer {
    /// `vllm`, `sglang`, ...
    pub name: String,
    /// Versions, newest first.
    pub versions: Vec<String>,
    /// Flags that a deployment may set, without `--`.
    pub flags: Vec<String>,
    /// Environment names that a deployment may set.
    #[serde(default)]
    pub env: Vec<String>,
    /// Those of the versions that can run over several nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gangs: Vec<String>,
}

impl EngineOffer {
    /// An engine in these versions, each on one node, without flags.
    pub fn of<const N: usize>(name: &str, versions: [&str; N]) -> Self {
        Self {
            name: name.to_owned(),
            versions: versions.map(str::to_owned).to_vec(),
            flags: Vec::new(),
            env: Vec::new(),
            gangs: Vec::new(),
        }
    }
}

/// One reading of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuReading {
    /// Which GPU.
    pub uuid: GpuUuid,
    /// Memory in use in MiB, without what the driver reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_mib: Option<u64>,
    /// Memory that the driver reserves, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reserved_mib: Option<u64>,
    /// Share of time in which a kernel ran, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<u8>,
    /// Degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<u16>,
    /// Milliwatts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_mw: Option<u64>,
    /// Age of this reading in milliseconds when it was sent.
    #[serde(default)]
    pub age_ms: u64,
    /// Why it cannot be read now (a lost GPU, a call that hangs): one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The first of its values that could not be read, where that closes nothing: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}
