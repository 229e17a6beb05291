//! A drill: what is practised, on which nodes, how many of them at once, when it is given up, and
//! what it is measured by.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, DrillId, HookId, NodeId, PoolId, ReplicaId};
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::{Millis, Timestamp};

/// A drill as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Its id.
    pub id: DrillId,
    /// For people; another one may have the same, so that a history can be read.
    pub name: String,
    /// Where.
    pub scope: Scope,
    /// What is practised.
    pub profile: Profile,
    /// How many nodes at once, and until when one may begin.
    pub budget: Budget,
    /// When it is given up.
    pub abort: AbortRules,
    /// What it is measured by.
    pub targets: Targets,
    /// The schedule that began it.
    pub scheduled: Option<DrillId>,
}

/// When a drill is begun again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Cron's five fields. They are read by whoever tells the core that a time has come.
    pub cron: String,
    /// The IANA name of the time zone that they are meant in.
    pub time_zone: String,
}

/// What came of a schedule's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fired {
    /// This drill began.
    Begun(DrillId),
    /// None did, for this reason.
    Missed(String),
}

/// Where a drill takes place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// On one node.
    Node(NodeId),
    /// On each node of a pool.
    Pool(PoolId),
    /// On so many of the nodes that a deployment serves from, rounded up.
    Deployment {
        /// Which.
        deployment: DeploymentId,
        /// 1 to 100.
        percent: u8,
    },
}

/// What is practised: the window that a provider gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// An AWS spot interruption.
    Aws120,
    /// A GCP preemption.
    Gcp30,
    /// An Azure Preempt event.
    Azure30,
    /// A CoreWeave spot reclaim.
    Coreweave420,
    /// Gone at once.
    NoNotice,
    /// Any other length.
    Custom(Millis),
}

/// The profiles with a word of their own.
const PROFILES: [Profile; 5] =
    [Profile::Aws120, Profile::Gcp30, Profile::Azure30, Profile::Coreweave420, Profile::NoNotice];

impl Profile {
    /// The profile of a word other than `custom`.
    pub fn named(word: &str) -> Option<Self> {
        PROFILES.into_iter().find(|profile| profile.as_str() == word)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Aws120 => "aws-120",
            Profile::Gcp30 => "gcp-30",
            Profile::Azure30 => "azure-30",
            Profile::Coreweave420 => "coreweave-420",
            Profile::NoNotice => "no-notice",
            Profile::Custom(_) => "custom",
        }
    }

    /// From the notice to the deadline.
    pub fn window(self) -> Millis {
        match self {
            Profile::Aws120 => Millis::from_seconds(120),
            Profile::Gcp30 | Profile::Azure30 => Millis::from_seconds(30),
            Profile::Coreweave420 => Millis::from_seconds(420),
            Profile::NoNotice => Millis(0),
            Profile::Custom(window) => window,
        }
    }
}

/// How much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Nodes at once.
    pub at_once: u32,
    /// What has not begun so long after the drill was asked for is left out.
    pub within: Millis,
}

/// When a drill is given up: what is under a notice is withdrawn, nothing more begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRules {
    /// A deployment on a drilled node has fewer ready replicas than its `min`.
    pub below_min: bool,
    /// One has fewer ready replicas than this.
    pub fewer_than: Option<u32>,
    /// More requests than this got no whole answer at the replicas that stood on drilled nodes.
    pub more_cut_than: Option<u32>,
}

/// What a drill is measured by; what is absent is shown and not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// From the notice to the first step, at most.
    pub first_action: Option<Millis>,
    /// Of the replicas with a checkpoint hook so many must have completed it, percent.
    pub checkpoints_percent: Option<u8>,
    /// The share of the window that is used, percent.
    pub window_used_percent: Option<u8>,
    /// Requests without a whole answer, at most.
    pub requests_cut: Option<u32>,
    /// Until as many replicas are ready again, at most.
    pub capacity_back: Option<Millis>,
}

/// How a drill ended on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The deadline has passed and the node was empty.
    Completed,
    /// It was given up before.
    Aborted,
    /// A real notice came: the drill made way.
    Overtaken,
    /// The agent never took it up.
    NotHeard,
    /// Something still stood there long after the deadline.
    NotEmpty,
    /// The node was lost meanwhile.
    Lost,
}

impl Outcome {
    /// One sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "the node was empty at its deadline and is open again",
            Outcome::Aborted => "the drill was given up and the node is open again",
            Outcome::Overtaken => "a real notice came and the drill made way",
            Outcome::NotHeard => "the node's agent never took the drill up",
            Outcome::NotEmpty => "the node was not empty long after its deadline",
            Outcome::Lost => "the node was lost during the drill",
        }
    }
}

/// A replica that stood on a node when its drill began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// Which.
    pub replica: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Whether its deployment names a checkpoint hook and it was ready.
    pub checkpoints: bool,
    /// How many GPUs it held.
    #[serde(default)]
    pub gpus: u32,
}

/// What a node told of its evacuation, on the scheduler's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When the agent heard the notice.
    pub heard_at: Timestamp,
    /// When the first replica was seen to.
    pub first_action_at: Option<Timestamp>,
    /// When the node was empty.
    pub empty_at: Option<Timestamp>,
    /// The share of the window that was used, in thousandths.
    pub share_permille: Option<u64>,
}

/// One run of one hook, on the scheduler's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// For which replica.
    pub replica: ReplicaId,
    /// Which.
    pub kind: HookKind,
    /// Its local id.
    pub hook: HookId,
    /// How it stands.
    pub outcome: HookOutcome,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it said last, or why it failed.
    pub detail: Option<String>,
}
