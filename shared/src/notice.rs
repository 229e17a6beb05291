//! A notice: somebody will take capacity away at a stated time.

use serde::{Deserialize, Serialize};

use crate::ids::NoticeId;
use crate::time::{Boottime, Millis, Timestamp};

/// What ends at the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    /// The whole node: everything on it is closed at the deadline.
    #[default]
    Node,
    /// Only the replicas: the node stays and is free once release is proven.
    Replicas,
}

/// Why the capacity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The owner of the hardware takes it back.
    Preempt,
    /// Maintenance of the host.
    Maintenance,
    /// The host shuts down.
    Shutdown,
    /// The scheduler reclaims spot capacity or an operator drains the node by a deadline.
    Reclaim,
}

/// Who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeSource {
    /// The notice file (`docs/notices.md`).
    File,
    /// The notice socket (`docs/notices.md`).
    Socket,
    /// The scheduler, in the desired state.
    Scheduler,
    /// The hardware's owner, in an event that was handed to the scheduler (`POST /api/v1/notices`).
    Provider,
    /// An operator's drill on the node itself.
    Drill,
    /// The host's login manager: a shutdown was asked for.
    Logind,
    /// Amazon's instance metadata.
    Aws,
    /// Google's metadata server.
    Gcp,
    /// Azure's Scheduled Events.
    Azure,
    /// Alibaba's instance metadata.
    Alibaba,
    /// Tencent's instance metadata.
    Tencent,
    /// The agent itself: it was told to end and to take its replicas along.
    Agent,
    /// A source that only a newer agent knows: its notice counts like any other.
    #[serde(other)]
    Other,
}

impl NoticeSource {
    /// Whether nodes hear it from the scheduler: what they report of it is no news there, and that they
    /// do not report it takes nothing back.
    pub fn is_told_by_scheduler(self) -> bool {
        matches!(self, Self::Scheduler | Self::Provider)
    }
}

/// How sure the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It will happen at the stated time unless it is withdrawn.
    Certain,
    /// It may happen: a hint to leave early.
    Likely,
}

/// One notice as the agent holds and reports it. Instants are on the host's boot-time clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same event keeps the same id, however often it is heard.
    pub id: NoticeId,
    /// Why.
    pub kind: NoticeKind,
    /// Who said so.
    pub source: NoticeSource,
    /// What ends.
    pub leaves: Leaves,
    /// The deadline.
    pub gone_at: Boottime,
    /// When the agent first heard of it.
    pub heard_at: Boottime,
    /// How sure the source is.
    pub certainty: Certainty,
    /// Whether the source takes an "I am done" that lets it act early.
    pub can_acknowledge: bool,
    /// Whether the source may take it back.
    pub can_be_withdrawn: bool,
}

/// When a node last heard one of its sources, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHeard {
    /// The source.
    pub source: NoticeSource,
    /// What it is asked.
    pub question: String,
    /// Whether the node is blind without it.
    pub vital: bool,
    /// How long ago it answered rightly; absent = never.
    #[serde(default)]
    pub last_heard_ago: Option<Millis>,
    /// What is wrong with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A notice that the scheduler gives: warned and cordoned at once, drained and ended later.
/// Instants are on the scheduler's clock; the agent maps them with the answer's `now`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// The notice's id.
    pub id: NoticeId,
    /// Why.
    #[serde(default = "reclaimed", skip_serializing_if = "is_reclaimed")]
    pub kind: NoticeKind,
    /// What ends.
    pub leaves: Leaves,
    /// T0: warning and cordon.
    pub warned_at: Timestamp,
    /// From here on replicas drain.
    pub drain_at: Timestamp,
    /// The deadline.
    pub gone_at: Timestamp,
}

fn reclaimed() -> NoticeKind {
    NoticeKind::Reclaim
}

fn is_reclaimed(kind: &NoticeKind) -> bool {
    *kind == NoticeKind::Reclaim
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_only_a_newer_agent_knows_does_not_make_its_report_unreadable() {
        for (text, source) in [
            ("\"file\"", NoticeSource::File),
            ("\"socket\"", NoticeSource::Socket),
            ("\"logind\"", NoticeSource::Logind),
            ("\"aws\"", NoticeSource::Aws),
            ("\"weather\"", NoticeSource::Other),
        ] {
            let read: NoticeSource = serde_json::from_str(text).expect("a source");
            assert_eq!(read, source);
        }
    }
}
