//! What scheduler and agent say to each other about a drill: the order to leave as if a notice had
//! been heard, and the story of what the node did then.

use serde::{Deserialize, Serialize};

use crate::ids::{NoticeId, ReplicaId};
use crate::notice::Leaves;
use crate::replica::HookReport;
use crate::time::{Boottime, Timestamp};

/// A drill in the desired state of a node. The agent takes it exactly as a notice of its own
/// sources, and takes it back when the desired state does not name it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// The notice's id.
    pub id: NoticeId,
    /// What ends.
    pub leaves: Leaves,
    /// The deadline, on the scheduler's clock; the agent maps it with the answer's `now`.
    pub gone_at: Timestamp,
}

/// The evacuation under way on a node, or its last one. Instants are on the host's boot-time clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evacuated {
    /// The notice whose deadline binds.
    pub notice: NoticeId,
    /// When it was heard.
    pub heard_at: Boottime,
    /// When the first replica was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_action_at: Option<Boottime>,
    /// When the last replica was proven gone, or the notice was withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Boottime>,
    /// The share of the window that was used, in thousandths; only once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_permille: Option<u64>,
    /// Hooks of replicas that are gone: nobody else tells of them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<PastHook>,
}

/// A hook of a replica that is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastHook {
    /// Whose.
    pub replica: ReplicaId,
    /// How it went.
    pub run: HookReport,
}
