//! A node's state on its four axes, and the pool it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::health::Ask;
use wharfage_shared::ids::{GpuUuid, NoticeId, OrganizationId, PoolId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::time::{Millis, Timestamp};

/// Whether the scheduler hears the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Enrolled, not heard yet.
    Joining,
    /// Heard within 15 s.
    Connected,
    /// Not heard for 15 s.
    Silent,
    /// Its control lease has ended.
    Lost,
}

/// Whether its hardware may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "health")]
pub enum Health {
    /// Its gates have not passed yet.
    Qualifying,
    /// Its gates pass.
    Fit,
    /// A gate fails.
    Unfit {
        /// Which and why, one sentence.
        because: String,
    },
}

/// What an agent says of its node's hardware, as far as anything is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// GPUs that nothing new may use, with the reasons.
    pub unfit: BTreeMap<GpuUuid, String>,
    /// The rules that stop something here: `XID 79`, `G8`.
    pub rules: BTreeSet<String>,
    /// What the node asks for.
    pub asks: Vec<Ask>,
}

/// Something that a node asks for, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskFact {
    /// What.
    pub ask: Ask,
    /// Since when.
    pub at: Timestamp,
}

/// A brake: a rule that hits many nodes at once is more likely wrong than right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// Since when it is on, if it is.
    pub pulled: Option<Pulled>,
    /// When it was released last: only what was hit later can pull it again.
    pub released_at: Option<Timestamp>,
}

/// A brake that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// Since when.
    pub at: Timestamp,
    /// The nodes that the rule hit.
    pub nodes: u32,
    /// Of so many.
    pub of: u32,
}

/// What the scheduler itself holds against a node, beside what its agent says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Doubts {
    /// Its wall clock is off, and since when.
    pub clock: Option<ClockOff>,
    /// Faults of its hardware that were counted lately, the oldest first.
    pub incidents: Vec<IncidentFact>,
    /// There were so many that nothing new goes there until an operator says so.
    pub repeated: Option<Repeated>,
    /// An operator's word: what was counted up to then is forgiven.
    pub forgiven_at: Option<Timestamp>,
    /// The repair that is under way.
    pub repair: Option<Repair>,
    /// It may be taken away soon: nothing new goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// It is emptied for that, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early: Option<Timestamp>,
}

/// A notice that is merely likely, as the scheduler holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Which.
    pub id: NoticeId,
    /// Why.
    pub kind: NoticeKind,
    /// Who said so.
    pub source: NoticeSource,
    /// When it may happen.
    pub gone_at: Timestamp,
}

impl Doubts {
    /// None at all.
    pub const NONE: Self = Self {
        clock: None,
        incidents: Vec::new(),
        repeated: None,
        forgiven_at: None,
        repair: None,
        hint: None,
        early: None,
    };
}

/// A reset or reboot that a node asked for and whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The incident that it is for.
    pub incident: u64,
    /// Since when.
    pub at: Timestamp,
}

/// A wall clock that differs too much from the scheduler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOff {
    /// By so much the node's is ahead; negative = behind.
    pub ahead_ms: i64,
    /// Since when.
    pub at: Timestamp,
}

/// What names an incident of a node for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentName {
    /// Its number on the node.
    pub number: u64,
    /// On which GPU.
    pub gpu: Option<GpuUuid>,
    /// The XID that it began with: a node that lost its memory counts from one again.
    pub xid: u32,
}

/// An incident that was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentFact {
    /// Which.
    pub name: IncidentName,
    /// When it was heard of.
    pub at: Timestamp,
}

/// A node whose hardware fails again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// So often.
    pub incidents: u32,
    /// Within so many days.
    pub days: u32,
    /// Since when it is closed for that.
    pub at: Timestamp,
}

/// What becomes of the scheduler's own doubts about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Its wall clock is off.
    ClockOff {
        /// By so much it is ahead; negative = behind.
        ahead_ms: i64,
    },
    /// Its wall clock is right again.
    ClockRight,
    /// Its hardware had a fault.
    Incident {
        /// Which.
        name: IncidentName,
    },
    /// That was once too often.
    Repeated {
        /// So often.
        incidents: u32,
        /// Within so many days.
        days: u32,
    },
    /// It is the turn of its repair.
    RepairBegun {
        /// The incident that it is for.
        incident: u64,
    },
    /// Its agent asks for that repair no more, or the node is given up.
    RepairEnded {
        /// The incident that it was for.
        incident: u64,
    },
    /// It may be taken away soon.
    Hinted {
        /// By what.
        hint: Hint,
    },
    /// Nobody says so any more.
    HintOver,
    /// It is its turn to be emptied for that.
    LeavesEarly,
    /// An operator's word: what was counted is forgiven.
    Forgiven {
        /// The operator's words.
        because: String,
    },
}

impl Doubts {
    /// Incidents within `days` before `now` that are not forgiven.
    pub fn lately(&self, days: u32, now: Timestamp) -> u32 {
        let window = Millis::from_seconds(u64::from(days) * 86_400);
        let counts = |fact: &&IncidentFact| {
            now.since(fact.at) <= window
                && self.forgiven_at.is_none_or(|forgiven| fact.at > forgiven)
        };
        u32::try_from(self.incidents.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// What is wrong with the clock (gate G1), one sentence.
    pub fn of_clock(&self) -> Option<String> {
        let off = self.clock?;
        let by = off.ahead_ms.unsigned_abs() / 1000;
        let where_to = if off.ahead_ms < 0 { "behind" } else { "ahead of" };
        Some(format!("its wall clock is {by} s {where_to} the scheduler's"))
    }

    /// Why nothing new goes there although it is well, one sentence.
    pub fn of_hint(&self) -> Option<String> {
        let hint = self.hint.as_ref()?;
        Some(format!("it may be taken away soon (`{}`)", hint.id))
    }

    /// Why its hardware is not trusted any more (gate G22), one sentence.
    pub fn of_repeats(&self) -> Option<String> {
        let repeated = self.repeated?;
        Some(format!(
            "{} incidents within {} days; uncordon it when it was seen to",
            repeated.incidents, repeated.days
        ))
    }
}

/// What an operator wants of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "intent")]
pub enum Intent {
    /// Use it.
    Open,
    /// Nothing new.
    Cordoned {
        /// The operator's words.
        reason: String,
    },
    /// Empty it.
    Draining {
        /// The operator's words.
        reason: String,
    },
    /// It will not come back.
    Retired,
}

/// Whether it is about to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "departure")]
pub enum Departure {
    /// Nobody said so.
    None,
    /// Under a notice.
    Noticed {
        /// Which.
        id: NoticeId,
        /// Why.
        kind: NoticeKind,
        /// Who said so.
        source: NoticeSource,
        /// What ends.
        leaves: Leaves,
        /// T0 on the scheduler's clock.
        heard_at: Timestamp,
        /// From here on replicas drain even without a replacement (a reclaim's +120 s).
        drain_at: Timestamp,
        /// The deadline.
        gone_at: Timestamp,
    },
}

/// A notice as the scheduler holds it. Instants are on the scheduler's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeFact {
    /// Which: the same event keeps the same id.
    pub id: NoticeId,
    /// Why.
    pub kind: NoticeKind,
    /// Who said so.
    pub source: NoticeSource,
    /// What ends.
    pub leaves: Leaves,
    /// T0.
    pub heard_at: Timestamp,
    /// From here on replicas drain even without a replacement (a reclaim's +120 s).
    pub drain_at: Timestamp,
    /// The deadline.
    pub gone_at: Timestamp,
}

/// A node that was lent as spot and is, or was lately, called back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// For whom; absent = by an operator's word.
    pub organization: Option<OrganizationId>,
    /// When.
    pub at: Timestamp,
}

impl From<NoticeFact> for Departure {
    fn from(notice: NoticeFact) -> Self {
        let NoticeFact { id, kind, source, leaves, heard_at, drain_at, gone_at } = notice;
        Departure::Noticed { id, kind, source, leaves, heard_at, drain_at, gone_at }
    }
}

/// How many nodes a pool is to have. Invariant, checked where it is set: `min <= target <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSize {
    /// How many are wanted.
    pub target: u32,
    /// Never fewer are asked for.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

/// A pool: what its nodes have in common, by the operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub id: PoolId,
    /// Its zone.
    pub zone: Zone,
    /// Its instance type.
    pub sku: Sku,
    /// How its nodes are sold.
    pub compute_class: ComputeClass,
    /// Who they serve at a time.
    pub tenancy: Tenancy,
    /// The tenant that owns its nodes; absent = the provider.
    pub owner: Option<OrganizationId>,
}
