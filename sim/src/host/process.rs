//! The truth about one replica on a host: its guard, its engine, what it leaves behind. It lives on
//! when the agent dies.

use wharfage_agent_core::input::{Probe, Release};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::{Ended, MemoryProof};
use wharfage_shared::time::{Boottime, Millis};

/// Memory that a GPU shows while nobody uses it.
pub(crate) const BASELINE_MIB: u64 = 500;

/// Memory that an engine takes on each of its GPUs.
pub(crate) const ENGINE_MIB: u64 = 60_000;

/// One guard with its engine, or the record that it left.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub order: RunOrder,
    pub address: String,
    pub started_at: Boottime,
    pub started: Millis,
    /// The engine has read its weights.
    pub loaded: Millis,
    /// A generation was proven; kept in the guard's record.
    pub was_ready: bool,
    pub serve_until: Option<Boottime>,
    pub terminated: Option<Millis>,
    /// When its last checkpoint was begun, which is the state that it holds, and when it is whole.
    pub saved: Option<(Millis, Millis)>,
    /// It does not end on SIGTERM.
    pub is_stubborn: bool,
    /// Why it answers no probe, where it does not.
    pub broken: Option<String>,
    /// It lives and does nothing, not even end on SIGTERM.
    pub hangs: bool,
    pub end: Option<End>,
}

/// How and when an engine ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub ended: Ended,
    pub at: Millis,
    pub memory_back: Millis,
}

impl Process {
    pub fn runs(&self) -> bool {
        self.end.is_none()
    }

    /// Whether it does its work.
    pub fn serves(&self, now: Millis) -> bool {
        let is_well = self.broken.is_none() && !self.hangs && self.terminated.is_none();
        self.runs() && is_well && self.loaded <= now
    }

    /// The work that is lost when it ends now: all since it was loaded, or since its last whole
    /// checkpoint was begun.
    pub fn unsaved(&self, now: Millis) -> Millis {
        let saved = self.saved.filter(|(_, whole)| *whole <= now).map(|(begun, _)| begun);
        now - saved.unwrap_or(self.loaded).min(now)
    }

    /// Whether something of it is on its GPUs: processes, or memory that is not back.
    pub fn holds_memory(&self, now: Millis) -> bool {
        self.end.as_ref().is_none_or(|end| now < end.memory_back)
    }

    /// What a probe sees, where so many members of its gang run. A leader answers nothing without
    /// all of them; of a follower its process is all that is looked at.
    pub fn probed(&self, now: Millis, prove: bool, members: u32) -> Probe {
        let gang = self.order.gang.as_ref();
        let is_alone = gang.is_some_and(|gang| gang.leads() && members < gang.world_size);
        let follows = gang.is_some_and(|gang| !gang.leads());
        match (&self.end, &self.broken) {
            (Some(_), _) => Probe::Failed("connection refused".to_owned()),
            (None, Some(why)) => Probe::Failed(why.clone()),
            (None, None) if self.hangs => Probe::Failed("no answer in time".to_owned()),
            (None, None) if is_alone && self.was_ready => {
                Probe::Failed("a member of it is gone".to_owned())
            }
            (None, None) if is_alone || (now < self.loaded && !follows) => Probe::Loading,
            (None, None) if prove => Probe::Proven,
            (None, None) => Probe::Healthy,
        }
    }

    /// What a look at its slots sees; `silent` is a GPU whose driver does not answer.
    pub fn looked_at(
        &self,
        now: Millis,
        silent: Option<&GpuUuid>,
        clock: impl Fn(Millis) -> Boottime,
    ) -> Release {
        let held = |processes_left, because| Release::Held { processes_left, because };
        let Some(end) = &self.end else {
            return held(true, "the engine's process lives".to_owned());
        };
        if let Some(gpu) = silent {
            return held(false, format!("{gpu}: the driver does not answer"));
        }
        if now < end.memory_back {
            let because = format!("{ENGINE_MIB} MiB are not back");
            return held(false, because);
        }
        let proof = |gpu: &GpuUuid| MemoryProof {
            gpu: gpu.clone(),
            baseline_mib: BASELINE_MIB,
            used_mib: BASELINE_MIB,
        };
        Release::Free {
            processes_gone_at: clock(end.at),
            memory_back_at: clock(end.memory_back),
            memory: self.order.gpus.iter().map(proof).collect(),
        }
    }
}
