//! GPU performance monitoring (Hopper and newer): shares of time and bytes between two samples.
//!
//! A sample is not made for two threads: each GPU's own thread keeps its last one.

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::{Device, GpmSample};
use serde::{Deserialize, Serialize};

use super::Value;
use super::trouble::Listener;

/// What was counted between the last two samples. Shares are in millionths of the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpm {
    /// Graphics or compute engine active.
    pub graphics_active_ppm: Value<u32>,
    /// Multiprocessors with work.
    pub sm_active_ppm: Value<u32>,
    /// Warps resident, of those that fit.
    pub sm_occupancy_ppm: Value<u32>,
    /// Tensor cores active.
    pub tensor_active_ppm: Value<u32>,
    /// Memory interface active.
    pub dram_active_ppm: Value<u32>,
    /// Double precision units active.
    pub fp64_active_ppm: Value<u32>,
    /// Single precision units active.
    pub fp32_active_ppm: Value<u32>,
    /// Half precision units active.
    pub fp16_active_ppm: Value<u32>,
    /// Sent over PCIe, in bytes per second.
    pub pcie_tx_bytes_per_second: Value<u64>,
    /// Received over PCIe, in bytes per second.
    pub pcie_rx_bytes_per_second: Value<u64>,
    /// Sent over all NVLinks, in bytes per second.
    pub nvlink_tx_bytes_per_second: Value<u64>,
    /// Received over all NVLinks, in bytes per second.
    pub nvlink_rx_bytes_per_second: Value<u64>,
}

/// Whether there are such counters.
const QUERY: &str = "nvmlGpmQueryDeviceSupport";

/// Computes them from two samples.
const TELL: &str = "nvmlGpmMetricsGet";

const METRICS: [(GpmMetricId, &str); 12] = [
    (GpmMetricId::GraphicsUtil, "gpm.graphics_active_ppm"),
    (GpmMetricId::SmUtil, "gpm.sm_active_ppm"),
    (GpmMetricId::SmOccupancy, "gpm.sm_occupancy_ppm"),
    (GpmMetricId::AnyTensorUtil, "gpm.tensor_active_ppm"),
    (GpmMetricId::DramBwUtil, "gpm.dram_active_ppm"),
    (GpmMetricId::Fp64Util, "gpm.fp64_active_ppm"),
    (GpmMetricId::Fp32Util, "gpm.fp32_active_ppm"),
    (GpmMetricId::Fp16Util, "gpm.fp16_active_ppm"),
    (GpmMetricId::PcieTxPerSec, "gpm.pcie_tx_bytes_per_second"),
    (GpmMetricId::PcieRxPerSec, "gpm.pcie_rx_bytes_per_second"),
    (GpmMetricId::NvlinkTotalTxPerSec, "gpm.nvlink_tx_bytes_per_second"),
    (GpmMetricId::NvlinkTotalRxPerSec, "gpm.nvlink_rx_bytes_per_second"),
];

/// NVML states transfers in MiB per second.
const MIB: f64 = 1024.0 * 1024.0;

/// Keeps the last sample of one GPU.
#[derive(Default)]
pub(super) struct Sampler<'nvml> {
    last: Option<GpmSample<'nvml>>,
}

impl<'nvml> Sampler<'nvml> {
    /// What happened since the last call; nothing at the first one.
    pub(super) fn read(
        &mut self,
        device: &Device<'nvml>,
        listener: &mut Listener,
    ) -> Option<Value<Gpm>> {
        let (function, supported) = match device.gpm_support() {
            Ok(true) => ("nvmlGpmSampleGet", device.gpm_sample()),
            Ok(false) => (QUERY, Err(NvmlError::NotSupported)),
            Err(error) => (QUERY, Err(error)),
        };
        let sample = match supported {
            Ok(sample) => sample,
            Err(error) => return Some(listener.value("gpm", function, Err(error))),
        };
        let last = self.last.replace(sample);
        let (last, sample) = (last?, self.last.as_ref()?);
        let asked = METRICS.map(|(id, _)| id);
        let metrics = match gpm_metrics_get(device.nvml(), &last, sample, &asked) {
            Ok(metrics) => metrics,
            Err(error) => return Some(listener.value("gpm", TELL, Err(error))),
        };
        let mut values = metrics.into_iter().zip(METRICS).map(|(metric, (_, field))| {
            let value = metric.map(|metric| metric.value);
            // What could not be computed is not a number.
            let value = value.and_then(|value| {
                if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(NvmlError::NoData) }
            });
            listener.value(field, TELL, value)
        });
        let mut next = || values.next().unwrap_or(Value::Unsupported);
        let mut share = || next().map(millionths);
        let shares = [(); 8].map(|()| share());
        let bytes = [(); 4].map(|()| next().map(bytes_of_mib));
        let [graphics, sm, occupancy, tensor, dram, fp64, fp32, fp16] = shares;
        let [pcie_tx, pcie_rx, nvlink_tx, nvlink_rx] = bytes;
        Some(Value::Value(Gpm {
            graphics_active_ppm: graphics,
            sm_active_ppm: sm,
            sm_occupancy_ppm: occupancy,
            tensor_active_ppm: tensor,
            dram_active_ppm: dram,
            fp64_active_ppm: fp64,
            fp32_active_ppm: fp32,
            fp16_active_ppm: fp16,
            pcie_tx_bytes_per_second: pcie_tx,
            pcie_rx_bytes_per_second: pcie_rx,
            nvlink_tx_bytes_per_second: nvlink_tx,
            nvlink_rx_bytes_per_second: nvlink_rx,
        }))
    }
}

/// A percentage as millionths; the conversion saturates.
fn millionths(percent: f64) -> u32 {
    (percent.min(100.0) * 10_000.0).round() as u32
}

/// MiB as bytes; the conversion saturates.
fn bytes_of_mib(mib: f64) -> u64 {
    (mib * MIB).round() as u64
}

#[cfg(test)]
mod tests {
    use super::{bytes_of_mib, millionths};

    #[test]
    fn a_percentage_keeps_four_places_and_never_exceeds_all() {
        assert_eq!(millionths(12.3456), 123_456);
        assert_eq!(millionths(250.0), 1_000_000);
        assert_eq!(bytes_of_mib(1.5), 1_572_864);
        assert_eq!(bytes_of_mib(f64::MAX), u64::MAX);
    }
}
