//! One slot as the page shows it: who it is, all that was read of it, and how old that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use wharfage_agent_sys::nvml::{
    Board, Ecc, Fast, Gpm, MigInstance, Modes, NvLink, Pcie, PowerAndClocks, Value,
};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::GpuReading;
use wharfage_shared::time::Boottime;

use crate::gpu::Gpus;
use crate::gpu::held::{Held, Owners, Promises};
use crate::gpu::recent::Recent;
use crate::gpu::state::{Sections, Xids};

/// A reading that is older says nothing about now.
const STALE_MS: u64 = 10_000;

/// One slot.
#[derive(Clone, Debug, Serialize)]
pub struct ShownGpu {
    /// What heartbeats carry.
    #[serde(flatten)]
    pub reading: GpuReading,
    /// Its place in NVML's list; a MIG instance has its GPU's.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// Its memory.
    pub memory_total_mib: u64,
    /// What it is of its GPU, when it is a MIG instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
    /// The GPU that it is (a part of).
    pub board: Board,
    /// All that was read, by subject.
    pub readings: Readings,
    /// XIDs of its GPU since the agent started.
    pub xids: ShownXids,
    /// What happened to its GPU within the last five minutes.
    pub recent: ShownRecent,
    /// Who holds its memory; null until it was read once.
    pub held: Option<Held>,
}

/// All that was read. A subject is null until it was read once; a value that the GPU or its driver
/// does not have is `"unsupported"`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Readings {
    /// Read every half second.
    #[serde(flatten)]
    pub fast: Option<Arc<Fast>>,
    /// Power, clocks, limits.
    pub power: Option<PowerAndClocks>,
    /// Memory errors, retired pages, remapped rows.
    pub ecc: Option<Ecc>,
    /// The PCIe link.
    pub pcie: Option<Pcie>,
    /// NVLinks and the fabric.
    pub nvlink: Option<NvLink>,
    /// Data over all NVLinks in both directions, in MB/s.
    pub nvlink_mb_per_second: Option<u64>,
    /// MIG, compute mode, persistence.
    pub modes: Option<Modes>,
    /// Performance counters.
    pub gpm: Option<Value<Gpm>>,
    /// Age in milliseconds of the newest of the slower subjects.
    pub slow_age_ms: Option<u64>,
}

/// XIDs of one GPU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShownXids {
    /// The last one.
    pub last: Option<u32>,
    /// How many of each.
    pub counts: BTreeMap<u32, u64>,
}

/// What happened to one GPU lately.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShownRecent {
    /// How many of each XID.
    pub xids: BTreeMap<u32, u64>,
    /// Reasons that held its clocks down, by the half minutes that showed them.
    pub clock_events: BTreeMap<String, u64>,
}

/// All slots, in NVML's order.
pub fn all(gpus: &Gpus, owners: &Owners, promises: &Promises, now: Boottime) -> Vec<ShownGpu> {
    let readings: BTreeMap<GpuUuid, GpuReading> =
        gpus.readings(now).into_iter().map(|reading| (reading.uuid.clone(), reading)).collect();
    let shown = gpus.slots().filter_map(|(board, slot)| {
        let uuid = &slot.identity.uuid;
        let fast = gpus.seen.get(uuid).and_then(|seen| seen.fast.clone());
        let slot_bytes = slot.identity.memory_mib * 1024 * 1024;
        let promised = promises.get(uuid).map_or(&[][..], Vec::as_slice);
        let held = |fast: &Fast| Held::of(slot_bytes, promised, fast, owners);
        Some(ShownGpu {
            reading: readings.get(uuid)?.clone(),
            index: board.index,
            name: slot.identity.name.to_string(),
            memory_total_mib: slot.identity.memory_mib,
            mig: slot.mig.clone(),
            board: Board { slots: Vec::new(), ..board.clone() },
            held: fast.as_deref().map(held),
            readings: read(fast, gpus.sections.get(&board.uuid), now),
            xids: gpus.xids.get(&board.uuid).map(xids).unwrap_or_default(),
            recent: gpus.recent.get(&board.uuid).map(|it| recent(it, now)).unwrap_or_default(),
        })
    });
    shown.collect()
}

fn read(fast: Option<Arc<Fast>>, sections: Option<&Arc<Sections>>, now: Boottime) -> Readings {
    let Some(sections) = sections else { return Readings { fast, ..Readings::default() } };
    Readings {
        fast,
        power: sections.power.clone(),
        ecc: sections.ecc.clone(),
        pcie: sections.pcie.clone(),
        nvlink: sections.nvlink.clone(),
        nvlink_mb_per_second: sections.nvlink_mb_per_second,
        modes: sections.modes.clone(),
        gpm: sections.gpm.clone(),
        slow_age_ms: Some(now.since(sections.at).0),
    }
}

fn recent(recent: &Recent, now: Boottime) -> ShownRecent {
    ShownRecent { xids: recent.xids(now), clock_events: recent.clock_events(now) }
}

fn xids(xids: &Xids) -> ShownXids {
    ShownXids { last: Some(xids.last), counts: xids.counts.clone() }
}

impl ShownGpu {
    /// What was read from moment to moment, unless it is old: a gap says so better than a flat
    /// line.
    pub fn fast(&self) -> Option<&Fast> {
        self.readings.fast.as_deref().filter(|_| self.reading.age_ms <= STALE_MS)
    }

    /// The slower subjects, unless they are old.
    pub fn slow(&self) -> Option<&Readings> {
        let is_fresh = self.readings.slow_age_ms.is_some_and(|age| age <= STALE_MS);
        is_fresh.then_some(&self.readings)
    }
}
