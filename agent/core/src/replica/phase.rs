//! Where a replica on this host is in its life, and the questions that others ask about it.

use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::Boottime;

use crate::asking::Asking;

/// A replica's life. What is gone is no longer a replica: its proof is kept by the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Ordered; nothing was begun.
    Waiting,
    /// The model is brought to the host.
    Fetching { done: u64, total: u64, fetched: bool },
    /// The restore hook runs.
    Restoring,
    /// Guard and engine were asked for.
    Starting,
    /// The engine reads its weights; `said` once it told so itself.
    Loading { done: u64, total: u64, said: bool, probe: Asking },
    /// The engine answers; the proof is under way.
    Warming { probe: Asking },
    /// Proven.
    Ready { probe: Asking, failures: u32 },
    /// Was proven, fails now.
    Degraded { probe: Asking },
    /// Traffic off; requests in flight come to their end.
    Draining,
    /// Traffic ended; the drain hook runs.
    DrainHook,
    /// SIGTERM was asked for.
    Terminating { since: Boottime, kill_at: Boottime },
    /// SIGKILL was asked for, and is asked for again.
    Killing { since: Boottime, again_at: Boottime },
    /// The engine ended; what it left behind is being ended and looked for.
    Releasing { ended: Ended, proof: Proof },
    /// Nothing of it lives that could be ended, and its slots are not proven free.
    Quarantined { ended: Ended, proof: Proof, because: String },
}

/// The looks for the proof that slots are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The next one.
    pub look: Asking,
    /// So many were made.
    pub looks: u32,
}

impl Phase {
    /// The word that the scheduler hears.
    pub fn reported(&self) -> ReportedPhase {
        match self {
            Phase::Waiting | Phase::Fetching { .. } | Phase::Restoring => ReportedPhase::Fetching,
            Phase::Starting | Phase::Loading { .. } => ReportedPhase::Loading,
            Phase::Warming { .. } => ReportedPhase::Warming,
            Phase::Ready { .. } => ReportedPhase::Ready,
            Phase::Degraded { .. } => ReportedPhase::Degraded,
            Phase::Draining | Phase::DrainHook => ReportedPhase::Draining,
            Phase::Terminating { .. } | Phase::Killing { .. } => ReportedPhase::Stopping,
            Phase::Releasing { .. } => ReportedPhase::Stopping,
            Phase::Quarantined { .. } => ReportedPhase::Quarantined,
        }
    }

    /// Whether its guard has been seen: from here on its time is metered.
    pub fn has_guard(&self) -> bool {
        match self {
            Phase::Waiting | Phase::Fetching { .. } | Phase::Restoring | Phase::Starting => false,
            Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => true,
        }
    }

    /// Whether something of it may stand on its GPUs.
    pub fn holds_slots(&self) -> bool {
        self.has_guard() || matches!(self, Phase::Starting)
    }

    /// Whether it takes new work.
    pub fn serves(&self) -> bool {
        matches!(self, Phase::Ready { .. } | Phase::Degraded { .. })
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        match self {
            Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => true,
            Phase::Waiting
            | Phase::Fetching { .. }
            | Phase::Restoring
            | Phase::Starting
            | Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. } => false,
        }
    }
}

impl Proof {
    /// None was made; the first is due.
    pub fn from(at: Boottime) -> Self {
        Self { look: Asking::from(at), looks: 0 }
    }
}
