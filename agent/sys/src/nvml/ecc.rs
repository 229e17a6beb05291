//! Memory errors and what was done about them: counters, retired pages, remapped rows.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, RetirementCause};
use serde::{Deserialize, Serialize};

use super::Value;
use super::raw;
use super::trouble::Listener;

/// Errors of the GPU's memories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// Whether errors are corrected now.
    pub is_enabled: Value<bool>,
    /// Whether they will be after the next reboot.
    pub will_be_enabled: Value<bool>,
    /// Corrected since the driver was loaded.
    pub volatile_corrected: Value<u64>,
    /// Not corrected since the driver was loaded.
    pub volatile_uncorrected: Value<u64>,
    /// Corrected in the board's life.
    pub aggregate_corrected: Value<u64>,
    /// Not corrected in the board's life.
    pub aggregate_uncorrected: Value<u64>,
    /// Errors of the on-chip memory that were not corrected since the driver was loaded.
    pub sram_volatile_uncorrected: Value<u64>,
    /// The same in the board's life.
    pub sram_aggregate_uncorrected: Value<u64>,
    /// Whether the on-chip memory has had so many that NVIDIA replaces the board.
    pub sram_threshold_exceeded: Value<bool>,
    /// Pages that are no longer used.
    pub retired_pages: RetiredPages,
    /// Rows that were replaced by spare ones.
    pub remapped_rows: RemappedRows,
}

/// Pages taken out of use (GPUs before Ampere).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredPages {
    /// After several single bit errors.
    pub single_bit: Value<u64>,
    /// After a double bit error.
    pub double_bit: Value<u64>,
    /// Whether more wait for a reboot.
    pub is_pending: Value<bool>,
}

/// Rows of memory replaced by spare ones (Ampere and newer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemappedRows {
    /// After corrected errors.
    pub correctable: Value<u32>,
    /// After errors that were not corrected.
    pub uncorrectable: Value<u32>,
    /// Whether one waits for the next reset.
    pub is_pending: Value<bool>,
    /// Whether one ever failed: the board is to be replaced.
    pub has_failed: Value<bool>,
    /// How many banks have how many spare rows left.
    pub banks: Value<Banks>,
}

/// Banks of memory by the spare rows that they have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banks {
    /// All of them.
    pub max: u32,
    /// Many.
    pub high: u32,
    /// Some.
    pub partial: u32,
    /// Few.
    pub low: u32,
    /// None: the next error there cannot be repaired.
    pub none: u32,
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> Ecc {
    let mode = listener.value("ecc.is_enabled", "nvmlDeviceGetEccMode", device.is_ecc_enabled());
    let mut errors = |field, kind: MemoryError, counter: EccCounter| {
        let answer = device.total_ecc_errors(kind, counter);
        listener.value(field, "nvmlDeviceGetTotalEccErrors", answer)
    };
    let volatile_corrected =
        errors("ecc.volatile_corrected", MemoryError::Corrected, EccCounter::Volatile);
    let volatile_uncorrected =
        errors("ecc.volatile_uncorrected", MemoryError::Uncorrected, EccCounter::Volatile);
    let aggregate_corrected =
        errors("ecc.aggregate_corrected", MemoryError::Corrected, EccCounter::Aggregate);
    let aggregate_uncorrected =
        errors("ecc.aggregate_uncorrected", MemoryError::Uncorrected, EccCounter::Aggregate);
    let sram = listener.value(
        "ecc.sram_volatile_uncorrected",
        "nvmlDeviceGetSramEccErrorStatus",
        raw::sram_errors(device),
    );
    Ecc {
        is_enabled: mode.clone().map(|mode| mode.currently_enabled),
        will_be_enabled: mode.map(|mode| mode.pending_enabled),
        volatile_corrected,
        volatile_uncorrected,
        aggregate_corrected,
        aggregate_uncorrected,
        sram_volatile_uncorrected: sram
            .clone()
            .map(|sram| sram.volatileUncParity.saturating_add(sram.volatileUncSecDed)),
        sram_aggregate_uncorrected: sram
            .clone()
            .map(|sram| sram.aggregateUncParity.saturating_add(sram.aggregateUncSecDed)),
        sram_threshold_exceeded: sram.map(|sram| sram.bThresholdExceeded != 0),
        retired_pages: retired(device, listener),
        remapped_rows: remapped(device, listener),
    }
}

fn retired(device: &Device<'_>, listener: &mut Listener) -> RetiredPages {
    let mut count = |field, cause: RetirementCause| {
        let pages = listener.value(field, "nvmlDeviceGetRetiredPages", device.retired_pages(cause));
        pages.map(|pages| pages.len() as u64)
    };
    RetiredPages {
        single_bit: count(
            "ecc.retired_pages.single_bit",
            RetirementCause::MultipleSingleBitEccErrors,
        ),
        double_bit: count("ecc.retired_pages.double_bit", RetirementCause::DoubleBitEccError),
        is_pending: listener.value(
            "ecc.retired_pages.is_pending",
            "nvmlDeviceGetRetiredPagesPendingStatus",
            device.are_pages_pending_retired(),
        ),
    }
}

fn remapped(device: &Device<'_>, listener: &mut Listener) -> RemappedRows {
    let rows = listener.value(
        "ecc.remapped_rows.correctable",
        "nvmlDeviceGetRemappedRows",
        raw::remapped_rows(device),
    );
    let histogram = raw::remap_histogram(device);
    let function = "nvmlDeviceGetRowRemapperHistogram";
    let banks = listener.value("ecc.remapped_rows.banks", function, histogram).map(|banks| Banks {
        max: banks.max,
        high: banks.high,
        partial: banks.partial,
        low: banks.low,
        none: banks.none,
    });
    RemappedRows {
        correctable: rows.clone().map(|rows| rows.correctable),
        uncorrectable: rows.clone().map(|rows| rows.uncorrectable),
        is_pending: rows.clone().map(|rows| rows.is_pending),
        has_failed: rows.map(|rows| rows.has_failed),
        banks,
    }
}
