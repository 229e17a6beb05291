//! The way out: checkpoint beside traffic, traffic off, drain hook, SIGTERM, SIGKILL.
//!
//! Guards S8: without an order that says `quiet`, nothing that was ready is stopped before the last
//! moment from which the rest still fits; and the other side of it, that nothing runs at the
//! deadline.

use wharfage_shared::order::StopCause;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Boottime, Millis};

use super::{Around, Phase, Replica, Standing, Turn};
use crate::asking::Asking;
use crate::effect::Effect;
use crate::out::Out;
use crate::timetable::{Steps, Timetable, timetable};

/// SIGKILL is asked for again after this long: it cannot fail, but the guard that carries it out
/// may have been lost.
const KILL_AGAIN: Millis = Millis::from_seconds(1);

/// Why and until when a replica leaves, and how far the sequence is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub because: StopCause,
    /// A stop order names it (not only a notice).
    pub ordered: bool,
    /// Nothing is in flight any more, the scheduler says.
    quiet: bool,
    quiet_noted: bool,
    /// From here on it drains even without an order.
    pub drain_from: Option<Boottime>,
    /// Absent until the deadline is known on the host's clock.
    pub table: Option<Timetable>,
    planned_for: Option<PlannedFor>,
    /// The notice moved its deadline away after traffic had gone off.
    put_off: bool,
    checkpoint_wanted: bool,
    checkpoint_begun: bool,
    drain_hook_begun: bool,
}

/// What a timetable was made from: it is made anew only when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlannedFor {
    deadline: Boottime,
    was_ready: bool,
    checkpoint_over: bool,
}

impl Replica {
    /// Brings the plan up to what order and notice say now.
    pub(super) fn replan(&mut self, around: &Around<'_>, out: &mut Out) {
        let Some(wish) = Wish::of(around.standing, around.notice) else {
            if self.plan.take().is_some() && self.phase.has_guard() {
                self.note(out, "it need not leave any more");
            }
            return;
        };
        let plan = self.plan.get_or_insert(Plan {
            because: wish.because,
            ordered: false,
            quiet: false,
            quiet_noted: false,
            drain_from: None,
            table: None,
            planned_for: None,
            put_off: false,
            checkpoint_wanted: false,
            checkpoint_begun: false,
            drain_hook_begun: false,
        });
        plan.because = wish.because;
        plan.ordered = wish.ordered;
        plan.quiet = wish.quiet;
        plan.drain_from = wish.drain_from;
        plan.checkpoint_wanted |=
            wish.keeps_state && self.order.hooks.contains_key(&HookKind::Checkpoint);
        let Some(deadline) = wish.deadline else { return };
        self.make_timetable(deadline, around, out.now);
        self.begin_checkpoint(out);
    }

    fn make_timetable(&mut self, deadline: Boottime, around: &Around<'_>, now: Boottime) {
        let checkpoint_runs = self.hook_runs(HookKind::Checkpoint);
        let was_ready = self.was_ready;
        let estimate = |kind| around.estimates.hook(&self.order, kind, around.config);
        let (checkpoint, drain_hook) = (estimate(HookKind::Checkpoint), estimate(HookKind::Drain));
        let drains = matches!(self.phase, Phase::Draining | Phase::DrainHook);
        let Some(plan) = &mut self.plan else { return };
        let checkpoint_over =
            !plan.checkpoint_wanted || (plan.checkpoint_begun && !checkpoint_runs);
        let wanted = PlannedFor { deadline, was_ready, checkpoint_over };
        if plan.planned_for == Some(wanted) {
            return;
        }
        let later = plan.planned_for.is_some_and(|planned| planned.deadline < deadline);
        if later && drains && !plan.ordered {
            (plan.put_off, plan.drain_hook_begun) = (true, false);
        }
        plan.planned_for = Some(wanted);
        let budget = &around.config.budget;
        let mut steps =
            Steps { stop: budget.stop, margin: around.config.stop_margin, ..Steps::default() };
        // What never served has nothing in flight and no state worth a hook.
        if was_ready {
            steps.quiet = budget.quiet;
            steps.drain_hook = if plan.drain_hook_begun { Millis(0) } else { drain_hook };
            steps.checkpoint = if checkpoint_over { Millis(0) } else { checkpoint };
        }
        plan.table = Some(timetable(now, deadline, steps));
    }

    /// A checkpoint begins as soon as the replica must leave, beside its traffic.
    fn begin_checkpoint(&mut self, out: &mut Out) {
        let ready = self.was_ready && (self.phase.serves() || self.phase == Phase::Draining);
        let Some(plan) = &mut self.plan else { return };
        let Some(table) = plan.table else { return };
        if !ready || !plan.checkpoint_wanted || plan.checkpoint_begun {
            return;
        }
        plan.checkpoint_begun = true;
        let reason = plan.because.to_string();
        if self.hook_runs(HookKind::Checkpoint) {
            // One from before a withdrawal still runs: it serves this time too.
        } else if out.now < table.stop_at {
            self.run_hook(HookKind::Checkpoint, reason, table.stop_at, out);
        } else {
            self.skip_hook(HookKind::Checkpoint, out);
        }
    }

    /// Its traffic must go off, or it never had any.
    pub(super) fn begin_leaving(&mut self, around: &Around<'_>, out: &mut Out) {
        let because = self.plan.as_ref().map(|plan| plan.because.to_string()).unwrap_or_default();
        if self.was_ready {
            self.note(out, format!("traffic goes off: {because}"));
            self.enter(Phase::Draining, out);
            self.because = Some(because);
        } else {
            let planned = self.plan.as_ref().and_then(|plan| plan.table);
            let kill_at =
                planned.map_or(out.now + around.config.budget.stop, |table| table.kill_at);
            self.terminate(kill_at, out);
        }
    }

    /// Traffic is off: wait until it is quiet or the last moment, then go on.
    pub(super) fn draining(&mut self, out: &mut Out) -> Turn {
        let now = out.now;
        let checkpoint_runs = self.hook_runs(HookKind::Checkpoint);
        if self.need_not_drain(now) {
            return self.resume(out);
        }
        let Some(plan) = &mut self.plan else { return Turn::Same };
        if plan.quiet && !plan.quiet_noted {
            plan.quiet_noted = true;
            out.useful();
            out.note(
                Some(self.order.replica),
                "quiet: no gateway sends to it, nothing is in flight",
            );
        }
        // The deadline is not known on this clock yet: the next answer tells.
        let Some(table) = plan.table else { return Turn::Same };
        let out_of_time = now >= table.stop_at;
        let traffic_over = plan.quiet || now >= table.drain_hook_at;
        if !out_of_time && (!traffic_over || checkpoint_runs) {
            return Turn::Same;
        }
        if !plan.quiet {
            out.useful();
        }
        let has_hook = self.order.hooks.contains_key(&HookKind::Drain) && !plan.drain_hook_begun;
        plan.drain_hook_begun = true;
        let reason = plan.because.to_string();
        if !has_hook {
            self.terminate(table.kill_at, out);
        } else if out_of_time {
            self.skip_hook(HookKind::Drain, out);
            self.terminate(table.kill_at, out);
        } else {
            self.run_hook(HookKind::Drain, reason, table.stop_at, out);
            self.enter(Phase::DrainHook, out);
        }
        Turn::Changed
    }

    /// The drain hook runs, or has run.
    pub(super) fn drain_hook(&mut self, out: &mut Out) -> Turn {
        let runs = self.hook_runs(HookKind::Drain);
        let table = self.plan.as_ref().and_then(|plan| plan.table);
        if self.need_not_drain(out.now) {
            return if runs { Turn::Same } else { self.resume(out) };
        }
        match table {
            Some(table) if !runs || out.now >= table.stop_at => {
                self.terminate(table.kill_at, out);
                Turn::Changed
            }
            Some(_) | None => Turn::Same,
        }
    }

    /// Nothing makes it leave any more, or not yet again.
    fn need_not_drain(&self, now: Boottime) -> bool {
        self.plan
            .as_ref()
            .is_none_or(|plan| plan.put_off && !plan.ordered && !plan.is_time_to_drain(now))
    }

    /// The notice was withdrawn or put off, or the order taken back, before anything was ended.
    fn resume(&mut self, out: &mut Out) -> Turn {
        if let Some(plan) = &mut self.plan {
            plan.put_off = false;
        }
        self.note(out, "traffic resumes");
        self.enter(Phase::Ready { probe: Asking::from(out.now), failures: 0 }, out);
        Turn::Changed
    }

    /// SIGTERM; hooks that still run are cut off, since what they look at ends now.
    pub(super) fn terminate(&mut self, kill_at: Boottime, out: &mut Out) {
        self.cut_hook(HookKind::Checkpoint, out);
        self.cut_hook(HookKind::Drain, out);
        self.note(out, "SIGTERM");
        out.push(Effect::Terminate { replica: self.order.replica });
        self.enter(Phase::Terminating { kill_at }, out);
    }

    /// SIGKILL for its whole process group.
    pub(super) fn kill(&mut self, out: &mut Out) {
        if !matches!(self.phase, Phase::Killing { .. }) {
            self.note(out, "SIGKILL");
        }
        out.push(Effect::Kill { replica: self.order.replica });
        self.enter(Phase::Killing { again_at: out.now + KILL_AGAIN }, out);
    }

    /// SIGTERM or SIGKILL was asked for: escalate when that is due.
    pub(super) fn ending(&mut self, out: &mut Out) -> Turn {
        let now = out.now;
        let planned = self.plan.as_ref().and_then(|plan| plan.table).map(|table| table.kill_at);
        let due = match &self.phase {
            // An earlier deadline that came after SIGTERM counts too.
            Phase::Terminating { kill_at } => {
                now >= planned.map_or(*kill_at, |at| at.min(*kill_at))
            }
            Phase::Killing { again_at } => now >= *again_at,
            Phase::Waiting
            | Phase::Fetching { .. }
            | Phase::Restoring
            | Phase::Starting
            | Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => false,
        };
        if !due {
            return Turn::Same;
        }
        if matches!(self.phase, Phase::Killing { .. }) {
            self.because = Some("its processes do not end after SIGKILL".to_owned());
        }
        self.kill(out);
        Turn::Changed
    }

    /// Every instant at which something of it may be due.
    pub fn wakes(&self, unanswered: Millis) -> impl Iterator<Item = Boottime> {
        let table = self.plan.as_ref().and_then(|plan| plan.table);
        let steps = table.map(|t| [t.drain_at, t.drain_hook_at, t.stop_at, t.kill_at, t.gone_at]);
        let own = match &self.phase {
            Phase::Loading { probe, .. }
            | Phase::Warming { probe }
            | Phase::Ready { probe, .. }
            | Phase::Degraded { probe } => Some(probe.wake(unanswered)),
            Phase::Terminating { kill_at } => Some(*kill_at),
            Phase::Killing { again_at } => Some(*again_at),
            Phase::Releasing { proof, .. } | Phase::Quarantined { proof, .. } => {
                Some(proof.look.wake(unanswered))
            }
            Phase::Waiting
            | Phase::Fetching { .. }
            | Phase::Restoring
            | Phase::Starting
            | Phase::Draining
            | Phase::DrainHook => None,
        };
        let drain_from = self.plan.as_ref().and_then(|plan| plan.drain_from);
        steps.into_iter().flatten().chain(own).chain(self.start_wakes()).chain(drain_from)
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
