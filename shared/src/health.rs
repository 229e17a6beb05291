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
const OF_NODE: [u8; 9] = [2, 3, 14, 16, 17, 18, 19, 20, 21];

/// Gates that are about one GPU each and that its agent looks at.
const OF_GPU: [u8; 11] = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15];

impl GateId {
    /// The scheduler's own: the node is enrolled, heard under its newest start, and its clock right.
    pub const ENROLMENT: Self = Self(1);
    /// The scheduler's own: an operator's word, and faults that come again and again.
    pub const OPERATOR: Self = Self(LAST_GATE);
    /// The gate that looks at open incidents; its evidence is what was heard of XIDs.
    pub const INCIDENTS: Self = Self(9);
    /// The gate that looks at whether a GPU answers.
    pub const ANSWERS: Self = Self(4);
    /// The gate that only decides about spot capacity.
    pub const INHIBITOR: Self = Self(18);

    /// The gate of this number, if there is one.
    pub fn new(number: u8) -> Option<Self> {
        (1..=LAST_GATE).contains(&number).then_some(Self(number))
    }

    /// Gates about the whole node, in order.
    pub fn of_node() -> impl Iterator<Item = Self> {
        OF_NODE.into_iter().map(Self)
    }

    /// Gates about one GPU each, in order.
    pub fn of_gpu() -> impl Iterator<Item = Self> {
        OF_GPU.into_iter().map(Self)
    }

    /// What it looks at, in a few words.
    pub fn about(self) -> &'static str {
        match self.0 {
            1 => "enrolment and clock",
            2 => "driver",
            3 => "count of GPUs",
            4 => "GPU answers",
            5 => "foreign processes",
            6 => "memory at its baseline",
            7 => "ECC errors",
            8 => "row remapping",
            9 => "XID incidents",
            10 => "PCIe link",
            11 => "throttling and temperature",
            12 => "declared modes",
            13 => "NVLink",
            14 => "fabric manager",
            15 => "CUDA starts",
            16 => "disk",
            17 => "memory and processes of the host",
            18 => "shutdown inhibitor",
            19 => "hook files",
            20 => "model cache",
            21 => "free ports",
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
