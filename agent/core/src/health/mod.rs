//! The node's judgement of its own health: gates, incidents, and the verdict that the scheduler is
//! told.
//!
//! It decides what may be used; it never ends a replica by itself: it asks.

mod gates;
mod incidents;
pub mod policy;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::health::{GateId, GateState, Health, Repair};
use wharfage_shared::ids::{BootId, GpuUuid};
use wharfage_shared::telemetry::GpuIdentity;
use wharfage_shared::time::Boottime;

pub use self::gates::Saw;
pub use self::incidents::{Kept, Memory, XidSeen, XidSource};

use self::gates::Record;
use self::incidents::Incidents;
use self::policy::XidPolicy;
use crate::effect::Effect;
use crate::out::Out;

/// What the node's owner decides about its health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of each XID.
    pub policy: XidPolicy,
    /// Gates that are switched off, with the owner's reasons.
    pub off: BTreeMap<GateId, String>,
}

/// One look at one gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Which gate.
    pub gate: GateId,
    /// Of which GPU; absent = the whole node.
    pub gpu: Option<GpuUuid>,
    /// What was seen.
    pub saw: Saw,
    /// One sentence.
    pub evidence: String,
}

/// What a replica can be given, and the GPU that it is, or is a part of: gates and the verdict are
/// the slot's, incidents are the GPU's.
#[derive(Clone, Debug)]
struct Slot {
    uuid: GpuUuid,
    board: GpuUuid,
}

/// Judges one node.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    off: BTreeMap<GateId, String>,
    gates: BTreeMap<(Option<GpuUuid>, GateId), Record>,
    incidents: Incidents,
    /// What is asked for although the GPU left the inventory stays: it is compared by this list.
    slots: Vec<Slot>,
    saved: Memory,
    /// What was said last; made anew only after something was heard, as every report carries it.
    verdict: Arc<Health>,
    is_stale: bool,
}

impl Judge {
    /// Goes on with what an earlier agent knew.
    pub fn new(settings: &Settings, memory: Memory, boot: &BootId, gpus: &[GpuIdentity]) -> Self {
        let saved = memory.clone();
        let (incidents, anew) = Incidents::new(settings.policy.clone(), memory, boot);
        let mut judge = Self {
            off: settings.off.clone(),
            gates: BTreeMap::new(),
            incidents,
            slots: Vec::new(),
            saved,
            verdict: Arc::default(),
            is_stale: true,
        };
        for gate in GateId::of_node() {
            judge.gates.insert((None, gate), Record::never(Boottime(0)));
        }
        judge.set_gpus(gpus, Boottime(0));
        for (gpu, because) in anew {
            let all = || judge.slots.iter().map(|slot| slot.uuid.clone()).collect();
            let named = gpu.map_or_else(all, |gpu| judge.slots_of(&gpu));
            for gpu in named {
                let record = Record::failed(Boottime(0), because.clone());
                judge.gates.insert((Some(gpu), GateId::INCIDENTS), record);
            }
        }
        judge.refresh();
        judge
    }

    /// The owner's settings are others from now on; what was decided before stays.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.off.clone_from(&settings.off);
        self.incidents.set_policy(&settings.policy);
        self.is_stale = true;
        self.refresh();
    }

    /// The GPUs that the node has now; those that are new must qualify.
    pub fn set_gpus(&mut self, gpus: &[GpuIdentity], now: Boottime) {
        for gpu in gpus {
            for gate in GateId::of_gpu() {
                let key = (Some(gpu.uuid.clone()), gate);
                self.gates.entry(key).or_insert_with(|| Record::never(now));
            }
        }
        let is_here = |uuid: &GpuUuid| gpus.iter().any(|gpu| gpu.uuid == *uuid);
        self.gates.retain(|(gpu, _), _| gpu.as_ref().is_none_or(is_here));
        let slot = |gpu: &GpuIdentity| Slot { uuid: gpu.uuid.clone(), board: gpu.board().clone() };
        self.slots = gpus.iter().map(slot).collect();
        self.look_at_incidents(now);
    }

    /// The slots of a GPU: its instances where it is split, else itself.
    pub fn slots_of(&self, gpu: &GpuUuid) -> Vec<GpuUuid> {
        let own = self.slots.iter().filter(|slot| slot.board == *gpu || slot.uuid == *gpu);
        let own: Vec<GpuUuid> = own.map(|slot| slot.uuid.clone()).collect();
        if own.is_empty() { vec![gpu.clone()] } else { own }
    }

    /// The GPU that an instance is a part of, else itself.
    fn board_of(&self, gpu: &GpuUuid) -> GpuUuid {
        let slot = self.slots.iter().find(|slot| slot.uuid == *gpu);
        slot.map_or(gpu, |slot| &slot.board).clone()
    }

    /// Takes looks in. What is open of incidents is looked at with them.
    pub fn hear(&mut self, evidence: &[Evidence], out: &mut Out) {
        let before = self.failing();
        for look in evidence.iter().filter(|look| look.gate != GateId::INCIDENTS) {
            if let Some(record) = self.gates.get_mut(&(look.gpu.clone(), look.gate)) {
                record.hear(look.saw, &look.evidence, out.now);
            }
        }
        self.look_at_incidents(out.now);
        self.tell(&before, out);
    }

    /// Takes an XID in; `model` is what runs on the GPU. The incident is the GPU's own, whichever of
    /// its instances was named; what is only restarted is that instance's.
    pub fn hear_xid(&mut self, mut seen: XidSeen, model: Option<String>, out: &mut Out) {
        let before = self.failing();
        // A record of the future would keep its incident open for as long.
        seen.at = seen.at.min(out.now);
        if let Some(gpu) = &mut seen.gpu {
            let board = self.board_of(gpu);
            if board != *gpu {
                // It was named by its instance alone.
                seen.parts.push(std::mem::replace(gpu, board));
            }
        }
        let Some(because) = self.incidents.hear(&seen, model) else { return };
        let on = seen.gpu.as_ref().map_or_else(String::new, |gpu| format!("{gpu}: "));
        out.note(None, format!("{on}{because} [{}]", seen.text));
        out.report_now();
        self.look_at_incidents(out.now);
        self.tell(&before, out);
    }

    /// Somebody saw to a GPU, or to the whole node.
    pub fn repaired(&mut self, gpu: Option<&GpuUuid>, by: Repair, out: &mut Out) {
        let board = gpu.map(|gpu| self.board_of(gpu));
        let closed = self.incidents.repaired(board.as_ref(), by);
        let what = gpu.map_or_else(|| "the node".to_owned(), ToString::to_string);
        out.note(None, format!("{what} is said to be well again: {closed} incidents are closed"));
        self.look_at_incidents(out.now);
        out.report_now();
    }

    /// Time has passed.
    pub fn pass(&mut self, out: &mut Out) {
        if self.incidents.pass(out.now) {
            self.look_at_incidents(out.now);
            out.report_now();
        }
        self.incidents.tidy();
        self.refresh();
        if self.saved != *self.incidents.memory() {
            self.saved = self.incidents.memory().clone();
            out.push(Effect::KeepHealth(Box::new(self.saved.clone())));
        }
    }

    /// When time alone changes something.
    pub fn wake(&self) -> Option<Boottime> {
        self.incidents.wake()
    }

    /// Whether something that was seen closes the node or one of its GPUs. What could not be looked
    /// at closes it for what is new and is nobody's fault yet.
    pub fn closes_any(&self) -> bool {
        self.failing().iter().any(|(_, gate)| *gate != GateId::INHIBITOR)
    }

    /// What the scheduler is told.
    pub fn verdict(&self) -> Arc<Health> {
        Arc::clone(&self.verdict)
    }

    fn refresh(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            let verdict = verdict::of(self);
            if verdict != *self.verdict {
                self.verdict = Arc::new(verdict);
            }
        }
    }

    /// Each GPU's gate of incidents sees what is open.
    fn look_at_incidents(&mut self, now: Boottime) {
        self.is_stale = true;
        for slot in &self.slots {
            let open = self.incidents.all().iter();
            let open = open.filter(|kept| kept.closes() && kept.is_on(&slot.board));
            let worst = open.max_by_key(|kept| kept.incident.action);
            let key = (Some(slot.uuid.clone()), GateId::INCIDENTS);
            let Some(record) = self.gates.get_mut(&key) else { continue };
            match worst {
                Some(kept) => record.hear(Saw::Fail, &kept.incident.because, now),
                None => record.hear(Saw::Pass, "no incident is open", now),
            }
        }
    }

    fn failing(&self) -> Vec<(Option<GpuUuid>, GateId)> {
        let failing = self.gates.iter().filter(|((_, gate), record)| {
            record.state() == GateState::Fail && !self.off.contains_key(gate)
        });
        failing.map(|(key, _)| key.clone()).collect()
    }

    /// What changed goes to the journal and to the scheduler.
    fn tell(&self, before: &[(Option<GpuUuid>, GateId)], out: &mut Out) {
        let after = self.failing();
        let named = |(gpu, gate): &(Option<GpuUuid>, GateId)| match gpu {
            Some(gpu) => format!("{gpu}: gate {gate} ({})", gate.about()),
            None => format!("gate {gate} ({})", gate.about()),
        };
        for key in after.iter().filter(|key| !before.contains(key)) {
            let evidence = self.gates.get(key).map_or("", Record::evidence);
            out.note(None, format!("{} fails: {evidence}", named(key)));
            out.report_now();
        }
        for key in before.iter().filter(|key| !after.contains(key)) {
            out.note(None, format!("{} passes again", named(key)));
            out.report_now();
        }
    }
}
