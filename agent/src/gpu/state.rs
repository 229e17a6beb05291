//! What is known of the GPUs: the helper's words taken one by one.
//!
//! A GPU is never forgotten while the agent runs: one that NVML no longer lists stays, named and
//! in trouble. Only MIG instances may go, when their GPU says that its layout changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_agent_sys::nvml::{Board, Reach, Section, Slot, SlotReading, Trouble, Versions};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::{GpuIdentity, GpuReading};
use wharfage_shared::time::{Boottime, Millis};

use super::beside::Call;
use super::census::{self, Missing, Sightings};
use super::recent::Recent;
use super::seen::unread;
pub use super::seen::{Sections, Seen, Xids};
use super::topology;
use super::words::Absent;

/// A GPU of which nothing was read for so long is silent; no single call has a deadline of its own.
pub(super) const SILENT_AFTER: Millis = Millis(2500);

/// What an unanswered GPU is called.
pub const DOES_NOT_ANSWER: &str = "the driver does not answer";

/// What a GPU is called that NVML listed before.
pub const NOT_LISTED: &str = "NVML no longer lists this GPU";

/// What is not noticed while NVML's count hangs.
const COUNT_HANGS: &str = "the driver does not answer how many GPUs there are: one that comes or \
                           goes is not noticed";

/// What a GPU is called of which no XIDs are heard.
pub const XIDS_HANG: &str = "the driver does not answer: its XIDs are not heard";

/// The place of that among the troubles of sections.
const XIDS: usize = usize::MAX;

/// What is known of the GPUs at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Whether each GPU was read once (or it was said why not) since the agent started.
    pub is_settled: bool,
    /// The slots, in NVML's order: what was once seen stays until another list comes.
    pub identities: Vec<GpuIdentity>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// Versions of the driver and what comes with it.
    pub versions: Versions,
    /// Why they cannot be read, as one sentence.
    pub trouble: Option<String>,
    /// The last word on each slot.
    pub seen: BTreeMap<GpuUuid, Seen>,
    /// The GPUs that NVML lists.
    pub boards: Arc<Vec<Board>>,
    /// GPUs that it listed before and lists no more.
    pub gone: Arc<Vec<Board>>,
    /// GPUs that it counts and that cannot be identified.
    pub absent: Vec<Absent>,
    /// The last word on each GPU's slower readings.
    pub sections: BTreeMap<GpuUuid, Arc<Sections>>,
    /// GPUs that not everybody sees: NVML, the kernel driver, the PCI bus.
    pub missing: Vec<Missing>,
    /// XIDs that NVML told since the agent started.
    pub xids: BTreeMap<GpuUuid, Xids>,
    /// What happened to each GPU within the last minutes.
    pub recent: BTreeMap<GpuUuid, Recent>,
    /// Helpers alive, the abandoned ones included.
    pub helpers_alive: usize,
    /// NVML does not say how many GPUs there are.
    pub count_hangs: bool,
    /// Whether a helper has told who the GPUs are.
    is_listed: bool,
}

impl Gpus {
    /// GPUs that cannot be read at all, with the reason.
    pub fn unreadable(because: String) -> Self {
        Self { is_settled: true, trouble: Some(because), ..Self::default() }
    }

    /// Readings as a heartbeat carries them, in NVML's order.
    pub fn readings(&self, now: Boottime) -> Vec<GpuReading> {
        let one = |identity: &GpuIdentity| {
            let trouble = self.trouble_of(&identity.uuid);
            match self.seen.get(&identity.uuid) {
                Some(seen) => {
                    let age_ms = now.since(seen.at).0;
                    let unread = self.unread_of(seen);
                    GpuReading { age_ms, trouble, unread, ..seen.reading.clone() }
                }
                None => unread(&identity.uuid, trouble),
            }
        };
        self.identities.iter().map(one).collect()
    }

    /// What is wrong with each slot that cannot be trusted now.
    pub fn troubles(&self) -> BTreeMap<GpuUuid, String> {
        let of = |slot: &GpuIdentity| Some((slot.uuid.clone(), self.trouble_of(&slot.uuid)?));
        self.identities.iter().filter_map(of).collect()
    }

    /// What is wrong with one slot: all GPUs, its own readings, or its GPU's slower ones.
    pub fn trouble_of(&self, slot: &GpuUuid) -> Option<String> {
        let own = || self.seen.get(slot).and_then(|seen| seen.trouble.clone());
        let of_board = || {
            let board = self.board_of(slot)?;
            self.sections.get(&board.uuid)?.worst_trouble().map(|trouble| trouble.because.clone())
        };
        self.trouble.clone().or_else(own).or_else(of_board)
    }

    /// The first value of a slot or its GPU that could not be read, though the slot can be trusted.
    fn unread_of(&self, seen: &Seen) -> Option<String> {
        let of_board = || {
            let board = self.board_of(&seen.reading.uuid)?;
            self.sections.get(&board.uuid)?.first_unread().cloned()
        };
        seen.reading.unread.clone().or_else(of_board)
    }

    /// The GPU that a slot is (a part of).
    pub fn board_of(&self, slot: &GpuUuid) -> Option<&Board> {
        let has = |board: &&Board| board.slots.iter().any(|own| own.identity.uuid == *slot);
        self.boards.iter().find(has).or_else(|| self.gone.iter().find(has))
    }

    /// Each slot with the GPU that it is (a part of), in NVML's order; GPUs that went come last.
    pub fn slots(&self) -> impl Iterator<Item = (&Board, &Slot)> {
        let boards = self.boards.iter().chain(self.gone.iter());
        boards.flat_map(|board| board.slots.iter().map(move |slot| (board, slot)))
    }

    /// Whether both tell the same of who the GPUs are and whether they can be read at all.
    pub fn is_same_inventory(&self, other: &Self) -> bool {
        self.identities == other.identities
            && self.driver_version == other.driver_version
            && self.trouble == other.trouble
    }

    /// How many GPUs have told each of their slower readings.
    pub fn sections_read(&self) -> usize {
        let told = self.sections.values().filter(|sections| sections.are_all_read());
        told.count()
    }

    /// What an operator should look at, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let absent = self.absent.iter().map(|absent| {
            format!("GPU {} of NVML's list cannot be identified: {}", absent.index, absent.because)
        });
        let missing = self.missing.iter().map(ToString::to_string);
        let count = self.count_hangs.then(|| COUNT_HANGS.to_owned());
        self.trouble.iter().cloned().chain(absent).chain(missing).chain(count).collect()
    }

    /// Whether a GPU is lost in a way that initialising NVML anew may heal.
    pub(super) fn has_lost_one(&self) -> bool {
        let seen = |slot: &Slot| {
            let own = self.seen.get(&slot.identity.uuid).and_then(|seen| seen.reach);
            own >= Some(Reach::Gpu)
        };
        let lost = |board: &Board| board.slots.iter().any(seen);
        self.boards.iter().any(lost) || !self.gone.is_empty()
    }

    /// Takes a new list of GPUs.
    pub(super) fn list(&mut self, mut boards: Vec<Board>, absent: Vec<Absent>, versions: Versions) {
        let groups = topology::groups(&boards);
        for (board, group) in boards.iter_mut().zip(groups) {
            for slot in board.slots.iter_mut().filter(|slot| slot.mig.is_none()) {
                slot.identity.nvlink = group;
            }
        }
        // A GPU that hung before stays marked until it was read again.
        self.is_listed = true;
        self.trouble = match (boards.as_slice(), absent.first()) {
            ([], Some(first)) => Some(first.because.clone()),
            (_, _) => None,
        };
        let before = std::mem::take(&mut self.boards);
        let before = before.iter().chain(self.gone.iter());
        let is_listed = |uuid: &GpuUuid| boards.iter().any(|board| board.uuid == *uuid);
        let gone: Vec<Board> = before.filter(|b| !is_listed(&b.uuid)).cloned().collect();
        for board in &gone {
            // Which GPU an unidentified one is cannot be told: it may be this one.
            let because = if absent.is_empty() { NOT_LISTED } else { DOES_NOT_ANSWER };
            let why = absent.first().map_or(because, |absent| absent.because.as_str());
            for slot in &board.slots {
                let uuid = &slot.identity.uuid;
                let never = || Seen::never(uuid, Boottime::default());
                let seen = self.seen.entry(uuid.clone()).or_insert_with(never);
                seen.trouble = Some(why.to_owned());
            }
        }
        self.driver_version = versions.driver.clone();
        self.versions = versions;
        self.boards = Arc::new(boards);
        self.gone = Arc::new(gone);
        self.absent = absent;
        self.identities = self.slots().map(|(_, slot)| slot.identity.clone()).collect();
        let slots = &self.identities;
        self.seen.retain(|uuid, _| slots.iter().any(|slot| slot.uuid == *uuid));
        self.settle();
    }

    /// Takes readings of slots.
    pub(super) fn read(&mut self, at: Boottime, slots: Vec<SlotReading>) {
        for reading in slots {
            if let Some(reasons) = reading.fast.throttle_reasons.known()
                && let Some(board) = self.board_of(&reading.slot).map(|board| board.uuid.clone())
            {
                self.recent.entry(board).or_default().held_down(at, reasons);
            }
            self.seen.insert(reading.slot.clone(), Seen::of(at, reading));
        }
        self.settle();
    }

    /// Takes one section of a GPU.
    pub(crate) fn section(
        &mut self,
        at: Boottime,
        gpu: GpuUuid,
        number: usize,
        section: Option<Section>,
        trouble: Option<Trouble>,
    ) {
        Arc::make_mut(self.sections.entry(gpu).or_default()).take(at, number, section, trouble);
    }

    /// Takes which calls beside the readings hang; whether another helper may do without.
    pub(super) fn hanging(&mut self, calls: &[Call]) -> bool {
        // Another helper would count first of all, and hang with every GPU.
        self.count_hangs = calls.contains(&Call::Count);
        for board in self.boards.iter() {
            let hangs = calls.contains(&Call::Xids(board.uuid.clone()));
            let trouble = || Trouble { reach: Reach::Value, because: XIDS_HANG.to_owned() };
            let sections = self.sections.entry(board.uuid.clone()).or_default();
            Arc::make_mut(sections).mark(XIDS, hangs.then(trouble));
        }
        calls.iter().any(|call| matches!(call, Call::Xids(_)))
    }

    /// Takes an XID.
    pub(super) fn xid(&mut self, at: Boottime, gpu: GpuUuid, xid: u32) {
        self.recent.entry(gpu.clone()).or_default().xid(at, xid);
        self.xids.entry(gpu).or_default().count(xid);
    }

    /// Compares with what others see.
    pub(super) fn compare(&mut self, sightings: &Sightings) -> bool {
        // Before NVML has listed anything, nothing is missing.
        if !self.is_listed {
            return false;
        }
        let missing = census::compare(&self.boards, &self.gone, sightings);
        let changed = missing != self.missing;
        self.missing = missing;
        changed
    }

    /// Marks GPUs that were not read for too long. Says whether any is silent, and whether that
    /// is new.
    pub(super) fn mark_silent(&mut self, now: Boottime, started: Boottime) -> (bool, bool) {
        let mut any = self.absent.iter().any(|absent| absent.because == DOES_NOT_ANSWER);
        let mut changed = false;
        for slot in self.boards.iter().flat_map(|board| &board.slots) {
            let uuid = &slot.identity.uuid;
            let never = || Seen::never(uuid, started);
            let seen = self.seen.entry(uuid.clone()).or_insert_with(never);
            // Each helper has its own chance to read a GPU.
            if now.since(seen.at.max(started)) > SILENT_AFTER {
                any = true;
                changed |= seen.trouble.as_deref() != Some(DOES_NOT_ANSWER);
                seen.trouble = Some(DOES_NOT_ANSWER.to_owned());
                seen.reach = None;
            }
        }
        self.is_settled |= changed;
        (any, changed)
    }

    fn settle(&mut self) {
        let has_all = || self.identities.iter().all(|slot| self.seen.contains_key(&slot.uuid));
        self.is_settled |= self.is_listed && has_all();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::gpu::MIB;
    use wharfage_agent_sys::nvml::{Fast, Value};

    /// A GPU that is its own slot.
    pub(crate) fn board(uuid: &str, index: u32, pci: &str) -> Board {
        let identity = GpuIdentity {
            uuid: GpuUuid::from(uuid),
            part_of: None,
            name: "NVIDIA H100 80GB HBM3".into(),
            memory_mib: 81_559,
            pci: Some(pci.into()),
            serial: None,
            numa: None,
            nvlink: None,
        };
        Board {
            uuid: GpuUuid::from(uuid),
            index,
            name: identity.name.to_string(),
            serial: Value::Unsupported,
            pci: Value::Value(pci.to_owned()),
            minor: Value::Value(index),
            architecture: Value::Unsupported,
            compute_capability: Value::Unsupported,
            part_number: Value::Unsupported,
            vbios: Value::Unsupported,
            module: Value::Unsupported,
            numa_node: Value::Unsupported,
            cpu_affinity: Value::Unsupported,
            nvlink_ends: Vec::new(),
            slots: vec![Slot { identity, mig: None }],
        }
    }

    /// A GPU split into instances of these UUIDs.
    fn split(uuid: &str, instances: &[&str]) -> Board {
        let whole = board(uuid, 0, "00000000:1B:00.0");
        let slot = |instance: &&str| Slot {
            identity: GpuIdentity {
                uuid: GpuUuid::from(*instance),
                part_of: Some(whole.uuid.clone().into()),
                ..whole.slots[0].identity.clone()
            },
            mig: None,
        };
        let slots = instances.iter().map(slot).collect();
        Board { slots, ..whole }
    }

    /// A reading of an idle GPU, most of it unsupported.
    pub(crate) fn fast() -> Fast {
        use wharfage_agent_sys::nvml::{Memory, Temperature, Utilization};
        let memory = Memory {
            total_bytes: Value::Value(100 * MIB),
            used_bytes: Value::Value(4 * MIB),
            free_bytes: Value::Value(96 * MIB),
            reserved_bytes: Value::Unsupported,
        };
        let utilization = Utilization {
            gpu_percent: Value::Value(7),
            memory_percent: Value::Unsupported,
            encoder_percent: Value::Unsupported,
            decoder_percent: Value::Unsupported,
        };
        let temperature =
            Temperature { gpu_c: Value::Error("no".to_owned()), memory_c: Value::Unsupported };
        Fast {
            memory,
            utilization,
            temperature,
            power_mw: Value::Unsupported,
            throttle_reasons: Value::Unsupported,
            processes: Value::Value(Vec::new()),
        }
    }

    fn reading(slot: &str, trouble: Option<(Reach, &str)>) -> SlotReading {
        let trouble =
            trouble.map(|(reach, because)| Trouble { reach, because: because.to_owned() });
        SlotReading { slot: GpuUuid::from(slot), fast: fast(), trouble, unread: None }
    }

    fn two() -> Gpus {
        let mut gpus = Gpus::default();
        let boards = vec![board("GPU-a", 0, "00000000:1B:00.0"), board("GPU-b", 1, "0:43:0.0")];
        gpus.list(boards, Vec::new(), Versions::default());
        gpus.read(Boottime(1000), vec![reading("GPU-a", None)]);
        gpus.read(Boottime(1000), vec![reading("GPU-b", None)]);
        gpus
    }

    fn names(gpus: &Gpus) -> Vec<String> {
        gpus.identities.iter().map(|gpu| gpu.uuid.to_string()).collect()
    }

    #[test]
    fn only_what_was_read_is_said_and_an_error_is_no_zero() {
        let gpus = two();
        assert!(gpus.is_settled);
        let said = &gpus.readings(Boottime(1300))[0];
        assert_eq!((said.memory_used_mib, said.utilization), (Some(4), Some(7)));
        assert_eq!(
            (said.temperature_c, said.power_mw, said.memory_reserved_mib),
            (None, None, None)
        );
        assert_eq!((said.age_ms, said.trouble.as_deref()), (300, None));
    }

    #[test]
    fn a_gpu_that_falls_silent_is_marked_and_the_other_is_not() {
        let mut gpus = two();
        gpus.read(Boottime(3000), vec![reading("GPU-b", None)]);
        assert_eq!(gpus.mark_silent(Boottime(3500), Boottime(0)), (false, false));
        assert_eq!(gpus.mark_silent(Boottime(3501), Boottime(0)), (true, true));
        assert_eq!(gpus.troubles().into_values().collect::<Vec<_>>(), [DOES_NOT_ANSWER]);
        assert_eq!(gpus.mark_silent(Boottime(3600), Boottime(0)), (true, false), "no news");
        gpus.read(Boottime(4000), vec![reading("GPU-a", None)]);
        assert!(gpus.troubles().is_empty(), "it was read again");
    }

    #[test]
    fn a_gpu_that_nvml_no_longer_lists_stays_and_is_in_trouble() {
        let mut gpus = two();
        let only_b = || vec![board("GPU-b", 0, "0:43:0.0")];
        gpus.list(only_b(), Vec::new(), Versions::default());
        assert_eq!(names(&gpus), ["GPU-b", "GPU-a"]);
        assert_eq!(gpus.trouble_of(&"GPU-a".into()).as_deref(), Some(NOT_LISTED));
        assert_eq!(gpus.trouble_of(&"GPU-b".into()), None);
        assert!(gpus.has_lost_one());
        gpus.mark_silent(Boottime(9_000_000), Boottime(9_000_000));
        gpus.list(only_b(), Vec::new(), Versions::default());
        assert_eq!(gpus.trouble_of(&"GPU-a".into()).as_deref(), Some(NOT_LISTED));

        let back = vec![board("GPU-a", 0, "00000000:1B:00.0"), board("GPU-b", 1, "0:43:0.0")];
        gpus.list(back, Vec::new(), Versions::default());
        gpus.read(Boottime(2000), vec![reading("GPU-a", None)]);
        assert_eq!(names(&gpus), ["GPU-a", "GPU-b"]);
        assert!(gpus.troubles().is_empty() && !gpus.has_lost_one());
    }

    #[test]
    fn another_mig_layout_replaces_the_slots_of_its_gpu() {
        let mut gpus = two();
        let list = |gpus: &mut Gpus, slots: &[&str]| {
            let boards = vec![split("GPU-a", slots), board("GPU-b", 1, "0:43:0.0")];
            gpus.list(boards, Vec::new(), Versions::default());
        };
        list(&mut gpus, &["MIG-1", "MIG-2"]);
        assert_eq!(names(&gpus), ["MIG-1", "MIG-2", "GPU-b"], "the GPU itself is no slot now");
        gpus.read(Boottime(1000), vec![reading("MIG-1", None), reading("MIG-2", None)]);
        list(&mut gpus, &["MIG-3"]);
        assert_eq!(names(&gpus), ["MIG-3", "GPU-b"]);
        assert!(!gpus.seen.contains_key(&"MIG-1".into()));
    }

    #[test]
    fn what_a_section_says_of_the_gpu_stays_until_that_section_says_otherwise() {
        let mut gpus = two();
        let reset = Trouble { reach: Reach::Gpu, because: "it must be reset".to_owned() };
        gpus.section(Boottime(1), "GPU-a".into(), 0, None, Some(reset));
        gpus.read(Boottime(1500), vec![reading("GPU-a", None)]);
        assert_eq!(gpus.trouble_of(&"GPU-a".into()).as_deref(), Some("it must be reset"));
        gpus.section(Boottime(2), "GPU-a".into(), 1, None, None);
        assert!(gpus.trouble_of(&"GPU-a".into()).is_some());
        gpus.section(Boottime(3), "GPU-a".into(), 0, None, None);
        assert_eq!(gpus.trouble_of(&"GPU-a".into()), None);
    }

    #[test]
    fn a_value_that_could_not_be_read_is_told_beside_and_closes_nothing() {
        let mut gpus = two();
        let value = Trouble { reach: Reach::Value, because: "no energy".to_owned() };
        gpus.section(Boottime(1), "GPU-a".into(), 3, None, Some(value));
        let told = |gpus: &Gpus| {
            let readings = gpus.readings(Boottime(1300)).into_iter();
            readings.map(|reading| (reading.unread, reading.trouble)).collect::<Vec<_>>()
        };
        assert_eq!(told(&gpus), [(Some("no energy".to_owned()), None), (None, None)]);
        let power = SlotReading { unread: Some("no power".to_owned()), ..reading("GPU-a", None) };
        gpus.read(Boottime(1500), vec![power]);
        assert_eq!(told(&gpus)[0].0.as_deref(), Some("no power"), "what is read more often first");
        gpus.read(Boottime(2000), vec![reading("GPU-a", None)]);
        gpus.section(Boottime(2), "GPU-a".into(), 3, None, None);
        assert_eq!(told(&gpus), [(None, None), (None, None)]);
    }

    #[test]
    fn a_gpu_that_cannot_be_identified_is_told_and_holds_up_nobody() {
        let mut gpus = Gpus::default();
        let absent = Absent { index: 0, because: DOES_NOT_ANSWER.to_owned() };
        gpus.read(Boottime(1000), vec![reading("GPU-b", None)]);
        assert!(!gpus.is_settled, "nobody has said yet who there is");
        let boards = vec![board("GPU-b", 1, "0:43:0.0")];
        gpus.list(boards, vec![absent], Versions::default());
        assert!(gpus.is_settled && gpus.troubles().is_empty());
        assert_eq!(
            gpus.alarms(),
            ["GPU 0 of NVML's list cannot be identified: the driver does not answer"]
        );
        assert!(gpus.mark_silent(Boottime(1100), Boottime(0)).0, "its helper hangs in that call");
    }
}
