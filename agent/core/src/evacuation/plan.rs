//! The plan of an evacuation: for each replica when its checkpoint begins, when its traffic goes
//! off, when it is stopped and killed, and what will not fit, with the reason.
//!
//! Guards the order of what an evacuation aims at: first replicas whose checkpoint completes, then
//! requests that come to their end, then the least work lost; the stop is always the latest one.
//! Checkpoints that share a disk or a link run beside one another only as far as it carries them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::time::{Boottime, Millis};

use super::search::{self, Job, Span};
use crate::timetable::{Steps, Timetable, timetable};

/// A replica that must be gone by a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// Which.
    pub replica: ReplicaId,
    /// Its deadline.
    pub gone_at: Boottime,
    /// What its steps are expected to take, the checkpoint apart.
    pub steps: Steps,
    /// Requests in flight.
    pub in_flight: u32,
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
}

/// How far a replica's checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// None is wanted, or it is over.
    Over,
    /// It is being written.
    Runs {
        /// What was expected of it.
        work: Work,
        /// When it was begun.
        since: Boottime,
        /// When it is expected to be done.
        until: Boottime,
    },
    /// It is wanted and was not begun.
    Wanted {
        /// What is expected of it.
        work: Work,
        /// The plan before this one had no room for it.
        was_left: bool,
    },
}

/// What one checkpoint is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// How long it takes when nothing else is written.
    pub takes: Millis,
    /// How much is written, where that was measured.
    pub bytes: Option<u64>,
    /// The work that is lost without it.
    pub lost: Millis,
}

/// When a checkpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Slot {
    /// None is wanted, or it is over.
    None,
    /// It is written from here to there.
    Written {
        /// When it begins; the past, when it runs already.
        begins: Boottime,
        /// When it is expected to be done.
        ends: Boottime,
    },
    /// There is no room for it beside those that are written.
    Left {
        /// How long it would take.
        needs: Millis,
        /// How long is left until the replica's stop.
        left: Millis,
    },
}

/// What is planned for one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its checkpoint.
    pub slot: Slot,
    /// Everything after it.
    pub table: Timetable,
    /// What does not fit.
    pub misses: Vec<Miss>,
}

/// A step that does not fit, or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// Which step.
    pub step: Step,
    /// How long it is expected to take.
    pub needs: Millis,
    /// How long it has.
    pub left: Millis,
}

/// A step that may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The checkpoint.
    Checkpoint,
    /// Requests in flight coming to their end.
    Requests,
    /// The drain hook.
    DrainHook,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Checkpoint => "the checkpoint",
            Step::Requests => "requests in flight",
            Step::DrainHook => "the drain hook",
        };
        write!(f, "{step} ({} needed, {} left)", self.needs, self.left)
    }
}

/// Plans for all of them at once. `carries` is how many bytes a second the slowest thing carries
/// that all checkpoints go through (the disk, the link to the shared place); absent where nothing
/// has shown it yet: then they all begin at once.
pub fn plan(now: Boottime, carries: Option<u64>, leavers: &[Leaver]) -> BTreeMap<ReplicaId, Row> {
    let slots = slots(now, carries, leavers);
    leavers
        .iter()
        .zip(slots)
        .map(|(leaver, slot)| (leaver.replica, row(now, leaver, slot)))
        .collect()
}

impl Leaver {
    /// The last moment of hooks: from here the stop still fits.
    fn stop_at(&self) -> Boottime {
        self.gone_at.minus(self.steps.margin + self.steps.stop)
    }
}

fn row(now: Boottime, leaver: &Leaver, slot: Slot) -> Row {
    let checkpoint = match slot {
        Slot::Written { ends, .. } => ends.since(now),
        Slot::None | Slot::Left { .. } => Millis(0),
    };
    let table = timetable(now, leaver.gone_at, Steps { checkpoint, ..leaver.steps });
    let room = table.stop_at.since(now);
    let whole =
        |step, needs: Millis, left: Millis| (left < needs).then_some(Miss { step, needs, left });
    let misses = [
        match slot {
            Slot::None => None,
            Slot::Written { .. } => whole(Step::Checkpoint, checkpoint, room),
            Slot::Left { needs, left } => Some(Miss { step: Step::Checkpoint, needs, left }),
        },
        whole(Step::Requests, leaver.steps.quiet, table.drain_hook_at.since(table.drain_at)),
        whole(Step::DrainHook, leaver.steps.drain_hook, table.stop_at.since(table.drain_hook_at)),
    ];
    Row { slot, table, misses: misses.into_iter().flatten().collect() }
}

/// One slot for each of the leavers.
fn slots(now: Boottime, carries: Option<u64>, leavers: &[Leaver]) -> Vec<Slot> {
    let begun = leavers.iter().filter(|leaver| leaver.checkpoint != Checkpoint::Over).count();
    let chosen = match carries.filter(|_| begun > 1 || leavers.iter().any(was_left)) {
        Some(carries) => choose(now, carries.max(1), leavers),
        // One alone begins at once and is cut at its stop, whatever was expected of it; and so do
        // several of which nothing shows that they hold one another up.
        None => leavers.iter().map(|leaver| at_once(now, &leaver.checkpoint)).collect(),
    };
    let as_slot = |(leaver, span): (&Leaver, Option<Span>)| match (leaver.checkpoint, span) {
        (Checkpoint::Over, _) => Slot::None,
        (Checkpoint::Runs { since, until, .. }, _) => Slot::Written { begins: since, ends: until },
        (Checkpoint::Wanted { .. }, Some(span)) => {
            Slot::Written { begins: Boottime(span.begins), ends: Boottime(span.ends) }
        }
        (Checkpoint::Wanted { work, .. }, None) => {
            let needs =
                carries.map_or(work.takes, |carries| Millis(demand(work, carries.max(1)).0));
            Slot::Left { needs, left: leaver.stop_at().since(now) }
        }
    };
    leavers.iter().zip(chosen).map(as_slot).collect()
}

fn was_left(leaver: &Leaver) -> bool {
    matches!(leaver.checkpoint, Checkpoint::Wanted { was_left: true, .. })
}

fn at_once(now: Boottime, checkpoint: &Checkpoint) -> Option<Span> {
    match checkpoint {
        Checkpoint::Wanted { work, .. } => {
            Some(Span { begins: now.0, ends: (now + work.takes).0, rate: 0 })
        }
        Checkpoint::Over | Checkpoint::Runs { .. } => None,
    }
}

/// How long a checkpoint takes where so many bytes a second go through, and how many of them it
/// takes: all, where nobody has measured how much it writes.
fn demand(work: Work, carries: u64) -> (u64, u64) {
    let Some(bytes) = work.bytes else { return (work.takes.0, carries) };
    let slowest = bytes.saturating_mul(1000).div_ceil(carries);
    let takes = work.takes.0.max(slowest);
    let rate = bytes.saturating_mul(1000).checked_div(takes).unwrap_or(carries);
    (takes, rate.min(carries))
}

fn choose(now: Boottime, carries: u64, leavers: &[Leaver]) -> Vec<Option<Span>> {
    let held = leavers.iter().filter_map(|leaver| match leaver.checkpoint {
        // One that runs longer than expected holds nobody up.
        Checkpoint::Runs { work, until, .. } if until > now => {
            let (_, rate) = demand(work, carries);
            Some(Span { begins: now.0, ends: until.0, rate })
        }
        Checkpoint::Runs { .. } | Checkpoint::Over | Checkpoint::Wanted { .. } => None,
    });
    let (mut jobs, mut places) = (Vec::new(), Vec::new());
    for (place, leaver) in leavers.iter().enumerate() {
        let Checkpoint::Wanted { work, .. } = leaver.checkpoint else { continue };
        let (takes, rate) = demand(work, carries);
        jobs.push(Job {
            takes,
            rate,
            stop_at: leaver.stop_at().0,
            quiet: leaver.steps.quiet.0,
            drain_hook: leaver.steps.drain_hook.0,
            in_flight: leaver.in_flight,
            lost: work.lost.0,
        });
        places.push(place);
    }
    let spans = search::best(now.0, carries, &held.collect::<Vec<_>>(), &jobs);
    let mut all = vec![None; leavers.len()];
    for (place, span) in places.into_iter().zip(spans) {
        if let Some(slot) = all.get_mut(place) {
            *slot = span;
        }
    }
    all
}
