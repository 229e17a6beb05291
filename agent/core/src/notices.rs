//! Notices in force: what the node's sources heard, drills, and a reclaim of the scheduler.
//!
//! Guards the rules that the earliest certain deadline binds, that a deadline only moves earlier, and
//! that a withdrawn notice leaves nothing behind.

mod ordered;

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource, Reclaim};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::{Boottime, Millis};

use self::ordered::Ordered;
use crate::clock::SchedulerClock;

/// A node that lives on for so long after its deadline was not taken away.
const EXPIRED_AFTER: Millis = Millis::from_seconds(300);

/// Everything that says the node (or what stands on it) will go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    heard: BTreeMap<NoticeId, Notice>,
    drills: BTreeSet<NoticeId>,
    drills_so_far: u64,
    reclaim: Option<Reclaimed>,
    ordered: Option<Ordered>,
    acknowledged: BTreeSet<NoticeId>,
    /// Those whose deadline passed long ago, while the node is still there.
    expired: BTreeSet<NoticeId>,
}

/// A reclaim on the host's clock.
#[derive(Clone, Debug)]
struct Reclaimed {
    said: Reclaim,
    /// Absent until an answer has told where the scheduler's clock stands.
    mapped: Option<(Notice, Boottime)>,
}

/// The notice whose deadline binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub id: NoticeId,
    pub heard_at: Boottime,
    pub gone_at: Boottime,
    /// From here on replicas drain even without an order (a reclaim says so).
    pub drain_from: Option<Boottime>,
    pub because: StopCause,
}

/// What hearing a notice changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    New,
    Changed,
    Same,
}

impl Notices {
    /// A source heard a notice, or heard it again. The first hearing is kept, and the earliest
    /// deadline: one that is put off is withdrawn and heard under another id. A deadline that has
    /// passed is now.
    pub fn hear(&mut self, mut notice: Notice) -> Heard {
        notice.gone_at = notice.gone_at.max(notice.heard_at);
        let Some(known) = self.heard.get(&notice.id) else {
            self.heard.insert(notice.id.clone(), notice);
            return Heard::New;
        };
        notice.heard_at = known.heard_at;
        notice.gone_at = notice.gone_at.min(known.gone_at);
        if known.certainty == Certainty::Certain {
            notice.certainty = Certainty::Certain;
        }
        if *known == notice {
            return Heard::Same;
        }
        self.heard.insert(notice.id.clone(), notice);
        Heard::Changed
    }

    /// A drill: a notice of this length, as if heard now.
    pub fn drill(&mut self, now: Boottime, window: Millis) -> NoticeId {
        self.drills_so_far += 1;
        let id = NoticeId::new(format!("drill-{}-{}", now.0, self.drills_so_far));
        let notice = Notice {
            id: id.clone(),
            kind: NoticeKind::Preempt,
            source: NoticeSource::Drill,
            leaves: Leaves::Node,
            gone_at: now + window,
            heard_at: now,
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        };
        self.heard.insert(id.clone(), notice);
        self.drills.insert(id.clone());
        id
    }

    /// The source took it back. Whether it was in force.
    pub fn withdraw(&mut self, id: &NoticeId) -> bool {
        self.drills.remove(id);
        self.acknowledged.remove(id);
        self.expired.remove(id);
        self.heard.remove(id).is_some()
    }

    /// Drills end at their deadline, since nobody takes the node: the ones that ended now.
    pub fn end_drills(&mut self, now: Boottime) -> Vec<NoticeId> {
        let over: Vec<NoticeId> =
            self.drills.iter().filter(|id| self.is_over(id, now)).cloned().collect();
        for id in &over {
            self.withdraw(id);
        }
        over
    }

    /// Notices that this node has outlived by now: those that it did not know of.
    pub fn expire(&mut self, now: Boottime) -> Vec<NoticeId> {
        let over: Vec<NoticeId> = self
            .outlived()
            .filter(|(_, at)| *at <= now)
            .map(|(notice, _)| notice.id.clone())
            .collect();
        self.expired.extend(over.iter().cloned());
        over
    }

    /// Notices that this node has outlived.
    pub fn expired(&self) -> Vec<NoticeId> {
        self.expired.iter().cloned().collect()
    }

    /// What takes the whole node, with the moment from which it is outlived.
    fn outlived(&self) -> impl Iterator<Item = (&Notice, Boottime)> {
        let takes_the_node = |notice: &&Notice| {
            notice.certainty == Certainty::Certain
                && notice.leaves == Leaves::Node
                && !self.expired.contains(&notice.id)
        };
        let all = self.heard.values().filter(takes_the_node);
        all.map(|notice| (notice, notice.gone_at + EXPIRED_AFTER))
    }

    fn is_over(&self, id: &NoticeId, now: Boottime) -> bool {
        self.heard.get(id).is_none_or(|notice| now >= notice.gone_at)
    }

    /// The scheduler's reclaim as the newest desired state has it; mapped once per wording.
    pub fn reclaim(&mut self, said: Option<&Reclaim>, clock: &SchedulerClock, now: Boottime) {
        let Some(said) = said else {
            self.reclaim = None;
            return;
        };
        let known =
            self.reclaim.take().filter(|known| known.said == *said && known.mapped.is_some());
        self.reclaim = known.or_else(|| {
            let mapped = clock.boottime(said.gone_at).zip(clock.boottime(said.drain_at));
            let mapped = mapped.map(|(gone_at, drain_at)| {
                let source = match said.kind {
                    NoticeKind::Reclaim => NoticeSource::Scheduler,
                    NoticeKind::Preempt | NoticeKind::Maintenance | NoticeKind::Shutdown => {
                        NoticeSource::Provider
                    }
                };
                let notice = Notice {
                    id: said.id.clone(),
                    kind: said.kind,
                    source,
                    leaves: said.leaves,
                    gone_at,
                    heard_at: now,
                    certainty: Certainty::Certain,
                    can_acknowledge: false,
                    can_be_withdrawn: true,
                };
                (notice, drain_at)
            });
            Some(Reclaimed { said: said.clone(), mapped })
        });
    }

    /// Whether it is certain that the node goes: then nothing new starts. What is merely likely may
    /// be weeks ahead; the scheduler decides what comes here meanwhile.
    pub fn any(&self) -> bool {
        let certain = |notice: &Notice| notice.certainty == Certainty::Certain;
        self.heard.values().any(certain) || self.reclaim.is_some()
    }

    /// The certain notice with the earliest deadline. A merely likely one is reported and starts
    /// nothing by itself: whether to leave on a hint is the scheduler's decision.
    pub fn binding(&self) -> Option<Binding> {
        let heard = self.heard.values().filter(|notice| notice.certainty == Certainty::Certain);
        let heard = heard.map(|notice| (notice, None));
        let mapped = self.reclaim.iter().filter_map(|reclaim| reclaim.mapped.as_ref());
        let reclaim = mapped.map(|(notice, drain_at)| (notice, Some(*drain_at)));
        let drain_from = reclaim.clone().next().and_then(|(_, drain_at)| drain_at);
        heard
            .chain(reclaim)
            .min_by(|(a, _), (b, _)| (a.gone_at, &a.id).cmp(&(b.gone_at, &b.id)))
            .map(|(notice, _)| Binding {
                id: notice.id.clone(),
                heard_at: notice.heard_at,
                gone_at: notice.gone_at,
                drain_from,
                because: StopCause::NodeNoticed,
            })
    }

    /// The sources that want to hear that the node is done, once each.
    pub fn acknowledge_all(&mut self) -> Vec<NoticeId> {
        let open =
            self.heard.values().filter(|n| n.can_acknowledge && n.certainty == Certainty::Certain);
        let ids: Vec<NoticeId> =
            open.map(|n| n.id.clone()).filter(|id| !self.acknowledged.contains(id)).collect();
        self.acknowledged.extend(ids.iter().cloned());
        ids
    }

    /// What the node's own sources heard, for the scheduler.
    pub fn own(&self) -> Vec<Notice> {
        self.heard.values().cloned().collect()
    }

    /// Everything in force, for the status page.
    pub fn all(&self) -> Vec<Notice> {
        let reclaim = self.reclaim.iter().filter_map(|reclaim| reclaim.mapped.as_ref());
        self.heard.values().cloned().chain(reclaim.map(|(notice, _)| notice.clone())).collect()
    }

    /// The end of the next drill, or the moment from which the node has outlived a notice.
    pub fn wake(&self) -> Option<Boottime> {
        let drills = self.drills.iter().filter_map(|id| self.heard.get(id));
        let drills = drills.map(|notice| notice.gone_at);
        drills.chain(self.outlived().map(|(_, at)| at)).min()
    }
}
