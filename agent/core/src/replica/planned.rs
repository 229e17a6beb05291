//! Why a replica leaves, by when, and what the plan of the whole node has for it.

use wharfage_shared::order::StopCause;
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::{Boottime, Millis};

use super::{Leaving, Phase, Replica, Standing};
use crate::estimates::Expected;
use crate::evacuation::plan::{Checkpoint, Leaver, Miss, Row, Slot, Step, Work};
use crate::out::Out;
use crate::timetable::{Steps, Timetable};

/// A beginning that moved by less than this is not worth a line.
const WORTH_A_LINE: Millis = Millis::from_seconds(1);

/// A hook that says that it is less far than this has said nothing of its length.
const TELLING_PERMILLE: u64 = 100;

/// Why and until when a replica leaves, and how far the sequence is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub because: StopCause,
    /// A stop order names it (not only a notice).
    pub ordered: bool,
    /// Nothing is in flight any more, the scheduler says.
    pub(super) quiet: bool,
    pub(super) quiet_noted: bool,
    /// From here on it drains even without an order.
    pub drain_from: Option<Boottime>,
    /// Absent until the deadline is known on the host's clock.
    pub table: Option<Timetable>,
    planned_for: Option<PlannedFor>,
    /// The notice moved its deadline away after traffic had gone off.
    pub(super) put_off: bool,
    checkpoint: Stage,
    /// When its checkpoint is written.
    pub slot: Slot,
    /// What will not fit.
    pub misses: Vec<Miss>,
    pub(super) drain_hook_begun: bool,
}

/// How far the checkpoint of this stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unwanted,
    Wanted,
    /// Begun, or given up.
    Begun {
        /// When it is expected to be done.
        until: Boottime,
    },
}

/// What the node's plan was made from: it is made anew only when this changes for one of its
/// replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    deadline: Boottime,
    was_ready: bool,
    waits: bool,
    /// When the checkpoint that runs is expected to be done.
    until: Option<Boottime>,
}

/// What a timetable was made from: it is made anew only when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlannedFor {
    deadline: Boottime,
    was_ready: bool,
    checkpoint_ends: Option<Boottime>,
    is_left: bool,
}

impl Replica {
    /// Brings the replica's plan up to what order and notice say now; what the plan of the whole
    /// node must know of it, once it must leave by a known deadline.
    pub fn leaver(&mut self, leaving: &Leaving<'_>, out: &mut Out) -> Option<(Fact, Leaver)> {
        let Some(wish) = Wish::of(leaving.standing, leaving.notice) else {
            if self.plan.take().is_some() && self.phase.has_guard() {
                self.note(out, "it need not leave any more");
                self.has_its_time_to_stop(leaving.config.budget.stop);
            }
            return None;
        };
        let drains = self.drains();
        let writes = self.hook_since(HookKind::Checkpoint);
        let work = self.checkpoint_work(leaving, out.now);
        let drain_hook = self.expected(HookKind::Drain, leaving).takes;
        let keeps = wish.keeps_state && self.order.hooks.contains_key(&HookKind::Checkpoint);
        let may_begin = self.may_begin_checkpoint();
        let plan = self.plan.get_or_insert_with(|| Plan::new(wish.because));
        plan.because = wish.because;
        plan.ordered = wish.ordered;
        plan.quiet = wish.quiet;
        plan.drain_from = wish.drain_from;
        if keeps && plan.checkpoint == Stage::Unwanted {
            plan.checkpoint = Stage::Wanted;
        }
        let deadline = wish.deadline?;
        if plan.planned_for.is_some_and(|planned| planned.deadline < deadline)
            && drains
            && !plan.ordered
        {
            (plan.put_off, plan.drain_hook_begun) = (true, false);
        }
        // One from before a withdrawal still runs: it serves this time too.
        if let (Stage::Wanted, Some(since), true) = (plan.checkpoint, writes, may_begin) {
            plan.checkpoint = Stage::Begun { until: since + work.takes };
        }
        let checkpoint = match (plan.checkpoint, writes) {
            (Stage::Begun { until }, Some(since)) => Checkpoint::Runs { work, since, until },
            (Stage::Wanted, _) if may_begin => {
                let was_left = matches!(plan.slot, Slot::Left { .. });
                Checkpoint::Wanted { work, was_left }
            }
            (Stage::Unwanted | Stage::Wanted | Stage::Begun { .. }, _) => Checkpoint::Over,
        };
        let mut steps = Steps { stop: leaving.stop, margin: leaving.margin, ..Steps::default() };
        // What never served has nothing in flight and no state worth a hook.
        if self.was_ready {
            steps.quiet = leaving.estimates.quiet(&self.order.deployment, leaving.config);
            steps.drain_hook = if plan.drain_hook_begun { Millis(0) } else { drain_hook };
        }
        let leaver = Leaver {
            replica: self.order.replica,
            gone_at: deadline,
            steps,
            in_flight: self.in_flight.unwrap_or(1),
            checkpoint,
        };
        Some((Fact::of(&leaver, self.was_ready), leaver))
    }

    /// What was asked to end, ends; not by SIGKILL at a deadline that holds no more.
    fn has_its_time_to_stop(&mut self, stop: Millis) {
        if let Phase::Terminating { since, kill_at } = &mut self.phase {
            *kill_at = (*kill_at).max(*since + stop);
        }
    }

    /// Takes what the node's plan has for it, and says what will not fit.
    pub fn take(&mut self, row: &Row, out: &mut Out) {
        let planned = PlannedFor::of(row, self.was_ready);
        let is_ended = self.phase.is_leaving() && !self.drains();
        let Some(plan) = &mut self.plan else { return };
        let before = plan.planned_for;
        let is_same = |before: PlannedFor| {
            before == planned || (is_ended && before.deadline == planned.deadline)
        };
        if before.is_some_and(is_same) {
            return;
        }
        plan.planned_for = Some(planned);
        let was = std::mem::replace(&mut plan.slot, row.slot);
        plan.table = Some(row.table);
        plan.misses.clone_from(&row.misses);
        if plan.quiet {
            plan.misses.retain(|miss| miss.step != Step::Requests);
        }
        let is_news = before.is_none_or(|before| {
            before.deadline != planned.deadline || before.is_left != planned.is_left
        });
        let misses: Vec<String> = plan.misses.iter().map(Miss::to_string).collect();
        if is_news && !misses.is_empty() {
            self.note(out, format!("will not fit: {}", misses.join(", ")));
        }
        self.tell_of_wait(was, row.slot, out);
    }

    /// A checkpoint that waits for others says until when.
    fn tell_of_wait(&self, was: Slot, slot: Slot, out: &mut Out) {
        let Slot::Written { begins, .. } = slot else { return };
        let moved = match was {
            Slot::Written { begins: before, .. } => before.since(begins).max(begins.since(before)),
            Slot::None | Slot::Left { .. } => begins.since(out.now),
        };
        if begins <= out.now || moved < WORTH_A_LINE {
            return;
        }
        if let Some(hook) = self.order.hooks.get(&HookKind::Checkpoint) {
            let wait = begins.since(out.now);
            self.note(
                out,
                format!("{} hook `{hook}` waits {wait} for others", HookKind::Checkpoint),
            );
        }
    }

    /// The checkpoint begins when the plan says so, beside the replica's traffic. Whether it began.
    pub fn begin_checkpoint(&mut self, out: &mut Out) -> bool {
        let may_begin = self.may_begin_checkpoint();
        let Some(plan) = &mut self.plan else { return false };
        let (Stage::Wanted, Slot::Written { begins, ends }) = (plan.checkpoint, plan.slot) else {
            return false;
        };
        let Some(table) = plan.table.filter(|_| may_begin && out.now >= begins) else {
            return false;
        };
        plan.checkpoint = Stage::Begun { until: ends };
        let reason = plan.because.to_string();
        let has_time = out.now < table.stop_at;
        if has_time {
            self.run_hook(HookKind::Checkpoint, reason, table.stop_at, out);
        } else {
            self.skip_hook(HookKind::Checkpoint, out);
        }
        has_time
    }

    /// What of it is still open, for a deadline that has passed.
    pub fn open_at_the_end(&self) -> Option<String> {
        let open = match &self.phase {
            Phase::Waiting => return None,
            Phase::Quarantined { because, .. } => because.clone(),
            Phase::Releasing { .. } => "it is not proven that its memory is back".to_owned(),
            Phase::Killing { .. } => "its processes do not end after SIGKILL".to_owned(),
            Phase::Fetching { .. }
            | Phase::Restoring
            | Phase::Starting
            | Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. } => "its processes were not told to end in time".to_owned(),
        };
        Some(open)
    }

    /// When a checkpoint begins that waits for others.
    pub(super) fn checkpoint_begins(&self) -> Option<Boottime> {
        let plan = self.plan.as_ref().filter(|plan| plan.checkpoint == Stage::Wanted)?;
        match plan.slot {
            Slot::Written { begins, .. } => Some(begins),
            Slot::None | Slot::Left { .. } => None,
        }
    }

    /// Its process ends now: a checkpoint that was not begun never will be.
    pub(super) fn give_up_checkpoint(&mut self, out: &mut Out) {
        let Some(plan) = &mut self.plan else { return };
        if plan.checkpoint == Stage::Wanted && plan.slot != Slot::None {
            plan.checkpoint = Stage::Begun { until: out.now };
            self.skip_hook(HookKind::Checkpoint, out);
        }
    }

    /// What a hook says of how far it is tells when it will be done.
    pub(super) fn expect_by_progress(&mut self, permille: u16, now: Boottime) {
        let Some(since) = self.hook_since(HookKind::Checkpoint) else { return };
        let Some(plan) = &mut self.plan else { return };
        let Stage::Begun { until } = plan.checkpoint else { return };
        let far = u64::from(permille);
        if far < TELLING_PERMILLE {
            return;
        }
        let whole = now.since(since).0.saturating_mul(1000).checked_div(far).unwrap_or(0);
        let said = since + Millis(whole);
        let moved = said.since(until).max(until.since(said));
        if moved.0 > until.since(since).0 / 4 {
            plan.checkpoint = Stage::Begun { until: said };
        }
    }

    fn drains(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::DrainHook)
    }

    fn may_begin_checkpoint(&self) -> bool {
        self.was_ready && (self.phase.serves() || self.phase == Phase::Draining)
    }

    fn expected(&self, kind: HookKind, leaving: &Leaving<'_>) -> Expected {
        leaving.estimates.hook(&self.order, kind, leaving.hardware, leaving.config)
    }

    /// What its checkpoint is expected to be; without it the work since the last one is lost.
    fn checkpoint_work(&self, leaving: &Leaving<'_>, now: Boottime) -> Work {
        let kind = HookKind::Checkpoint;
        let done = |run: &&wharfage_shared::replica::HookReport| {
            run.kind == kind && run.outcome == HookOutcome::Done
        };
        let last = self.hooks.iter().rev().find(done).map(|run| run.started_at);
        let Expected { takes, bytes } = self.expected(kind, leaving);
        Work { takes, bytes, lost: now.since(last.unwrap_or(self.engine_at)) }
    }
}

impl Plan {
    fn new(because: StopCause) -> Self {
        Self {
            because,
            ordered: false,
            quiet: false,
            quiet_noted: false,
            drain_from: None,
            table: None,
            planned_for: None,
            put_off: false,
            checkpoint: Stage::Unwanted,
            slot: Slot::None,
            misses: Vec::new(),
            drain_hook_begun: false,
        }
    }
}

impl Fact {
    fn of(leaver: &Leaver, was_ready: bool) -> Self {
        let (waits, until) = match leaver.checkpoint {
            Checkpoint::Over => (false, None),
            Checkpoint::Runs { until, .. } => (false, Some(until)),
            Checkpoint::Wanted { .. } => (true, None),
        };
        Self { deadline: leaver.gone_at, was_ready, waits, until }
    }
}

impl PlannedFor {
    fn of(row: &Row, was_ready: bool) -> Self {
        let (checkpoint_ends, is_left) = match row.slot {
            Slot::None => (None, false),
            Slot::Written { ends, .. } => (Some(ends), false),
            Slot::Left { .. } => (None, true),
        };
        Self { deadline: row.table.gone_at, was_ready, checkpoint_ends, is_left }
    }
}

/// What order and notice together ask of a replica.
struct Wish {
    because: StopCause,
    ordered: bool,
    quiet: bool,
    deadline: Option<Boottime>,
    drain_from: Option<Boottime>,
    keeps_state: bool,
}

impl Wish {
    /// The earlier deadline wins; the order's reason is the one that people are told.
    fn of(standing: Standing, notice: Option<&crate::notices::Binding>) -> Option<Self> {
        let noticed = notice.map(|notice| notice.gone_at);
        let drain_from = notice.and_then(|notice| notice.drain_from);
        match standing {
            Standing::Stop { because, deadline, quiet } => {
                let deadline = match (deadline, noticed) {
                    (Some(order), Some(notice)) => Some(order.min(notice)),
                    (one, other) => one.or(other),
                };
                let keeps_state = noticed.is_some() || keeps_state(because);
                Some(Self { because, ordered: true, quiet, deadline, drain_from, keeps_state })
            }
            Standing::Run | Standing::Unordered => notice.map(|notice| Self {
                because: notice.because,
                ordered: false,
                quiet: false,
                deadline: noticed,
                drain_from,
                keeps_state: true,
            }),
        }
    }
}

/// Whether what the replica knows is worth a checkpoint: it is, where the node goes or others need
/// the place, since the work goes on elsewhere.
fn keeps_state(because: StopCause) -> bool {
    match because {
        StopCause::Preempted
        | StopCause::Moved
        | StopCause::NodeDrained
        | StopCause::NodeNoticed
        | StopCause::ClaimEnded
        | StopCause::HardwareRepair => true,
        StopCause::ScaledDown
        | StopCause::Deleted
        | StopCause::Replaced
        | StopCause::Disabled
        | StopCause::NodeLost
        | StopCause::StartDeadline
        | StopCause::Degraded
        // A checkpoint of a GPU that is not to be trusted would carry its fault on.
        | StopCause::HardwareFault
        | StopCause::Crashed
        | StopCause::Orphan
        | StopCause::Terminated => false,
    }
}
