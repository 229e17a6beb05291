//! `[health]` of agent.toml.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wharfage_shared::health::GateId;
use wharfage_shared::ids::GpuUuid;

use crate::bad_key::BadKey;

/// How the node judges its health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether `wharfage-agent inject` is accepted.
    pub allow_injection: bool,
    /// A file whose rows replace those of the shipped policy of XIDs.
    pub xid_policy: Option<PathBuf>,
    /// Whether the kernel's log is read for XIDs.
    pub read_kmsg: bool,
    /// Where it is read.
    pub kmsg: PathBuf,
    /// The process table and the kernel's own words.
    pub proc: PathBuf,
    /// What says that systemd runs.
    pub systemd_runs: PathBuf,
    /// The hosts that this one shares GPU memory with, as NVIDIA's IMEX reads them.
    pub imex_nodes: PathBuf,
    /// The folders of state and models need this share of their disk free.
    pub least_disk_percent: u8,
    /// A GPU that nobody holds shows at most this much memory in use.
    pub idle_memory_mib: u64,
    /// A GPU that nobody holds is cooler than this.
    pub hottest_idle_c: u16,
    /// So many GPUs are in this host; absent = as many as are found.
    pub gpus: Option<u32>,
    /// What every GPU must be; what is absent is not looked at.
    pub declared: Declared,
    /// What one GPU must be instead.
    pub declared_for: BTreeMap<GpuUuid, Declared>,
    /// The filesystem that the model cache must be on (`xfs`); absent = any.
    pub cache_filesystem: Option<String>,
    /// Gates that are switched off, each with a reason that is shown.
    pub off: BTreeMap<GateId, String>,
}

/// What a GPU must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declared {
    /// Whether memory errors are corrected.
    pub ecc: Option<bool>,
    /// Whether it is split into MIG instances.
    pub mig: Option<bool>,
    /// The profiles of its instances in any order: `["3g.40gb", "1g.10gb"]`.
    pub mig_layout: Option<Vec<String>>,
    /// Whether the driver stays loaded while nobody uses it.
    pub persistence: Option<bool>,
    /// Who may use it.
    pub compute_mode: Option<String>,
    /// So many NVLinks are up.
    pub nvlinks: Option<u32>,
    /// Its PCIe link reaches this generation under load.
    pub pcie_generation: Option<u32>,
    /// Its PCIe link has so many lanes.
    pub pcie_width: Option<u32>,
}

/// No GPU that still works is hotter.
const HOTTEST_C: u16 = 150;

const COMPUTE_MODES: [&str; 4] = ["default", "exclusive_process", "exclusive_thread", "prohibited"];

impl Declared {
    /// Whether anything is declared of how it is set up.
    pub fn has_modes(&self) -> bool {
        self.ecc.is_some()
            || self.mig.is_some()
            || self.mig_layout.is_some()
            || self.persistence.is_some()
            || self.compute_mode.is_some()
    }

    fn check(&self) -> Result<(), BadKey> {
        if let Some(mode) = &self.compute_mode
            && !COMPUTE_MODES.contains(&mode.as_str())
        {
            let said = format!("`{mode}` is none; accepted: {}", COMPUTE_MODES.join(", "));
            return Err(BadKey::new("compute_mode", said));
        }
        if self.mig == Some(false) && self.mig_layout.is_some() {
            let said = "mig = false has no layout; accepted: a layout, or mig = false";
            return Err(BadKey::new("mig_layout", said.to_owned()));
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_injection: false,
            xid_policy: None,
            read_kmsg: true,
            kmsg: PathBuf::from("/dev/kmsg"),
            proc: PathBuf::from("/proc"),
            systemd_runs: PathBuf::from("/run/systemd/system"),
            imex_nodes: PathBuf::from("/etc/nvidia-imex/nodes_config.cfg"),
            least_disk_percent: 15,
            idle_memory_mib: 850,
            hottest_idle_c: 84,
            gpus: None,
            declared: Declared::default(),
            declared_for: BTreeMap::new(),
            cache_filesystem: None,
            off: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// What is declared of a GPU: its own words before those for every GPU.
    pub fn declared_of(&self, gpu: &GpuUuid) -> Declared {
        let (all, own) = (self.declared.clone(), self.declared_for.get(gpu));
        let Some(own) = own.cloned() else { return all };
        Declared {
            ecc: own.ecc.or(all.ecc),
            // Its own layout and whether it is split belong together.
            mig: own.mig.or(if own.mig_layout.is_some() { None } else { all.mig }),
            mig_layout: own.mig_layout.or(if own.mig == Some(false) {
                None
            } else {
                all.mig_layout
            }),
            persistence: own.persistence.or(all.persistence),
            compute_mode: own.compute_mode.or(all.compute_mode),
            nvlinks: own.nvlinks.or(all.nvlinks),
            pcie_generation: own.pcie_generation.or(all.pcie_generation),
            pcie_width: own.pcie_width.or(all.pcie_width),
        }
    }

    /// What is wrong with it: which key, and what is accepted.
    pub fn check(&self) -> Result<(), BadKey> {
        if self.least_disk_percent > 99 {
            let said = format!("{} is no share; accepted: 0 to 99", self.least_disk_percent);
            return Err(BadKey::new("health.least_disk_percent", said));
        }
        if !(1..=HOTTEST_C).contains(&self.hottest_idle_c) {
            let said = format!("{} is no limit; accepted: 1 to {HOTTEST_C}", self.hottest_idle_c);
            return Err(BadKey::new("health.hottest_idle_c", said));
        }
        let empty = self.off.iter().find(|(_, reason)| reason.trim().is_empty());
        if let Some((gate, _)) = empty {
            let said = format!("{gate} is switched off without a reason; accepted: a sentence");
            return Err(BadKey::new("health.off", said));
        }
        let looked_at =
            |gate: &GateId| GateId::of_node().chain(GateId::of_gpu()).any(|known| known == *gate);
        if let Some(gate) = self.off.keys().find(|gate| !looked_at(gate)) {
            let said = format!("{gate} is the scheduler's; accepted: G2 to G21");
            return Err(BadKey::new("health.off", said));
        }
        if self.gpus == Some(0) {
            let said = "0 is none; accepted: a count, or nothing where it is not looked at";
            return Err(BadKey::new("health.gpus", said.to_owned()));
        }
        let declared = self.declared.check();
        declared.map_err(|bad| BadKey::new(format!("health.declared.{}", bad.key), bad.message))?;
        for (gpu, declared) in &self.declared_for {
            let key = |bad: &BadKey| format!("health.declared_for.\"{gpu}\".{}", bad.key);
            declared.check().map_err(|bad| BadKey::new(key(&bad), bad.message))?;
        }
        Ok(())
    }
}
