//! The desired state of one node: what the scheduler wants there, replica by replica.
//!
//! Absence is never evidence: what the desired state does not name is not touched (S12).

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::capacity::ComputeClass;
use crate::drill::Drill;
use crate::ids::{ClaimId, DeploymentId, GpuUuid, HookId, OrganizationId, ReplicaId};
use crate::notice::Reclaim;
use crate::tagged::{self, Tagged};
use crate::time::{Millis, Timestamp};
use crate::version::DesiredVersion;

/// Everything the scheduler wants of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which of the node's desired states this is.
    pub version: DesiredVersion,
    /// For whom the node's active time counts; absent while it serves nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<HeldFor>,
    /// Run or stop, one for each replica that the log knows here.
    pub orders: Vec<Order>,
    /// A reclaim in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
    /// A drill under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// Whether nothing new may be placed here, for the node's own status page.
    #[serde(default)]
    pub cordoned: bool,
}

/// For whom a node is active, so that idle-held time has evidence too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldFor {
    /// The organization.
    pub organization: OrganizationId,
    /// The claim that holds the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimId>,
    /// How the node is sold at this moment.
    pub compute_class: ComputeClass,
}

/// One order for one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// It should be up.
    Run(Box<RunOrder>),
    /// It should be gone; listed until its `gone` is in the log.
    Stop(StopOrder),
}

impl Tagged for Order {
    const TAG: &'static str = "order";

    fn variant<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Self, D::Error> {
        match name {
            "run" => Box::deserialize(fields).map(Order::Run),
            "stop" => StopOrder::deserialize(fields).map(Order::Stop),
            other => Err(D::Error::unknown_variant(other, &["run", "stop"])),
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged::read(deserializer)
    }
}

impl Order {
    /// Which replica it is about.
    pub fn replica(&self) -> ReplicaId {
        match self {
            Order::Run(run) => run.replica,
            Order::Stop(stop) => stop.replica,
        }
    }
}

/// Everything the agent needs to start a replica. No command line, path or hook environment is in
/// it: engines, buckets and hooks are named, and what they mean is in the node owner's own files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrder {
    /// Which replica.
    pub replica: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// The deployment's name, for people.
    pub deployment_name: String,
    /// Whose.
    pub organization: OrganizationId,
    /// The engine by its local name.
    pub engine: String,
    /// The engine's version as the inventory offered it.
    pub engine_version: String,
    /// Allow-listed flags without `--`.
    #[serde(default)]
    pub engine_flags: BTreeMap<String, String>,
    /// Allow-listed environment.
    #[serde(default)]
    pub engine_env: BTreeMap<String, String>,
    /// The name that requests use.
    pub model_name: String,
    /// The bucket by its local name.
    pub model_bucket: String,
    /// The model's folder in the bucket.
    pub model_path: String,
    /// The GPUs, by UUID, in rank order.
    pub gpus: Vec<GpuUuid>,
    /// Hooks by local id.
    #[serde(default)]
    pub hooks: BTreeMap<crate::replica::HookKind, HookId>,
    /// Two of it must never run: its serving lease is the control lease.
    #[serde(default)]
    pub single_copy: bool,
    /// How long a stop may take when nothing shortens it.
    pub grace: Millis,
    /// After this long without being ready it has failed to start.
    pub start_deadline: Millis,
    /// What this node runs of a replica that stands on several; absent = it runs all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<Gang>,
}

/// One member of a replica that stands on several nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    /// Which: 0 is the leader, which alone serves.
    pub rank: u32,
    /// How many members there are.
    pub world_size: u32,
    /// The GPUs of all of them.
    pub gpus: u32,
    /// Where the leader's host is reached.
    pub leader_host: String,
    /// The port there on which the members find each other.
    pub leader_port: u16,
}

/// Ports of leaders: below those that agents give their engines.
const LEADER_PORTS: std::ops::Range<u16> = 12_000..20_000;

impl Gang {
    /// The port of a replica's leader. An id is used for one placement only, so that gangs of one
    /// host do not meet.
    pub fn port(replica: ReplicaId) -> u16 {
        let span = u32::from(LEADER_PORTS.end - LEADER_PORTS.start);
        let offset = u16::try_from(replica.0 % span).unwrap_or(0);
        LEADER_PORTS.start + offset
    }

    /// Whether it is the member that serves.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }
}

/// An order to end a replica in the proper sequence: checkpoint, traffic off, drain hook, stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Which replica.
    pub replica: ReplicaId,
    /// Why, for hooks and logs.
    pub because: StopCause,
    /// The instant at which it is killed whatever still runs.
    pub deadline: Timestamp,
    /// No gateway sends to it any more and nothing is in flight: the drain may end at once.
    pub quiet: bool,
}

/// Why a replica is stopped: a closed list, shown by default wherever a replica's end is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The deployment wants fewer replicas.
    ScaledDown,
    /// The deployment was deleted.
    Deleted,
    /// The deployment was changed and this replica runs the old settings.
    Replaced,
    /// The deployment was disabled or deactivated.
    Disabled,
    /// A replica of higher priority takes its place.
    Preempted,
    /// It goes on elsewhere, so that another replica fits.
    Moved,
    /// The node drains by an operator's word.
    NodeDrained,
    /// The node is under a notice.
    NodeNoticed,
    /// The node was lost and its replacement is ready.
    NodeLost,
    /// It did not become ready in time.
    StartDeadline,
    /// It served, and then its proof failed for too long.
    Degraded,
    /// Its GPU is at fault and what ran there is not to be trusted.
    HardwareFault,
    /// Its GPU or its node is emptied for a repair.
    HardwareRepair,
    /// Its claim gave the instance back.
    ClaimEnded,
    /// Its engine ended by itself.
    Crashed,
    /// The log does not know it.
    Orphan,
    /// An operator ended this replica.
    Terminated,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            StopCause::ScaledDown => "the deployment wants fewer replicas",
            StopCause::Deleted => "the deployment was deleted",
            StopCause::Replaced => "the deployment's settings were changed",
            StopCause::Disabled => "the deployment is switched off",
            StopCause::Preempted => "a replica of higher priority takes its place",
            StopCause::Moved => "it goes on elsewhere",
            StopCause::NodeDrained => "its node is being drained",
            StopCause::NodeNoticed => "its node is under a notice",
            StopCause::NodeLost => "its node was lost",
            StopCause::StartDeadline => "it was not ready in time",
            StopCause::Degraded => "its proof of readiness failed for too long",
            StopCause::HardwareFault => "its GPU is at fault",
            StopCause::HardwareRepair => "its GPU or its node is emptied for a repair",
            StopCause::ClaimEnded => "its claim gave the instance back",
            StopCause::Crashed => "its engine ended",
            StopCause::Orphan => "the log does not know it",
            StopCause::Terminated => "an operator ended it",
        })
    }
}
