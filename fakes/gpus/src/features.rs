//! Parts of `gpus.json` that only some boards have: MIG instances, NVLinks, a fabric; and how a
//! board is set up.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::{PciAddress, Uuid};

/// A part of a GPU that is split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigInstance {
    /// As NVML prints it, `MIG-...`; it is also the name of the folder with its claims.
    pub uuid: Uuid,
    /// Its profile: slices of the GPU and memory.
    #[serde(default = "smallest_profile")]
    pub profile: String,
    /// Its memory.
    #[serde(default = "smallest_memory")]
    pub memory_mib: u32,
    /// Its compute instance.
    #[serde(default)]
    pub compute_instance: u32,
    /// Its GPU instance; default its place in the list and one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
}

impl MigInstance {
    /// Slices of the GPU's multiprocessors, as its profile says.
    pub fn slices(&self) -> u32 {
        let digits = self.profile.split('g').next().unwrap_or_default();
        digits.parse().unwrap_or(1)
    }
}

/// One NVLink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Errors of flow control digits.
    pub crc_flit: u64,
    /// Errors of data.
    pub crc_data: u64,
    /// Packets sent again.
    pub replay: u64,
    /// Times it had to recover.
    pub recovery: u64,
    /// Data sent over it, in KiB.
    pub sent_kib: u64,
    /// Data received over it, in KiB.
    pub received_kib: u64,
    /// The GPU at its other end, by its PCI address: a switch when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PciAddress>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            up: true,
            crc_flit: 0,
            crc_data: 0,
            replay: 0,
            recovery: 0,
            sent_kib: 0,
            received_kib: 0,
            peer: None,
        }
    }
}

/// The fabric that NVLinks make with switches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fabric {
    /// How far registration is.
    pub state: FabricState,
    /// NVML's return code of the registration.
    pub status: u32,
    /// The partition.
    pub clique: u32,
    /// NVML's mask of health bits.
    pub health_mask: u32,
}

/// How far a GPU's registration with the fabric is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FabricState {
    /// The fabric manager has not begun.
    NotStarted,
    /// It is at it.
    InProgress,
    /// It is done.
    #[default]
    Completed,
}

/// Who may use a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeMode {
    /// Everybody.
    #[default]
    Default,
    /// One process.
    ExclusiveProcess,
    /// Nobody.
    Prohibited,
}

/// How a board is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modes {
    /// Who may use it.
    pub compute: ComputeMode,
    /// Whether the driver stays loaded.
    pub persistence: bool,
    /// Whether memory errors are corrected.
    pub ecc: bool,
    /// Whether it has performance counters (Hopper and newer).
    pub gpm: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self { compute: ComputeMode::Default, persistence: true, ecc: true, gpm: true }
    }
}

/// Whether no instance repeats the UUID of another one or of a GPU.
pub fn first_repeated<'a>(
    seen: &mut BTreeSet<&'a Uuid>,
    instances: &'a [MigInstance],
) -> Option<&'a Uuid> {
    instances.iter().map(|instance| &instance.uuid).find(|uuid| !seen.insert(uuid))
}

fn smallest_profile() -> String {
    "1g.10gb".to_owned()
}

fn smallest_memory() -> u32 {
    9_856
}
