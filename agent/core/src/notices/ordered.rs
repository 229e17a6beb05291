//! A drill that the scheduler orders: from here on it is a notice like those of the node's own
//! sources, so that everything after the hearing is the path of a real one.

use wharfage_shared::drill::Drill;
use wharfage_shared::notice::{Certainty, Notice, NoticeKind, NoticeSource};
use wharfage_shared::time::Boottime;

use super::{Heard, Notices};
use crate::clock::SchedulerClock;

/// The drill as it was said when it was heard; its notice stands among the others.
#[derive(Clone, Debug)]
pub(super) struct Ordered(Drill);

impl Notices {
    /// The drill of the newest desired state. Answers what changed, one sentence.
    ///
    /// It is heard once the scheduler's clock is known here, and mapped once per wording.
    pub fn ordered(
        &mut self,
        said: Option<&Drill>,
        clock: &SchedulerClock,
        now: Boottime,
    ) -> Option<String> {
        let known = self.ordered.as_ref().map(|Ordered(known)| known);
        if known == said {
            return None;
        }
        let over = known.map(|known| known.id.clone());
        let over = over.filter(|id| said.is_none_or(|said| said.id != *id));
        if let Some(id) = over {
            self.ordered = None;
            return self.withdraw(&id).then(|| format!("drill `{id}` is over"));
        }
        let said = said?;
        let gone_at = clock.boottime(said.gone_at)?;
        let notice = Notice {
            id: said.id.clone(),
            kind: NoticeKind::Preempt,
            source: NoticeSource::Drill,
            leaves: said.leaves,
            gone_at,
            heard_at: now,
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        };
        let heard = self.hear(notice);
        self.ordered = Some(Ordered(said.clone()));
        let text = format!("drill `{}`: gone in {}", said.id, gone_at.since(now));
        (heard != Heard::Same).then_some(text)
    }
}
