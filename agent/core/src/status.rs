//! What the node shows of itself on `/status`: leases, replicas, notices and how far an evacuation
//! has come, with the share of the window that was used.

use std::collections::BTreeMap;

use serde::Serialize;
use wharfage_shared::health::Health;
use wharfage_shared::ids::{BootId, GpuUuid, NodeId, NoticeId, ReplicaId};
use wharfage_shared::notice::Notice;
use wharfage_shared::order::HeldFor;
use wharfage_shared::replica::{Gone, HookReport, ReportedPhase};
use wharfage_shared::segment::OpenSegment;
use wharfage_shared::telemetry::FalseReady;
use wharfage_shared::time::{Boottime, Millis};
use wharfage_shared::version::{DesiredVersion, Epoch, Term};

use crate::evacuation::plan::{Miss, Slot};
use crate::runs::Runs;
use crate::timetable::Timetable;

/// The node as its decisions see it. Instants are on its boot-time clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub node: NodeId,
    /// The boot that the instants belong to.
    pub boot: BootId,
    /// When anything was last decided.
    pub now: Boottime,
    /// The start of this agent, once the scheduler has named it.
    pub epoch: Option<Epoch>,
    /// The highest term that answered.
    pub term: Term,
    /// The desired state that is carried out.
    pub applied: DesiredVersion,
    /// Whether the scheduler places nothing new here.
    pub cordoned: bool,
    /// For whom the node's time counts.
    pub held_for: Option<HeldFor>,
    /// Whether anything new may start.
    pub control_lease: ControlLease,
    /// What is on the host.
    pub replicas: Vec<ReplicaStatus>,
    /// What has gone and waits for the scheduler's word.
    pub gone: Vec<Gone>,
    /// Notices in force, a reclaim included.
    pub notices: Vec<Notice>,
    /// Those of them whose deadline passed long ago, while the node is still there.
    pub notices_expired: Vec<NoticeId>,
    /// The evacuation under way, or the last one.
    pub evacuation: Option<EvacuationStatus>,
    /// The open segment.
    pub open_segment: Option<OpenSegment>,
    /// Closed segments that the scheduler has not acknowledged.
    pub segments_waiting: usize,
    /// GPUs that do not answer, with what is wrong.
    pub gpu_trouble: BTreeMap<GpuUuid, String>,
    /// Versions of engines that were not ready here when they said so.
    pub false_ready: Vec<FalseReady>,
    /// What hooks took and wrote here, how long engines live on after SIGKILL, what the disk
    /// carries.
    pub measured: Runs,
    /// Gates, incidents and what the node asks for.
    pub health: Health,
}

/// The lease under which new things may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ControlLease {
    /// Its end; absent before the first answer.
    pub until: Option<Boottime>,
    /// Whether it ran at the last step.
    pub live: bool,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaStatus {
    /// Which.
    pub replica: ReplicaId,
    /// Of which deployment, by name.
    pub deployment: String,
    /// Where it is in its life.
    pub phase: ReportedPhase,
    /// Since when.
    pub since: Boottime,
    /// Whether the desired state names it; if not, it is kept and shown as an orphan.
    pub ordered: bool,
    /// `host:port` of its guard.
    pub address: Option<String>,
    /// The end of its serving lease, as last told to its guard.
    pub serve_until: Option<Boottime>,
    /// The plan of its stop, when it must leave.
    pub timetable: Option<Timetable>,
    /// When its checkpoint is written on the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Slot>,
    /// What of that will not fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub does_not_fit: Vec<Miss>,
    /// Why it is here when that needs saying.
    pub because: Option<String>,
    /// Its hooks, oldest first.
    pub hooks: Vec<HookReport>,
}

/// An evacuation: what happened since the notice was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvacuationStatus {
    /// The notice whose deadline binds.
    pub notice: NoticeId,
    /// When it was heard.
    pub heard_at: Boottime,
    /// Its deadline.
    pub gone_at: Boottime,
    /// How long before the deadline everything has ended.
    pub margin: Millis,
    /// The end of the last useful step (serving, checkpoint, drain hook) so far.
    pub useful_until: Option<Boottime>,
    /// (end of the last useful step - heard) / (deadline - margin - heard), in thousandths; final
    /// once `ended_at` is set.
    pub share_permille: Option<u64>,
    /// When the last replica was proven gone, or the notice was withdrawn.
    pub ended_at: Option<Boottime>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
}

/// One line of an evacuation's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When.
    pub at: Boottime,
    /// To which replica, if to one.
    pub replica: Option<ReplicaId>,
    /// What happened: a lower-case sentence.
    pub what: String,
}
