//! The GPU's PCIe link: how fast it is, how fast it could be, how often it repeated itself.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::PcieUtilCounter;
use serde::{Deserialize, Serialize};

use super::Value;
use super::raw;
use super::trouble::Listener;

/// The PCIe link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcie {
    /// The generation now; an idle link may be slower.
    pub generation: Value<u32>,
    /// The generation that GPU and slot together can.
    pub max_generation: Value<u32>,
    /// The generation that the GPU alone can.
    pub gpu_max_generation: Value<u32>,
    /// Lanes now.
    pub width: Value<u32>,
    /// Lanes that GPU and slot together can.
    pub max_width: Value<u32>,
    /// Packets sent again since the driver was loaded.
    pub replays: Value<u32>,
    /// Sent in the last 20 ms, in KB/s.
    pub tx_kb_per_second: Value<u32>,
    /// Received in the last 20 ms, in KB/s.
    pub rx_kb_per_second: Value<u32>,
    /// The window through which the host sees the GPU's memory.
    pub bar1_total_bytes: Value<u64>,
    /// What of it is in use.
    pub bar1_used_bytes: Value<u64>,
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> Pcie {
    let bar1 = listener.value(
        "pcie.bar1_total_bytes",
        "nvmlDeviceGetBAR1MemoryInfo",
        device.bar1_memory_info(),
    );
    Pcie {
        generation: listener.value(
            "pcie.generation",
            "nvmlDeviceGetCurrPcieLinkGeneration",
            device.current_pcie_link_gen(),
        ),
        max_generation: listener.value(
            "pcie.max_generation",
            "nvmlDeviceGetMaxPcieLinkGeneration",
            device.max_pcie_link_gen(),
        ),
        gpu_max_generation: listener.value(
            "pcie.gpu_max_generation",
            "nvmlDeviceGetGpuMaxPcieLinkGeneration",
            raw::gpu_pcie_generation(device),
        ),
        width: listener.value(
            "pcie.width",
            "nvmlDeviceGetCurrPcieLinkWidth",
            device.current_pcie_link_width(),
        ),
        max_width: listener.value(
            "pcie.max_width",
            "nvmlDeviceGetMaxPcieLinkWidth",
            device.max_pcie_link_width(),
        ),
        replays: listener.value(
            "pcie.replays",
            "nvmlDeviceGetPcieReplayCounter",
            device.pcie_replay_counter(),
        ),
        tx_kb_per_second: listener.value(
            "pcie.tx_kb_per_second",
            "nvmlDeviceGetPcieThroughput",
            device.pcie_throughput(PcieUtilCounter::Send),
        ),
        rx_kb_per_second: listener.value(
            "pcie.rx_kb_per_second",
            "nvmlDeviceGetPcieThroughput",
            device.pcie_throughput(PcieUtilCounter::Receive),
        ),
        bar1_total_bytes: bar1.clone().map(|bar1| bar1.total),
        bar1_used_bytes: bar1.map(|bar1| bar1.used),
    }
}
