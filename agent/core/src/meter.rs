//! The node's evidence: one chain of segments that never overlap.
//!
//! A segment is cut at each change of holder, activity or replica set and after 24 h, and closed in
//! the log before anybody is told of it. It never ends later than it was proven: each step proves
//! what stood up to it.
//!
//! After a crash of the agent the open segment is closed at what was noted as proven. Replicas that
//! are adopted in the same boot ran on without the agent, and their guards' records prove it: the
//! next segment starts at that very instant, so that nothing is lost. Without a survivor there is no
//! evidence for the time between, and none is claimed. An open segment of an earlier boot is closed
//! the same way, on the clock of its own boot.

use wharfage_shared::ids::{BootId, NodeId, SegmentLogId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::segment::{
    Activity, OpenSegment, Segment, SegmentKey, SegmentReplica, SegmentsAcknowledged,
};
use wharfage_shared::time::Boottime;
use wharfage_shared::version::Epoch;

use crate::config::Config;
use crate::effect::Effect;
use crate::input::Found;
use crate::out::Out;

/// What the node is doing, as the bill sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub held_for: Option<HeldFor>,
    pub activity: Activity,
    pub replicas: Vec<SegmentReplica>,
}

/// The node's segment log, as decisions see it.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    node: NodeId,
    boot: BootId,
    log: SegmentLogId,
    /// The last closed segment's number.
    last: u64,
    open: Option<Open>,
    closed: Vec<Segment>,
    /// The end of the last closed segment of this boot: nothing starts before it.
    floor: Boottime,
    /// Up to here an earlier agent had proven its open segment.
    resume_at: Option<Boottime>,
    /// For whom a guard has started here, while that assignment lasts.
    active_for: Option<HeldFor>,
}

#[derive(Clone, Debug)]
struct Open {
    picture: Picture,
    start: Boottime,
    proven_until: Boottime,
    noted_at: Boottime,
}

impl Meter {
    /// Takes over the log; what was open in it is closed at what was proven.
    pub fn new(found: &Found, out: &mut Out) -> Self {
        let same_boot = |key: &SegmentKey| key.boot == found.boot && key.node == found.node;
        let ends = found.unacknowledged.iter().filter(|segment| same_boot(&segment.key));
        let mut meter = Self {
            node: found.node.clone(),
            boot: found.boot.clone(),
            log: found.log.clone(),
            last: found.last_segment,
            open: None,
            closed: found.unacknowledged.clone(),
            floor: ends.map(|segment| segment.end).max().unwrap_or_default(),
            resume_at: None,
            active_for: None,
        };
        if let Some(left) = found.open_segment.clone().filter(|left| left.key.log == found.log) {
            meter.take_over(left, out);
        }
        meter
    }

    /// Closes what an earlier agent left open, once: a note that is older than the log's last
    /// closed segment is stale, and what that one says counts.
    fn take_over(&mut self, left: OpenSegment, out: &mut Out) {
        let same_boot = left.key.boot == self.boot;
        self.active_for.clone_from(&left.held_for);
        if left.key.number <= self.last {
            let known = self.closed.iter().any(|segment| segment.key == left.key);
            self.resume_at = (known && same_boot).then_some(self.floor);
            return;
        }
        self.resume_at = same_boot.then_some(left.proven_until);
        // Even one of no length: an earlier agent may have told its number to the scheduler.
        self.last += 1;
        if same_boot {
            self.floor = left.proven_until;
        }
        let segment = Segment {
            key: SegmentKey { number: self.last, ..left.key },
            epoch: Epoch::default(),
            held_for: left.held_for,
            activity: left.activity,
            replicas: left.replicas,
            start: left.start,
            end: left.proven_until,
        };
        self.append(segment, out);
    }

    /// An earlier agent's time goes on: `since` is the first guard that is known to have lived on.
    pub fn resume(&mut self, since: Boottime, picture: Option<Picture>, out: &mut Out) {
        let (Some(from), Some(picture)) = (self.resume_at.take(), picture) else { return };
        self.begin(picture, from.max(since).min(out.now), out);
    }

    /// What stood so far stood up to now.
    pub fn prove(&mut self, now: Boottime) {
        if let Some(open) = &mut self.open {
            open.proven_until = open.proven_until.max(now);
        }
    }

    /// Cuts where something changed or 24 h are over; notes the open segment now and then.
    pub fn settle(
        &mut self,
        picture: Option<Picture>,
        epoch: Option<Epoch>,
        config: &Config,
        out: &mut Out,
    ) {
        self.resume_at = None;
        while let Some(open) = &self.open
            && out.now >= open.start + config.segment_longest
        {
            let cut_at = open.start + config.segment_longest;
            let same = open.picture.clone();
            self.close(cut_at, epoch, out);
            self.begin(same, cut_at, out);
        }
        let same = self.open.as_ref().map(|open| &open.picture) == picture.as_ref();
        if same {
            if let Some(open) = &mut self.open
                && out.now >= open.noted_at + config.note_segment_every
            {
                open.noted_at = out.now;
                let noted = self.open_segment();
                out.push(Effect::NoteOpenSegment(Box::new(noted.expect("it was just seen open"))));
            }
            return;
        }
        if self.open.is_some() {
            self.close(out.now, epoch, out);
        }
        if let Some(picture) = picture {
            self.begin(picture, out.now, out);
        }
    }

    fn begin(&mut self, picture: Picture, start: Boottime, out: &mut Out) {
        let start = start.max(self.floor);
        let proven_until = out.now.max(start);
        self.open = Some(Open { picture, start, proven_until, noted_at: out.now });
        if let Some(open) = self.open_segment() {
            out.push(Effect::NoteOpenSegment(Box::new(open)));
        }
    }

    /// A segment of no length is no evidence: its number is given to the next one.
    fn close(&mut self, end: Boottime, epoch: Option<Epoch>, out: &mut Out) {
        let Some(open) = self.open.take() else { return };
        if end <= open.start {
            return;
        }
        self.last += 1;
        self.floor = end;
        let segment = Segment {
            key: self.key(self.last),
            // Closed before the scheduler has named this start of the agent: epoch 0 says so.
            epoch: epoch.unwrap_or_default(),
            held_for: open.picture.held_for,
            activity: open.picture.activity,
            replicas: open.picture.replicas,
            start: open.start,
            end,
        };
        self.append(segment, out);
    }

    fn append(&mut self, segment: Segment, out: &mut Out) {
        out.push(Effect::AppendSegment(Box::new(segment.clone())));
        self.closed.push(segment);
    }

    fn key(&self, number: u64) -> SegmentKey {
        let (node, boot, log) = (self.node.clone(), self.boot.clone(), self.log.clone());
        SegmentKey { node, boot, log, number }
    }

    /// For whom the node's time counts, if a guard has ever started for them: the answer to whether
    /// an empty node that is held is already active.
    pub fn is_active_for(&mut self, held_for: Option<&HeldFor>, guards: bool) -> bool {
        let still = |active: &HeldFor| {
            held_for.is_some_and(|held| {
                held.organization == active.organization && held.claim == active.claim
            })
        };
        self.active_for = self.active_for.take().filter(still);
        if guards {
            self.active_for = held_for.cloned();
        }
        guards || self.active_for.is_some()
    }

    /// The scheduler has closed segments in its log.
    pub fn acknowledged(&mut self, upto: &SegmentsAcknowledged) {
        self.closed.retain(|s| s.key.log != upto.log || s.key.number > upto.up_to);
    }

    /// The open segment, as it is noted and reported.
    pub fn open_segment(&self) -> Option<OpenSegment> {
        let open = self.open.as_ref()?;
        Some(OpenSegment {
            key: self.key(self.last + 1),
            held_for: open.picture.held_for.clone(),
            activity: open.picture.activity,
            replicas: open.picture.replicas.clone(),
            start: open.start,
            proven_until: open.proven_until,
        })
    }

    /// Closed and not acknowledged, in order.
    pub fn closed(&self) -> &[Segment] {
        &self.closed
    }

    /// The last closed segment's number.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// When it must be looked after again.
    pub fn wake(&self, config: &Config) -> Option<Boottime> {
        let open = self.open.as_ref()?;
        let note = open.noted_at + config.note_segment_every;
        Some(note.min(open.start + config.segment_longest))
    }
}
