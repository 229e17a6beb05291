//! What the last minute's readings showed and the last one alone does not: clocks that were held
//! down for a moment, counters that grow.

use std::collections::{BTreeMap, VecDeque};

use wharfage_shared::ids::GpuUuid;
use wharfage_shared::time::{Boottime, Millis};

use crate::gpu::Gpus;
use crate::gpu::state::Sections;

/// So far back it is remembered.
pub(super) const WINDOW: Millis = Millis::from_seconds(60);

/// Samples of a counter lie at least this far apart, so that few are kept.
const APART: Millis = Millis::from_seconds(2);

/// Reasons by which hardware saves itself; the others are settings or lack of work.
const SAVING: [&str; 3] = ["hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"];

/// What is remembered of every GPU.
#[derive(Clone, Debug, Default)]
pub struct History {
    gpus: BTreeMap<GpuUuid, Past>,
}

/// What is remembered of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// When its hardware last slowed it down, and why.
    slowed: Option<(Boottime, String)>,
    /// How long heat had held its clocks down when that was last read.
    thermal_ns: Option<u64>,
    /// When that had grown.
    heated: Option<Boottime>,
    /// Packets sent again over PCIe, oldest first.
    replays: VecDeque<(Boottime, u32)>,
}

impl History {
    /// Takes the newest readings in.
    pub fn note(&mut self, gpus: &Gpus, now: Boottime) {
        self.gpus.retain(|uuid, _| gpus.slots().any(|(board, _)| board.uuid == *uuid));
        for (board, slot) in gpus.slots() {
            let past = self.gpus.entry(board.uuid.clone()).or_default();
            if let Some(seen) = gpus.seen.get(&slot.identity.uuid)
                && let Some(fast) = &seen.fast
                && let Some(reasons) = fast.throttle_reasons.known()
                && let Some(reason) =
                    reasons.iter().find(|reason| SAVING.contains(&reason.as_str()))
            {
                past.slowed = Some((seen.at, reason.clone()));
            }
            if let Some(sections) = gpus.sections.get(&board.uuid) {
                past.note(sections, now);
            }
        }
    }

    pub(super) fn of(&self, gpu: &GpuUuid) -> Option<&Past> {
        self.gpus.get(gpu)
    }
}

impl Past {
    fn note(&mut self, sections: &Sections, now: Boottime) {
        let thermal_ns = sections.power.as_ref().and_then(|power| power.held_down.thermal_ns.get());
        if let (Some(before), Some(is)) = (self.thermal_ns, thermal_ns)
            && is > before
        {
            self.heated = Some(now);
        }
        self.thermal_ns = thermal_ns.or(self.thermal_ns);
        let Some(replays) = sections.pcie.as_ref().and_then(|pcie| pcie.replays.get()) else {
            return;
        };
        match self.replays.back() {
            // A driver that was loaded anew counts from zero.
            Some((_, before)) if replays < *before => self.replays.clear(),
            Some((at, _)) if now.since(*at) < APART => return,
            Some(_) | None => {}
        }
        self.replays.push_back((now, replays));
        while self.replays.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.replays.pop_front();
        }
    }

    /// Why its hardware slowed it down within the window, if it did.
    pub(super) fn slowed(&self, now: Boottime) -> Option<&str> {
        let (at, reason) = self.slowed.as_ref()?;
        (now.since(*at) <= WINDOW).then_some(reason.as_str())
    }

    /// Whether heat held its clocks down within the window.
    pub(super) fn was_hot(&self, now: Boottime) -> bool {
        self.heated.is_some_and(|at| now.since(at) <= WINDOW)
    }

    /// Packets that were sent again over PCIe within the window.
    pub(super) fn replays(&self, now: Boottime) -> u32 {
        let mut within = self.replays.iter().filter(|(at, _)| now.since(*at) <= WINDOW);
        let first = within.next().map_or(0, |(_, count)| *count);
        self.replays.back().map_or(0, |(_, count)| count.saturating_sub(first))
    }
}
