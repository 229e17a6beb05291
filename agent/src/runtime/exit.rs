//! An agent that was told to end: at once, leaving its replicas to the next one, or after they have
//! left as under a notice.

use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::time::{Boottime, Millis};

use super::Runtime;
use crate::config::OnExit;
use crate::supervised;

/// So long the scheduler has to hear that the last replica is gone.
const LAST_REPORT: Millis = Millis::from_seconds(5);

/// Replicas leave before the agent does.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    notice: NoticeId,
    deadline: Boottime,
    /// The node is empty: since when, and the last report before that.
    empty: Option<(Boottime, u64)>,
}

impl Runtime {
    /// Whether the agent may end now that it was told to. The first question begins the drain where
    /// the node's owner wants one.
    pub(super) fn may_end(&mut self) -> bool {
        let config = self.parts.driver.config();
        if config.on_exit != OnExit::Drain {
            return true;
        }
        let now = clock::boottime();
        if self.leaving.is_none() {
            let window = Millis::from_seconds(u64::from(config.exit_drain_seconds));
            self.begin_to_leave(now, window);
        }
        let Some(leaving) = &self.leaving else { return true };
        match leaving.empty {
            // Its end is a fact only when the scheduler knows of it: an answer may be to a report
            // that was under way.
            Some((since, before)) => self.answered > before || now > since + LAST_REPORT,
            None => now > leaving.deadline,
        }
    }

    fn begin_to_leave(&mut self, now: Boottime, window: Millis) {
        let notice = Notice {
            id: NoticeId::new(format!("exit-{}", now.0)),
            kind: NoticeKind::Maintenance,
            source: NoticeSource::Agent,
            leaves: Leaves::Replicas,
            gone_at: now + window,
            heard_at: now,
            certainty: Certainty::Certain,
            can_acknowledge: true,
            can_be_withdrawn: false,
        };
        self.leaving =
            Some(Leaving { notice: notice.id.clone(), deadline: notice.gone_at, empty: None });
        self.note(None, "the agent was told to end and to drain its replicas first".to_owned());
        supervised::stopping("drains its replicas");
        self.step(Input::NoticeHeard(notice));
        self.parts.report_now.notify_one();
    }

    /// The node is done with a notice: whoever waits for that is told.
    pub(super) fn done_with(&mut self, id: NoticeId) {
        if let Some(leaving) = &mut self.leaving
            && leaving.notice == id
        {
            leaving.empty = Some((clock::boottime(), self.number));
            self.parts.report_now.notify_one();
            return;
        }
        // A source that is not there waits for nothing; the notice file takes no answer.
        drop(self.parts.done_with.send(id));
    }
}
