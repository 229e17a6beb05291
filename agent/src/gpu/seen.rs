//! The last word on one slot, on one GPU's slower readings, and on its XIDs.
//!
//! What was not read, or could not be, stays absent: it is never a zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_agent_sys::nvml::{
    Ecc, Fast, Gpm, GpuProcess, Modes, NvLink, Pcie, PowerAndClocks, Reach, Section, SlotReading,
    Trouble, Value,
};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::GpuReading;
use wharfage_shared::time::Boottime;

use super::MIB;

/// The last word on one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was last read (or the helper began).
    pub at: Boottime,
    /// What was read, as heartbeats carry it.
    pub reading: GpuReading,
    /// All that was read.
    pub fast: Option<Arc<Fast>>,
    /// Who held it.
    pub processes: Vec<GpuProcess>,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// How far that reaches.
    pub(super) reach: Option<Reach>,
}

/// The last word on one GPU's slower readings; a section is absent until it was read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// When the newest was read.
    pub at: Boottime,
    /// Power, clocks, limits.
    pub power: Option<PowerAndClocks>,
    /// Memory errors.
    pub ecc: Option<Ecc>,
    /// The PCIe link.
    pub pcie: Option<Pcie>,
    /// NVLinks and the fabric.
    pub nvlink: Option<NvLink>,
    /// Data over all NVLinks in both directions, in MB/s, between the last two looks.
    pub nvlink_mb_per_second: Option<u64>,
    /// When NVLinks were read last.
    nvlink_at: Boottime,
    /// MIG, compute mode, persistence.
    pub modes: Option<Modes>,
    /// Performance counters.
    pub gpm: Option<Value<Gpm>>,
    /// What a section says about the whole GPU, by its number.
    troubles: BTreeMap<usize, Trouble>,
    /// The first value of a section that could not be read, by its number.
    unread: BTreeMap<usize, String>,
}

/// XIDs of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xids {
    /// The last one.
    pub last: u32,
    /// How many of each.
    pub counts: BTreeMap<u32, u64>,
}

impl Sections {
    /// Whether gates that rest on them can be looked at.
    pub(super) fn are_all_read(&self) -> bool {
        let (power, ecc, pcie) = (self.power.is_some(), self.ecc.is_some(), self.pcie.is_some());
        power && ecc && pcie && self.nvlink.is_some() && self.modes.is_some()
    }

    /// Takes one section.
    pub(super) fn take(
        &mut self,
        at: Boottime,
        number: usize,
        section: Option<Section>,
        trouble: Option<Trouble>,
    ) {
        self.at = at;
        let (of_gpu, of_value) = match trouble {
            Some(trouble) if trouble.reach == Reach::Value => (None, Some(trouble.because)),
            trouble => (trouble, None),
        };
        self.mark(number, of_gpu);
        match of_value {
            Some(because) => drop(self.unread.insert(number, because)),
            None => drop(self.unread.remove(&number)),
        }
        match section {
            Some(Section::Power(power)) => self.power = Some(power),
            Some(Section::Ecc(ecc)) => self.ecc = Some(ecc),
            Some(Section::Pcie(pcie)) => self.pcie = Some(pcie),
            Some(Section::Nvlink(nvlink)) => {
                let before = self.nvlink.as_ref().and_then(NvLink::data_kib);
                let moved = nvlink.data_kib().zip(before);
                let moved = moved.and_then(|(now, before)| now.checked_sub(before));
                let took = at.since(self.nvlink_at).0;
                // KiB in ms; a counter that went back (a reset) tells nothing.
                self.nvlink_mb_per_second =
                    moved.and_then(|kib| (kib.saturating_mul(1024) / 1000).checked_div(took));
                self.nvlink_at = at;
                self.nvlink = Some(nvlink);
            }
            Some(Section::Modes(modes)) => self.modes = Some(modes),
            Some(Section::Gpm(gpm)) => self.gpm = Some(gpm),
            None => {}
        }
    }

    /// Keeps what is said about the whole GPU at this place, or that nothing is said any more.
    pub(super) fn mark(&mut self, number: usize, trouble: Option<Trouble>) {
        match trouble {
            Some(trouble) => drop(self.troubles.insert(number, trouble)),
            None => drop(self.troubles.remove(&number)),
        }
    }

    /// What reaches furthest of all that the sections say about the whole GPU.
    pub(super) fn worst_trouble(&self) -> Option<&Trouble> {
        self.troubles.values().max_by_key(|trouble| trouble.reach)
    }

    /// The first value that could not be read.
    pub(super) fn first_unread(&self) -> Option<&String> {
        self.unread.values().next()
    }
}

impl Xids {
    /// Takes one more.
    pub(super) fn count(&mut self, xid: u32) {
        self.last = xid;
        let count = self.counts.entry(xid).or_default();
        *count = count.saturating_add(1);
    }
}

impl Seen {
    /// A slot of which nothing was read yet.
    pub(crate) fn never(slot: &GpuUuid, at: Boottime) -> Self {
        let reading = unread(slot, None);
        Self { at, reading, fast: None, processes: Vec::new(), trouble: None, reach: None }
    }

    pub(super) fn of(at: Boottime, read: SlotReading) -> Self {
        let fast = read.fast;
        let mib = |bytes: &Value<u64>| bytes.get().map(|bytes| bytes / MIB);
        let reading = GpuReading {
            uuid: read.slot,
            memory_used_mib: mib(&fast.memory.used_bytes),
            memory_reserved_mib: mib(&fast.memory.reserved_bytes),
            utilization: fast.utilization.gpu_percent.get(),
            temperature_c: fast.temperature.gpu_c.get(),
            power_mw: fast.power_mw.get(),
            age_ms: 0,
            trouble: None,
            unread: read.unread,
        };
        Self {
            at,
            reading,
            processes: fast.processes.known().cloned().unwrap_or_default(),
            fast: Some(Arc::new(fast)),
            reach: read.trouble.as_ref().map(|trouble| trouble.reach),
            trouble: read.trouble.map(|trouble| trouble.because),
        }
    }
}

/// The reading of a slot that was not read.
pub(super) fn unread(uuid: &GpuUuid, trouble: Option<String>) -> GpuReading {
    GpuReading {
        uuid: uuid.clone(),
        memory_used_mib: None,
        memory_reserved_mib: None,
        utilization: None,
        temperature_c: None,
        power_mw: None,
        age_ms: 0,
        trouble,
        unread: None,
    }
}
