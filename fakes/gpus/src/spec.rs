//! `gpus.json`: which GPUs exist, how they read and what is wrong with them.
//!
//! Unknown keys, a repeated uuid or an unreadable number refuse the whole file: a half-understood
//! file would show hardware that nobody described.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::features::{self, Fabric, Link, MigInstance, Modes};

/// The name under `faults` and `blocks` that stands for every function.
pub const EVERY_FUNCTION: &str = "*";

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fleet {
    /// Version of the kernel driver; default that of a current data-centre branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver supports, `major.minor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<CudaVersion>,
    /// Version of the library; default `13.` before the driver's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvml_version: Option<String>,
    /// The GPUs in index order.
    pub gpus: Vec<GpuSpec>,
    /// NVML return code per function name, for calls about any GPU or none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// Functions that do not return for as long as they stand here.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub blocks: BTreeSet<String>,
}

/// One GPU. Everything but `uuid` has the value of a healthy, idle H100 when absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// As NVML prints it, `GPU-...`; it is also the name of the folder with its claims.
    pub uuid: Uuid,
    /// Product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Board serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// PCI bus id, `domain:bus:device.function` in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
    /// All memory of the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// What the driver keeps for itself and no process can have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_mib: Option<u32>,
    /// What reads as used when no process holds anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_mib: Option<u32>,
    /// Core temperature; when absent it follows the utilization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<u32>,
    /// Power drawn; when absent it follows the utilization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_w: Option<u32>,
    /// The enforced power limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit_w: Option<u32>,
    /// Utilization before the claims' own contributions.
    #[serde(default)]
    pub utilization: Utilization,
    /// NUMA node of the host that is nearest.
    #[serde(default)]
    pub numa_node: u32,
    /// Temperature of its memory; when absent a little above the core's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_temperature_c: Option<u32>,
    /// How it is set up.
    #[serde(default)]
    pub modes: Modes,
    /// Its MIG instances: MIG is on when the list is there, also an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<Vec<MigInstance>>,
    /// Its NVLinks: a board without any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvlinks: Option<Vec<Link>>,
    /// The fabric of an NVSwitch system: none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<Fabric>,
    /// What its health counters read.
    #[serde(default)]
    pub health: Health,
    /// NVML return code per function name, for calls about this GPU.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// Functions that do not return for this GPU for as long as they stand here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blocks: BTreeSet<String>,
    /// XID events; each entry that is appended is delivered once to every event set that waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xids: Vec<Xid>,
    /// Memory that stays used although no process holds it.
    #[serde(default)]
    pub leak_mib: u32,
    /// How long the memory of an ended process stays used.
    #[serde(default)]
    pub linger_seconds: f64,
}

/// One XID event: its number alone, or with the MIG instance that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Xid {
    /// Of the GPU, whole.
    Whole(u64),
    /// Of an instance.
    Part {
        /// Its number.
        xid: u64,
        /// The GPU instance.
        gpu_instance: u32,
        /// The compute instance; absent: none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compute_instance: Option<u32>,
    },
}

/// Percent of time in which the GPU and its memory were busy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Utilization {
    /// Kernels running.
    pub gpu: u32,
    /// Memory being read or written.
    pub memory: u32,
}

/// Counters by which a GPU tells that it is wearing out; all zero on a healthy one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Corrected memory errors since the driver was loaded.
    pub ecc_corrected: u64,
    /// Uncorrected memory errors since the driver was loaded.
    pub ecc_uncorrected: u64,
    /// Corrected in the board's life; when absent as many as since the driver was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc_aggregate_corrected: Option<u64>,
    /// Not corrected in the board's life; when absent as many as since the driver was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc_aggregate_uncorrected: Option<u64>,
    /// Errors of the on-chip memory that were not corrected.
    pub sram_uncorrected: u64,
    /// Rows remapped after corrected errors.
    pub remapped_corrected: u32,
    /// Rows remapped after uncorrected errors.
    pub remapped_uncorrected: u32,
    /// A remapping waits for the next reset.
    pub remap_pending: bool,
    /// A remapping failed: the board is to be replaced.
    pub remap_failed: bool,
    /// Banks that have no spare row left.
    pub banks_without_spares: u32,
    /// Pages retired after double bit errors; a board that remaps rows instead when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_pages: Option<u32>,
    /// Bit mask of the reasons that hold the clocks down now.
    pub clocks_throttle_reasons: u64,
    /// PCIe generation of the link; default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_generation: Option<u32>,
    /// How long heat has held the clocks down since the driver was loaded.
    pub held_down_by_heat_ms: u64,
    /// Pages wait for a reboot to be retired; counts where `retired_pages` is there.
    pub retirement_pending: bool,
    /// The PCIe generation that GPU and slot together can; default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_max_generation: Option<u32>,
    /// PCIe lanes of the link; default 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_width: Option<u32>,
    /// PCIe replays since the driver was loaded.
    pub pcie_replays: u32,
}

/// The id of one GPU. Invariant: letters, digits and `-` only, so it is safe as a folder's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(String);

impl Uuid {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Uuid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=80).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            Ok(Self(text))
        } else {
            Err(format!("uuid must be 1 to 80 letters, digits or `-`, got `{text}`"))
        }
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.0
    }
}

/// `major.minor`, kept as NVML encodes it (12080 for 12.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CudaVersion(u16);

impl CudaVersion {
    /// The newest version that this stand-in claims when none is given: 13.0.
    pub const DEFAULT: Self = Self(13_000);

    /// The integer of `nvmlSystemGetCudaDriverVersion`.
    pub fn code(self) -> i32 {
        i32::from(self.0)
    }
}

impl TryFrom<String> for CudaVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('.').and_then(|(major, minor)| {
            Some((major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?))
        });
        match parts {
            Some((major @ 1..=64, minor @ 0..=99)) => Ok(Self(major * 1000 + minor * 10)),
            Some(_) | None => Err(format!("cuda_version must look like `12.8`, got `{text}`")),
        }
    }
}

impl From<CudaVersion> for String {
    fn from(version: CudaVersion) -> Self {
        format!("{}.{}", version.0 / 1000, version.0 % 1000 / 10)
    }
}

/// Where a GPU sits on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Domain (segment).
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device.
    pub device: u8,
}

impl PciAddress {
    /// `00000000:1B:00.0`.
    pub fn long(self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }

    /// `0000:1B:00.0`, the form from before domains had 32 bits.
    pub fn legacy(self) -> String {
        format!("{:04X}:{:02X}:{:02X}.0", self.domain & 0xffff, self.bus, self.device)
    }

    /// Reads either form, with or without the function.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let domain = u32::from_str_radix(parts.next()?, 16).ok()?;
        let bus = u8::from_str_radix(parts.next()?, 16).ok()?;
        let device = parts.next()?;
        let device = device.strip_suffix(".0").unwrap_or(device);
        let device = u8::from_str_radix(device, 16).ok()?;
        parts.next().is_none().then_some(Self { domain, bus, device })
    }
}

impl TryFrom<String> for PciAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or(format!("pci must look like `00000000:1B:00.0`, got `{text}`"))
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.long()
    }
}

impl Fleet {
    /// Reads the file's text; the error names line and column or the repeated uuid.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fleet: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut seen = BTreeSet::new();
        for gpu in &fleet.gpus {
            if !seen.insert(&gpu.uuid) {
                return Err(format!("uuid `{}` stands in `gpus` twice", gpu.uuid.as_str()));
            }
            let instances = gpu.mig.as_deref().unwrap_or_default();
            if let Some(uuid) = features::first_repeated(&mut seen, instances) {
                return Err(format!("uuid `{}` stands in `mig` twice", uuid.as_str()));
            }
            if gpu.linger_seconds < 0.0 {
                return Err(format!("linger_seconds must not be negative: {}", gpu.linger_seconds));
            }
        }
        Ok(fleet)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fleet, PciAddress};

    fn refusal(text: &str) -> String {
        Fleet::parse(text).expect_err("the text is wrong")
    }

    #[test]
    fn a_uuid_alone_is_a_whole_gpu() {
        let fleet = Fleet::parse(r#"{"gpus":[{"uuid":"GPU-1"}]}"#).expect("the text is right");
        assert_eq!(fleet.gpus[0].uuid.as_str(), "GPU-1");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let text = r#"{"driver_version":"1.2","cuda_version":"12.8","gpus":[{"uuid":"GPU-1",
            "pci":"0:1b:0.0","faults":{"nvmlDeviceGetTemperature":15},"blocks":["*"],"xids":[79],
            "utilization":{"gpu":5},"health":{"remap_pending":true,"retired_pages":2},
            "modes":{"compute":"prohibited"},"mig":[{"uuid":"MIG-1","profile":"2g.20gb"}],
            "nvlinks":[{},{"up":false}],"fabric":{"state":"in_progress"}}]}"#;
        let fleet = Fleet::parse(text).expect("the text is right");
        let written = serde_json::to_string(&fleet).expect("the fleet is plain data");
        assert_eq!(Fleet::parse(&written), Ok(fleet));
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_where() {
        let unknown = refusal(r#"{"gpus":[{"uuid":"GPU-1","colour":"red"}]}"#);
        assert!(unknown.contains("unknown field `colour`"), "{unknown}");
        assert!(unknown.contains("line 1 column 33"), "{unknown}");
        assert!(refusal(r#"{"gpus":[{"uuid":"../x"}]}"#).contains("letters, digits or `-`"));
        let twice = refusal(r#"{"gpus":[{"uuid":"GPU-1"},{"uuid":"GPU-1"}]}"#);
        assert_eq!(twice, "uuid `GPU-1` stands in `gpus` twice");
        let twice = refusal(r#"{"gpus":[{"uuid":"GPU-1","mig":[{"uuid":"M"},{"uuid":"M"}]}]}"#);
        assert_eq!(twice, "uuid `M` stands in `mig` twice");
        assert!(refusal(r#"{"cuda_version":"twelve"}"#).contains("must look like `12.8`"));
    }

    #[test]
    fn both_forms_of_a_bus_id_name_the_same_place() {
        let place = PciAddress { domain: 0, bus: 0x1b, device: 0 };
        assert_eq!(PciAddress::parse("00000000:1B:00.0"), Some(place));
        assert_eq!(PciAddress::parse("0000:1b:00.0"), Some(place));
        assert_eq!(PciAddress::parse("0000:1b:00.0:1"), None);
    }
}
