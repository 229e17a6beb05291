//! What the helper says to the agent: one JSON object a line on its standard output.

use serde::{Deserialize, Serialize};
use wharfage_agent_sys::nvml::GpuProcess;
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::{GpuIdentity, GpuReading};
use wharfage_shared::time::Boottime;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "saw")]
pub enum Line {
    /// NVML answers: these are the GPUs.
    Gpus {
        /// In NVML's order.
        gpus: Vec<GpuIdentity>,
        /// The driver's version.
        #[serde(default)]
        driver_version: Option<String>,
    },
    /// NVML cannot be used: the helper ends after this line.
    Unusable {
        /// One sentence for an operator.
        because: String,
    },
    /// One GPU was read.
    Reading {
        /// When the reading began.
        at: Boottime,
        /// What was read.
        reading: GpuReading,
        /// Who holds the GPU.
        processes: Vec<GpuProcess>,
    },
    /// One GPU answered with an error.
    Trouble {
        /// When it was asked.
        at: Boottime,
        /// Which.
        gpu: GpuUuid,
        /// One sentence.
        because: String,
    },
}
