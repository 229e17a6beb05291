//! A node's health as its agent judges it: gates with their evidence, incidents, and what the node
//! asks for. It travels when its hash changes.
//!
//! A gate that is unknown never counts as passed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::GpuUuid;
use crate::time::Boottime;

/// A gate by its number in the catalogue, `G1` to `G22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct GateId(u8);

/// The number of the last gate.
const LAST_GATE: u8 = 22;

/// Gates that are about the whole node and that its agent looks at.
const OF_NODE: [GateId; 9] = [
    GateId::DRIVER,
    GateId::COUNT,
    GateId::FABRIC,
    GateId::DISK,
    GateId::HOST,
    GateId::INHIBITOR,
    GateId::HOOKS,
    GateId::CACHE,
    GateId::PORTS,
];

/// Gates that are about one GPU each and that its agent looks at.
const OF_GPU: [GateId; 11] = [
    GateId::ANSWERS,
    GateId::PROCESSES,
    GateId::BASELINE,
    GateId::ECC,
    GateId::ROWS,
    GateId::INCIDENTS,
    GateId::PCIE,
    GateId::HEAT,
    GateId::MODES,
    GateId::NVLINK,
    GateId::CUDA,
];

impl GateId {
    /// The scheduler's own: the node is enrolled, heard under its newest start, and its clock is
    /// right.
    pub const ENROLMENT: Self = Self(1);
    /// NVML answers.
    pub const DRIVER: Self = Self(2);
    /// All GPUs are there.
    pub const COUNT: Self = Self(3);
    /// A GPU answers.
    pub const ANSWERS: Self = Self(4);
    /// Nobody is on a GPU that no replica holds.
    pub const PROCESSES: Self = Self(5);
    /// The memory of such a GPU is free.
    pub const BASELINE: Self = Self(6);
    /// No uncorrected memory error.
    pub const ECC: Self = Self(7);
    /// No row of memory waits to be remapped, none could not be.
    pub const ROWS: Self = Self(8);
    /// No incident is open; its evidence is what was heard of XIDs.
    pub const INCIDENTS: Self = Self(9);
    /// The link to the host.
    pub const PCIE: Self = Self(10);
    /// Nothing slows a GPU down to save it.
    pub const HEAT: Self = Self(11);
    /// A GPU is set up as declared.
    pub const MODES: Self = Self(12);
    /// NVLinks are up as declared.
    pub const NVLINK: Self = Self(13);
    /// The fabric manager runs where it must.
    pub const FABRIC: Self = Self(14);
    /// CUDA starts.
    pub const CUDA: Self = Self(15);
    /// There is room for state and models.
    pub const DISK: Self = Self(16);
    /// Memory is left and no process is stuck.
    pub const HOST: Self = Self(17);
    /// A shutdown waits for the hooks; it decides about spot capacity only.
    pub const INHIBITOR: Self = Self(18);
    /// Hook files are good.
    pub const HOOKS: Self = Self(19);
    /// The model cache can be used.
    pub const CACHE: Self = Self(20);
    /// Guards can listen.
    pub const PORTS: Self = Self(21);
    /// The scheduler's own: an operator's word, and faults that come again and again.
    pub const OPERATOR: Self = Self(22);

    /// The gate of this number, if there is one.
    pub fn new(number: u8) -> Option<Self> {
        (1..=LAST_GATE).contains(&number).then_some(Self(number))
    }

    /// Gates about the whole node, in order.
    pub fn of_node() -> impl Iterator<Item = Self> {
        OF_NODE.into_iter()
    }

    /// Gates about one GPU each, in order.
    pub fn of_gpu() -> impl Iterator<Item = Self> {
        OF_GPU.into_iter()
    }

    /// What it looks at, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::ENROLMENT => "enrolment and clock",
            Self::DRIVER => "driver",
            Self::COUNT => "count of GPUs",
            Self::ANSWERS => "GPU answers",
            Self::PROCESSES => "foreign processes",
            Self::BASELINE => "memory at its baseline",
            Self::ECC => "ECC errors",
            Self::ROWS => "row remapping",
            Self::INCIDENTS => "XID incidents",
            Self::PCIE => "PCIe link",
            Self::HEAT => "throttling and temperature",
            Self::MODES => "declared modes",
            Self::NVLINK => "NVLink",
            Self::FABRIC => "fabric manager",
            Self::CUDA => "CUDA starts",
            Self::DISK => "disk",
            Self::HOST => "memory and processes of the host",
            Self::INHIBITOR => "shutdown inhibitor",
            Self::HOOKS => "hook files",
            Self::CACHE => "model cache",
            Self::PORTS => "free ports",
            _ => "operator and repeated incidents",
        }
    }
}

impl fmt::Display for GateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("G{}", self.0))
    }
}

impl From<GateId> for String {
    fn from(gate: GateId) -> Self {
        gate.to_string()
    }
}

impl TryFrom<String> for GateId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let number = text.strip_prefix('G').and_then(|number| number.parse().ok());
        number
            .and_then(Self::new)
            .ok_or_else(|| format!("`{text}` is no gate; accepted: G1 to G{LAST_GATE}"))
    }
}

/// How a gate stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum GateState {
    /// It was looked at and is well.
    Pass,
    /// It was looked at and is not well, or has not been well again for long enough.
    Fail,
    /// It could not be looked at, or not yet.
    Unknown,
    /// What it looks at is not there.
    NotApplicable,
    /// The node's owner switched it off.
    Off {
        /// The owner's words.
        reason: String,
    },
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Which.
    pub id: GateId,
    /// Of which GPU; absent = the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuUuid>,
    /// How it stands.
    #[serde(flatten)]
    pub state: GateState,
    /// Since when.
    pub since: Boottime,
    /// What was seen, one sentence.
    pub evidence: String,
}

/// Why a GPU or a node may not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unfit {
    /// The rule: `XID 79`, `G4`. Rules that hit many nodes at once are braked.
    pub rule: String,
    /// One sentence.
    pub because: String,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuHealth {
    /// Which.
    pub gpu: GpuUuid,
    /// Why nothing new may use it; absent = it is fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<Unfit>,
}

/// The node as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "node")]
pub enum NodeHealth {
    /// Something was not looked at yet.
    #[default]
    Qualifying,
    /// Its gates pass.
    Fit,
    /// One does not.
    Unfit(Unfit),
}

/// What becomes of an incident, the mildest first: in a burst the worst wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is written down.
    Record,
    /// What runs on the GPU is started anew.
    RestartReplica,
    /// The GPU is reset when nothing uses it any more; until then it is used.
    ResetWhenIdle,
    /// Nothing new uses it.
    CordonGpu,
    /// Nothing new uses it, and what does moves away.
    Drain,
    /// It is drained and reset.
    Reset,
    /// The node is drained and boots anew.
    Reboot,
    /// It is drained and replaced.
    Replace,
}

/// What closed an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Nothing more was heard, and it was mild.
    Passed,
    /// The GPU was reset.
    Reset,
    /// The node booted anew.
    Reboot,
    /// Somebody saw to it.
    Operator,
}

/// XIDs that belong together: each followed the one before within three minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number on this node.
    pub number: u64,
    /// On which GPU, whole; absent where the kernel did not name one of this node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuUuid>,
    /// The XIDs in the order in which they were first heard.
    pub xids: Vec<u32>,
    /// What becomes of it.
    pub action: Action,
    /// When it began.
    pub first_at: Boottime,
    /// When it was heard of last.
    pub last_at: Boottime,
    /// What it means, one sentence.
    pub because: String,
    /// A drill: somebody injected it.
    #[serde(default)]
    pub injected: bool,
    /// What closed it; absent = it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Repair>,
}

/// What a node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// End what runs there now and start it anew.
    RestartReplica,
    /// Move what runs there away, successors first.
    Drain,
    /// Reset the GPU.
    Reset,
    /// Boot the node anew.
    Reboot,
    /// Replace the hardware.
    Replace,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Asked::RestartReplica => "restart of the replica",
            Asked::Drain => "drain",
            Asked::Reset => "reset",
            Asked::Reboot => "reboot",
            Asked::Replace => "replacement",
        })
    }
}

/// One thing that a node asks for; it asks until the incident is closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ask {
    /// The incident that it comes from, within one boot.
    pub incident: u64,
    /// What.
    pub what: Asked,
    /// For which GPU; absent = the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuUuid>,
    /// Only replicas on more than one GPU are meant.
    #[serde(default)]
    pub only_multi_gpu: bool,
    /// The rule behind it: `XID 79`.
    pub rule: String,
    /// Why, one sentence.
    pub because: String,
    /// A drill: somebody injected it.
    #[serde(default)]
    pub injected: bool,
}

/// Everything that an agent says of its node's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The node as a whole.
    #[serde(default)]
    pub node: NodeHealth,
    /// Why a spot replica may not be placed here although others may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_spot: Option<Unfit>,
    /// GPU by GPU.
    #[serde(default)]
    pub gpus: Vec<GpuHealth>,
    /// Every gate, those of the node first.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Open incidents and the last closed ones.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// What it asks for.
    #[serde(default)]
    pub asks: Vec<Ask>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_written_as_its_number_and_nothing_else_is_one() {
        let gate = GateId::new(4).expect("a gate");
        assert_eq!(serde_json::to_string(&gate).expect("text"), "\"G4\"");
        assert_eq!(serde_json::from_str::<GateId>("\"G22\"").expect("a gate").to_string(), "G22");
        for bad in ["\"G0\"", "\"G23\"", "\"4\"", "\"\"", "\"Gx\"", "\"G300\""] {
            let error = serde_json::from_str::<GateId>(bad).expect_err("no gate").to_string();
            assert!(error.contains("accepted: G1 to G22"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_report_of_an_older_agent_lacks_what_it_does_not_know() {
        let health: Health = serde_json::from_str("{\"node\":{\"node\":\"fit\"}}").expect("read");
        assert_eq!(health, Health { node: NodeHealth::Fit, ..Health::default() });
    }
}
