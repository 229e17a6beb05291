//! Everything the node's decisions can ask of the hands. The hands carry them out in order and
//! report back with inputs.

use wharfage_shared::ids::{HookId, NoticeId, ReplicaId};
use wharfage_shared::order::{Desired, RunOrder};
use wharfage_shared::replica::HookKind;
use wharfage_shared::segment::{OpenSegment, Segment};
use wharfage_shared::time::Boottime;

use crate::health::Memory;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put the desired state on disk, synced, before any later effect of the same step.
    Persist(Box<Desired>),
    /// Append a closed segment to the segment log, synced, before any later effect.
    AppendSegment(Box<Segment>),
    /// Note the open segment in the segment log (so that a crash keeps its beginning).
    NoteOpenSegment(Box<OpenSegment>),
    /// Bring the model to the host; answer `FetchProgress`, `Fetched` or `FetchFailed`.
    Fetch(Box<RunOrder>),
    /// Start guard and engine; answer `Started`, later `Exited`. The guard's record is on disk
    /// before anything runs, and until it is told otherwise (`ServeUntil` follows `Started`) its
    /// serving lease is one control lease from now for `single_copy`, else a day.
    Start(Box<RunOrder>),
    /// Look at the engine once; answer `Probed`.
    Probe {
        /// Which replica.
        replica: ReplicaId,
        /// Whether to try a generation (else only its health).
        prove: bool,
    },
    /// Tell the guard until when it may keep the replica serving; absent = no end.
    ServeUntil {
        /// Which replica.
        replica: ReplicaId,
        /// The end of its serving lease.
        until: Option<Boottime>,
    },
    /// Run a hook; answer `HookProgress`, `HookEnded`.
    RunHook {
        /// For which replica.
        replica: ReplicaId,
        /// Which hook.
        kind: HookKind,
        /// Its local id.
        hook: HookId,
        /// Why, for its environment.
        reason: String,
        /// When it is cut off with its whole process group.
        deadline: Boottime,
    },
    /// Cut a hook off now; answer `HookEnded` with `CutOff`.
    CutHook {
        /// Of which replica.
        replica: ReplicaId,
        /// Which hook.
        kind: HookKind,
    },
    /// Its drain hook was for nothing: what that has put to sleep goes on before traffic comes.
    Wake {
        /// Which replica.
        replica: ReplicaId,
    },
    /// Ask the engine to end (SIGTERM); answer `Exited`.
    Terminate {
        /// Which replica.
        replica: ReplicaId,
    },
    /// End the replica's whole process group and cgroup at once; answer `Exited`.
    Kill {
        /// Which replica.
        replica: ReplicaId,
    },
    /// Look for left processes and memory once; answer `Release`.
    CheckRelease {
        /// Of which replica.
        replica: ReplicaId,
    },
    /// The scheduler knows that it is gone: abandon a fetch that still runs for it and remove what
    /// is left of its records.
    Forget {
        /// Which replica.
        replica: ReplicaId,
    },
    /// Tell the source of a notice that the node is done with it.
    AcknowledgeNotice(NoticeId),
    /// Send a heartbeat now instead of at the next interval.
    ReportNow,
    /// Put what is known of the node's incidents on disk.
    KeepHealth(Box<Memory>),
    /// A line for the journal: what was decided and why.
    Note(Note),
    /// A newer start of this node exists: end this process without touching replicas.
    Abdicate,
}

/// A decision worth a journal line and a place in the evacuation's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// About which replica, if one.
    pub replica: Option<ReplicaId>,
    /// A lower-case sentence, readable alone.
    pub text: String,
}
