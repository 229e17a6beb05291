//! The way out: checkpoint beside traffic, traffic off, drain hook, SIGTERM, SIGKILL.
//!
//! Guards S8: without an order that says `quiet`, nothing that was ready is stopped before the last
//! moment from which the rest still fits; and the other side of it, that nothing runs at the
//! deadline.

use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Boottime, Millis};

use super::{Around, Phase, Replica, Turn};
use crate::asking::Asking;
use crate::effect::Effect;
use crate::out::Out;

/// SIGKILL is asked for again after this long: it cannot fail, but the guard that carries it out
/// may have been lost.
const KILL_AGAIN: Millis = Millis::from_seconds(1);

impl Replica {
    /// Its traffic must go off, or it never had any.
    pub(super) fn begin_leaving(&mut self, around: &Around<'_>, out: &mut Out) {
        let because = self.plan.as_ref().map(|plan| plan.because.to_string()).unwrap_or_default();
        if self.was_ready {
            self.note(out, format!("traffic goes off: {because}"));
            self.had_requests = self.in_flight != Some(0);
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
        let checkpoint_runs =
            self.hook_runs(HookKind::Checkpoint) || self.checkpoint_begins().is_some();
        if self.need_not_drain(now) {
            return self.resume(out);
        }
        let Some(plan) = &mut self.plan else { return Turn::Same };
        if plan.quiet && !plan.quiet_noted {
            plan.quiet_noted = true;
            self.quiet_took = Some(now.since(self.since)).filter(|_| self.had_requests);
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
            // What had its time and was not enough is more than was believed.
            let had = now.since(self.since);
            let had_its_time = had >= table.drain_hook_at.since(table.drain_at);
            self.quiet_took = Some(had).filter(|_| self.had_requests && had_its_time);
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
            if runs {
                return Turn::Same;
            }
            out.push(Effect::Wake { replica: self.order.replica });
            return self.resume(out);
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
        self.give_up_checkpoint(out);
        self.cut_hook(HookKind::Checkpoint, out);
        self.cut_hook(HookKind::Drain, out);
        self.note(out, "SIGTERM");
        out.push(Effect::Terminate { replica: self.order.replica });
        self.enter(Phase::Terminating { since: out.now, kill_at }, out);
    }

    /// SIGKILL for its whole process group.
    pub(super) fn kill(&mut self, out: &mut Out) {
        let since = if let Phase::Killing { since, .. } = self.phase {
            since
        } else {
            self.note(out, "SIGKILL");
            out.now
        };
        out.push(Effect::Kill { replica: self.order.replica });
        self.enter(Phase::Killing { since, again_at: out.now + KILL_AGAIN }, out);
    }

    /// SIGTERM or SIGKILL was asked for: escalate when that is due.
    pub(super) fn ending(&mut self, out: &mut Out) -> Turn {
        let now = out.now;
        let planned = self.plan.as_ref().and_then(|plan| plan.table).map(|table| table.kill_at);
        let due = match &self.phase {
            // An earlier deadline that came after SIGTERM counts too.
            Phase::Terminating { kill_at, .. } => {
                now >= planned.map_or(*kill_at, |at| at.min(*kill_at))
            }
            Phase::Killing { again_at, .. } => now >= *again_at,
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
            Phase::Terminating { kill_at, .. } => Some(*kill_at),
            Phase::Killing { again_at, .. } => Some(*again_at),
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
        let planned = drain_from.into_iter().chain(self.checkpoint_begins());
        steps.into_iter().flatten().chain(own).chain(self.start_wakes()).chain(planned)
    }
}
