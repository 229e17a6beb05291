//! What the helper says to the agent on its standard output: what it saw at one moment is one line,
//! a JSON list.

use serde::{Deserialize, Serialize};
use wharfage_agent_sys::nvml::{Board, MigPlace, Section, SlotReading, Trouble, Versions};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::time::Boottime;

use super::beside::Call;

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// NVML answers: these are the GPUs. Said again whenever they change.
    Gpus {
        /// In NVML's order.
        boards: Vec<Board>,
        /// Those that NVML counts and that cannot be identified.
        absent: Vec<Absent>,
        /// Versions of the driver.
        versions: Versions,
    },
    /// NVML cannot be used (any more): the helper ends after this line.
    Unusable {
        /// One sentence for an operator.
        because: String,
    },
    /// NVML counts another number of GPUs: it must be initialised anew.
    Recounted,
    /// Which calls beside the readings hang now. Said when that changes, and once at first.
    Hanging(Vec<Call>),
    /// The slots of one GPU were read.
    Reading {
        /// When the reading began.
        at: Boottime,
        /// Of each slot.
        slots: Vec<SlotReading>,
    },
    /// One section of one GPU was read.
    Section {
        /// When the reading began.
        at: Boottime,
        /// Of which GPU.
        gpu: GpuUuid,
        /// Its number.
        number: usize,
        /// What was read.
        section: Option<Box<Section>>,
        /// The worst that was wrong with it.
        trouble: Option<Trouble>,
    },
    /// NVML tells an XID.
    Xid {
        /// When it was heard.
        at: Boottime,
        /// Of which GPU.
        gpu: GpuUuid,
        /// Its number.
        xid: u32,
        /// The MIG instance that it is of, if one is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<MigPlace>,
    },
}

/// A GPU that NVML counts and that cannot be identified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Its place in NVML's list.
    pub index: u32,
    /// One sentence.
    pub because: String,
}
