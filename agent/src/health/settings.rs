//! `[health]` of agent.toml.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wharfage_shared::health::GateId;

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
    /// Where systemd's login manager is configured.
    pub logind_conf: PathBuf,
    /// What says that systemd runs.
    pub systemd_runs: PathBuf,
    /// The folders of state and models need this share of their disk free.
    pub least_disk_percent: u8,
    /// A GPU that nobody holds shows at most this much memory in use.
    pub idle_memory_mib: u64,
    /// A GPU that nobody holds is cooler than this.
    pub hottest_idle_c: u16,
    /// The filesystem that the model cache must be on (`xfs`); absent = any.
    pub cache_filesystem: Option<String>,
    /// Gates that are switched off, each with a reason that is shown.
    pub off: BTreeMap<GateId, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_injection: false,
            xid_policy: None,
            read_kmsg: true,
            kmsg: PathBuf::from("/dev/kmsg"),
            proc: PathBuf::from("/proc"),
            logind_conf: PathBuf::from("/etc/systemd/logind.conf"),
            systemd_runs: PathBuf::from("/run/systemd/system"),
            least_disk_percent: 15,
            idle_memory_mib: 850,
            hottest_idle_c: 84,
            cache_filesystem: None,
            off: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// What is wrong with it: which key, and what is accepted.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.least_disk_percent > 99 {
            let said = format!("{} is no share; accepted: 0 to 99", self.least_disk_percent);
            return Err(("health.least_disk_percent", said));
        }
        let empty = self.off.iter().find(|(_, reason)| reason.trim().is_empty());
        if let Some((gate, _)) = empty {
            let said = format!("{gate} is switched off without a reason; accepted: a sentence");
            return Err(("health.off", said));
        }
        let looked_at =
            |gate: &GateId| GateId::of_node().chain(GateId::of_gpu()).any(|known| known == *gate);
        if let Some(gate) = self.off.keys().find(|gate| !looked_at(gate)) {
            let said = format!("{gate} is the scheduler's; accepted: G2 to G21");
            return Err(("health.off", said));
        }
        Ok(())
    }
}
