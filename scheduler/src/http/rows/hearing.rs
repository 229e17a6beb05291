//! What rows show of how a node hears of its end: when each source of notices was last heard, and
//! what is merely likely and closes nothing.

use serde::Serialize;
use wharfage_shared::notice::{Certainty, NoticeKind, NoticeSource};
use wharfage_shared::time::ClockOffset;

use super::{Shown, instant};
use crate::telemetry::NodeTelemetry;

/// What the provider sees of it; a tenant sees none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hearing {
    /// Sources that the node asks.
    pub sources: Vec<SourceRow>,
    /// Notices that are not certain.
    pub likely: Vec<LikelyRow>,
}

/// A question to a source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceRow {
    /// The source.
    pub source: NoticeSource,
    /// What it is asked.
    pub question: String,
    /// Whether the node is blind without it.
    pub vital: bool,
    /// How many seconds ago it answered rightly; null = never.
    pub last_heard_seconds: Option<u64>,
    /// What is wrong with it now.
    pub trouble: Option<String>,
}

/// A notice that may come true.
#[derive(Clone, Debug, Serialize)]
pub struct LikelyRow {
    /// Which.
    pub id: String,
    /// Why.
    pub kind: NoticeKind,
    /// Who said so.
    pub source: NoticeSource,
    /// When it was heard first.
    pub heard_at: String,
    /// When it may happen.
    pub gone_at: String,
}

impl Shown<'_> {
    /// How a node hears, for the provider.
    pub fn hearing(&self, told: Option<&NodeTelemetry>) -> Hearing {
        let Some(told) = told.filter(|_| self.caller.is_provider()) else {
            return Hearing::default();
        };
        let since = self.now.since(told.heard_at);
        let sources = told.hearing.iter().map(|heard| SourceRow {
            source: heard.source,
            question: heard.question.clone(),
            vital: heard.vital,
            last_heard_seconds: heard.last_heard_ago.map(|ago| (ago + since).0 / 1000),
            trouble: heard.trouble.clone(),
        });
        // Near enough for a page: the heartbeat's way is not counted.
        let clock = ClockOffset::between(told.heard_at, told.sent_at);
        let likely = told.notices.iter().filter(|notice| notice.certainty == Certainty::Likely);
        let likely = likely.map(|notice| LikelyRow {
            id: notice.id.to_string(),
            kind: notice.kind,
            source: notice.source,
            heard_at: instant(clock.wall(notice.heard_at)),
            gone_at: instant(clock.wall(notice.gone_at)),
        });
        Hearing { sources: sources.collect(), likely: likely.collect() }
    }
}
