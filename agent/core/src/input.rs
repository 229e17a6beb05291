//! Everything the node's decisions are told. The hands translate the world into these; the
//! simulator makes them up.

use wharfage_shared::health::Repair;
use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::ids::{GpuUuid, NodeId, NoticeId, ReplicaId, SegmentLogId};
use wharfage_shared::notice::Notice;
use wharfage_shared::order::{Desired, RunOrder};
use wharfage_shared::replica::{Ended, HookKind, HookOutcome, MemoryProof};
use wharfage_shared::segment::{OpenSegment, Segment};
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::{Boottime, Millis};

use crate::health::{Evidence, Memory, XidSeen};

/// What an agent finds on its host when it starts.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub node: NodeId,
    /// The boot that the boot-time clock belongs to.
    pub boot: wharfage_shared::ids::BootId,
    /// Random text that names this start.
    pub nonce: String,
    /// The desired state on disk.
    pub desired: Option<Desired>,
    /// Replicas whose guards live (or left a record): they are adopted, never restarted.
    pub replicas: Vec<FoundReplica>,
    /// The segment log's id; a new one when the old log was lost.
    pub log: SegmentLogId,
    /// The last closed segment's number in it.
    pub last_segment: u64,
    /// The segment that the log's last note says is open, of whatever boot; it is closed as proven.
    pub open_segment: Option<OpenSegment>,
    /// Closed segments that the scheduler has not acknowledged.
    pub unacknowledged: Vec<Segment>,
    /// GPUs, engines, hooks.
    pub inventory: Inventory,
    /// What an earlier agent knew of the node's incidents.
    pub health: Memory,
}

/// A replica that an earlier agent left on the host.
#[derive(Clone, Debug)]
pub struct FoundReplica {
    /// The order it was started with.
    pub order: RunOrder,
    /// Where its guard listens.
    pub address: Option<String>,
    /// When its engine was started.
    pub started_at: Boottime,
    /// It had been proven ready before.
    pub was_ready: bool,
    /// Its engine's end, when the guard recorded one.
    pub ended: Option<Ended>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed; nothing else. Tell it before a `report` is taken too: the open segment is
    /// proven up to the last step.
    Wake,
    /// Replicas of an earlier agent of which it is not known what they are, as their records cannot
    /// be read: nothing is decided for them. Told before anything else is.
    LeftAlone(Vec<ReplicaId>),
    /// One that was left alone is known again.
    Adopted(Box<FoundReplica>),
    /// Nothing is left of one that was left alone.
    NothingLeft(ReplicaId),
    /// The scheduler answered the heartbeat that was sent at `sent_at`.
    Answer {
        /// When the heartbeat was sent: leases count from here.
        sent_at: Boottime,
        /// What it said.
        answer: Box<HeartbeatAnswer>,
    },
    /// The hosts's GPUs, engines or hooks changed.
    Inventory(Inventory),
    /// A fetch has come this far.
    FetchProgress {
        /// Of which replica.
        replica: ReplicaId,
        /// Bytes on the host.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The model is on the host.
    Fetched {
        /// Of which replica.
        replica: ReplicaId,
    },
    /// The guard is up and the engine was started; or a start that cannot be.
    Started {
        /// Which replica.
        replica: ReplicaId,
        /// Where its guard listens, or why there is none (one sentence).
        outcome: Result<String, String>,
    },
    /// The engine has read this much of its weights.
    LoadProgress {
        /// Which replica.
        replica: ReplicaId,
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// What the host shows of a load whose engine does not tell: bytes that it read, or memory
    /// that it took, of what its model has.
    LoadMeasured {
        /// Which replica.
        replica: ReplicaId,
        /// Bytes read or taken.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Why an engine ended, as its exit and its last output tell; said before `Exited`.
    LastWords {
        /// Which replica.
        replica: ReplicaId,
        /// One sentence.
        because: String,
    },
    /// The fetch failed for good.
    FetchFailed {
        /// Which replica.
        replica: ReplicaId,
        /// One sentence.
        because: String,
    },
    /// A probe came back.
    Probed {
        /// Which replica.
        replica: ReplicaId,
        /// What it saw.
        saw: Probe,
    },
    /// The engine process ended (whoever ended it).
    Exited {
        /// Which replica.
        replica: ReplicaId,
        /// How.
        ended: Ended,
    },
    /// A hook says how far it is (0 to 1000).
    HookProgress {
        /// Of which replica.
        replica: ReplicaId,
        /// Which hook.
        kind: HookKind,
        /// Thousandths.
        permille: u16,
    },
    /// A hook wrote so much that is complete; said before `HookEnded`.
    HookWrote {
        /// Of which replica.
        replica: ReplicaId,
        /// Which hook.
        kind: HookKind,
        /// Bytes.
        bytes: u64,
    },
    /// An engine has so many requests, those included that wait in it.
    InFlight {
        /// Of which replica.
        replica: ReplicaId,
        /// How many.
        requests: u32,
    },
    /// A hook ended.
    HookEnded {
        /// Of which replica.
        replica: ReplicaId,
        /// Which hook.
        kind: HookKind,
        /// How.
        outcome: HookOutcome,
        /// One sentence for people.
        detail: Option<String>,
    },
    /// The answer to `CheckRelease`.
    Release {
        /// Of which replica.
        replica: ReplicaId,
        /// What was measured.
        saw: Release,
    },
    /// A source heard a notice, or heard it again with other words.
    NoticeHeard(Notice),
    /// The source took a notice back.
    NoticeWithdrawn(NoticeId),
    /// GPUs that stopped answering (or answer again), as the readings show.
    GpuTrouble {
        /// Which GPU.
        gpu: GpuUuid,
        /// What is wrong; absent when it answers again.
        trouble: Option<String>,
    },
    /// Looks at the node's gates.
    Evidence(Vec<Evidence>),
    /// The driver reported a fault of a GPU.
    Xid(XidSeen),
    /// An operator says that a GPU, or the whole node, is well again.
    Repaired {
        /// Which; absent = the whole node.
        gpu: Option<GpuUuid>,
        /// What was done.
        by: Repair,
    },
    /// An operator asks for a drill on the node itself: a notice of this length, as if heard.
    Drill {
        /// How long the window is.
        window: Millis,
    },
}

/// What a probe of an engine saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Refused, 503, Triton's 400: still loading.
    Loading,
    /// Its health answers; no generation was proven yet.
    Healthy,
    /// A one-token generation gave a well-formed answer.
    Proven,
    /// It answers wrongly or not in time: one sentence.
    Failed(String),
    /// It answers that it has no room for a proof now: as good as the last one.
    Busy,
    /// It says that it will never serve again: one sentence.
    Dead(String),
}

/// What a look at a released replica's slots saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// No process is left and the memory of every GPU is at its baseline.
    Free {
        /// When the last process was seen gone.
        processes_gone_at: Boottime,
        /// When memory was back.
        memory_back_at: Boottime,
        /// What was measured.
        memory: Vec<MemoryProof>,
    },
    /// Something is left: one sentence that names pid and bytes.
    Held {
        /// Whether processes of the replica live.
        processes_left: bool,
        /// The sentence.
        because: String,
    },
}
