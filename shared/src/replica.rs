//! A replica as the agent reports it: where it is in its life, and the proof that it is gone.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{GpuUuid, HookId, ReplicaId};
use crate::tagged::{self, NoFields, Tagged};
use crate::time::{Boottime, Millis};

/// Where a replica on a host is, as the agent sees it. The scheduler adds `pending`, `promised`,
/// `unreachable` and `stopped`, which only it can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedPhase {
    /// Model files are being fetched to the host.
    Fetching,
    /// The engine process is up and reads the weights.
    Loading,
    /// The engine answers; the one-token proof is under way.
    Warming,
    /// A real generation answered: it may take traffic.
    Ready,
    /// It was ready and its proof fails now.
    Degraded,
    /// It takes no new work and will be stopped.
    Draining,
    /// Stop was signalled; its processes are not proven gone yet.
    Stopping,
    /// Its processes are gone but its GPU memory is not proven back: the slots are quarantined.
    Quarantined,
}

/// What the agent says of one replica in a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Which.
    pub replica: ReplicaId,
    /// Where it is.
    pub phase: ReportedPhase,
    /// Since when.
    pub since: Boottime,
    /// How far the phase has come, in thousandths; absent where it has no measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_permille: Option<u16>,
    /// When the agent expects it to be ready, from history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_ready_in: Option<Millis>,
    /// `host:port` of the guard's mTLS port, once it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The GPUs it holds: what the host really gave, so that an orphan's slots are known too.
    pub gpus: Vec<GpuUuid>,
    /// Why it is here when that needs saying (a failed probe, a held slot: one sentence).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Hooks that ran or run, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    /// What its engine says of its work, while it has metrics and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<EngineLoad>,
}

/// An engine's work under the names that all engines share here (those of the Gateway API's model
/// servers): TotalQueuedRequests, TotalRunningRequests, KVCacheUtilization. A number that an engine
/// does not give is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineLoad {
    /// Requests that wait for their turn inside the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// Requests that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Share of its key-value cache in use, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache_permille: Option<u16>,
    /// Age of these numbers in milliseconds when they were sent.
    #[serde(default)]
    pub age_ms: u64,
}

/// Which hook of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// Writes a checkpoint beside traffic.
    Checkpoint,
    /// Runs once traffic is off, before the process is stopped.
    Drain,
    /// Runs before the engine starts, where a checkpoint exists.
    Restore,
    /// Runs after the process is gone.
    Post,
}

impl HookKind {
    /// Its word, as hooks are told it and people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            HookKind::Checkpoint => "checkpoint",
            HookKind::Drain => "drain",
            HookKind::Restore => "restore",
            HookKind::Post => "post",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a hook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOutcome {
    /// It runs now.
    Running,
    /// Exit 0 (for a checkpoint: and its manifest is complete).
    Done,
    /// Any other end.
    Failed,
    /// Ended by the agent at its limit; its whole process group is gone.
    CutOff,
    /// There was no time for it.
    Skipped,
}

/// One run of one hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookReport {
    /// The local id.
    pub hook: HookId,
    /// Which hook.
    pub kind: HookKind,
    /// How it stands.
    pub outcome: HookOutcome,
    /// When it started.
    pub started_at: Boottime,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Boottime>,
    /// One sentence: what it said last, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How an engine process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Ended {
    /// It exited with this status.
    Exited {
        /// The status.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It never started.
    NeverStarted {
        /// Why, as one sentence.
        because: String,
    },
    /// Nobody saw how: the guard died too.
    Unknown,
}

impl Tagged for Ended {
    const TAG: &'static str = "how";

    fn variant<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Exited {
            code: i32,
        }
        #[derive(Deserialize)]
        struct Signaled {
            signal: i32,
        }
        #[derive(Deserialize)]
        struct NeverStarted {
            because: String,
        }
        Ok(match name {
            "exited" => Ended::Exited { code: Exited::deserialize(fields)?.code },
            "signaled" => Ended::Signaled { signal: Signaled::deserialize(fields)?.signal },
            "never_started" => {
                Ended::NeverStarted { because: NeverStarted::deserialize(fields)?.because }
            }
            "unknown" => NoFields::deserialize(fields).map(|NoFields {}| Ended::Unknown)?,
            other => {
                let known = &["exited", "signaled", "never_started", "unknown"];
                return Err(D::Error::unknown_variant(other, known));
            }
        })
    }
}

impl<'de> Deserialize<'de> for Ended {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged::read(deserializer)
    }
}

/// Proof that a replica is gone and what it held is free: the only thing that frees a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Which.
    pub replica: ReplicaId,
    /// How its engine ended.
    pub ended: Ended,
    /// When the last of its processes was seen to be gone.
    pub processes_gone_at: Boottime,
    /// When NVML showed its GPUs' memory back at the baseline; equal for a host without GPUs.
    pub memory_back_at: Boottime,
    /// What was measured, GPU by GPU.
    pub memory: Vec<MemoryProof>,
}

/// One GPU's memory after a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryProof {
    /// Which GPU.
    pub gpu: GpuUuid,
    /// Used while idle, as measured before the replica started.
    pub baseline_mib: u64,
    /// Used now.
    pub used_mib: u64,
}
