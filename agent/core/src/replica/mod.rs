//! One replica on this host, from its order to the proof that it is gone.
//!
//! Guards S8 (nothing is stopped before its grace or deadline says so) and the rule that a replica
//! id is used for one placement only: what has ended is never begun again.

mod leave;
mod phase;
mod planned;
mod release;
mod rise;

use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::order::{RunOrder, StopCause};
use wharfage_shared::replica::{Gone, HookKind, HookOutcome, HookReport, ReplicaReport};
use wharfage_shared::time::{Boottime, Millis};

use crate::asking::Asking;
use crate::config::Config;
use crate::effect::Effect;
use crate::estimates::Estimates;
use crate::evacuation::plan::Slot;
use crate::history::{Start, Took};
use crate::input::FoundReplica;
use crate::lease::NoStart;
use crate::notices::Binding;
use crate::out::Out;
use crate::status::ReplicaStatus;

pub(crate) use phase::{Phase, Proof};
pub(crate) use planned::{Fact, Plan};
pub(crate) use rise::{Learned, never_started};

/// The most hook runs that are remembered of one replica: a report stays small.
const MOST_HOOK_REPORTS: usize = 16;

/// One replica on this host.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub order: RunOrder,
    pub phase: Phase,
    /// Since when it is where it is, as reported.
    pub since: Boottime,
    /// The start deadline counts from here.
    begun_at: Boottime,
    /// When its engine was asked for.
    engine_at: Boottime,
    /// Whether its model lay on the host already, once its fetch has said so.
    cached: Option<bool>,
    /// How far its phase had come, in thousandths, when a report was last sent for that alone.
    told_permille: u16,
    /// Looks in a row at which its engine said that it will never serve.
    dead_looks: u32,
    /// It was ready in its own words before any generation answered.
    was_false: bool,
    /// Why its engine ended, by its exit and its last output.
    last_words: Option<String>,
    pub address: Option<String>,
    /// Its guard's start, as an earlier agent recorded it; metering may reach back to it.
    pub adopted_since: Option<Boottime>,
    /// Since when this agent looks at it, where an earlier one began it.
    looked_since: Option<Boottime>,
    /// What its guard was last told.
    pub serve_until: Option<Boottime>,
    was_ready: bool,
    /// Requests that its engine had at the last look.
    pub in_flight: Option<u32>,
    /// Something was in flight when its traffic went off.
    had_requests: bool,
    /// How long that took to come to its end; taken by whoever keeps such figures.
    pub quiet_took: Option<Millis>,
    /// Why it could not start in time, once that is decided.
    failed_start: Option<String>,
    hooks: Vec<HookReport>,
    /// What its last checkpoint wrote.
    wrote: Option<u64>,
    plan: Option<Plan>,
    because: Option<String>,
}

/// What the rest of the node means for one replica.
pub(crate) struct Around<'a> {
    pub config: &'a Config,
    pub may_start: Result<(), NoStart>,
    pub standing: Standing,
    /// Another replica that may still stand on one of its GPUs.
    pub slot_held_by: Option<(GpuUuid, ReplicaId)>,
}

/// What the plan of one replica's way out follows from.
pub(crate) struct Leaving<'a> {
    pub config: &'a Config,
    pub estimates: &'a Estimates,
    /// Its GPUs, as figures of hooks are known by.
    pub hardware: &'a str,
    /// What its engine needs from SIGTERM on.
    pub stop: Millis,
    /// How long before a deadline it is killed.
    pub margin: Millis,
    pub standing: Standing,
    pub notice: Option<&'a Binding>,
}

/// What the newest desired state says of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Run,
    /// `deadline` is absent until the scheduler's clock is known here.
    Stop {
        because: StopCause,
        deadline: Option<Boottime>,
        quiet: bool,
    },
    /// It is not named: it is kept as it is (S12).
    Unordered,
}

/// What one turn of a replica came to.
#[derive(Debug)]
pub(crate) enum Turn {
    Same,
    Changed,
    Gone(Gone),
}

impl Replica {
    /// An order that nothing was done for yet.
    pub fn ordered(order: RunOrder, now: Boottime) -> Self {
        Self {
            order,
            phase: Phase::Waiting,
            since: now,
            begun_at: now,
            engine_at: now,
            cached: None,
            told_permille: 0,
            dead_looks: 0,
            was_false: false,
            last_words: None,
            address: None,
            adopted_since: None,
            looked_since: None,
            serve_until: None,
            was_ready: false,
            in_flight: None,
            had_requests: false,
            quiet_took: None,
            failed_start: None,
            hooks: Vec::new(),
            wrote: None,
            plan: None,
            because: None,
        }
    }

    /// What an earlier agent left. It was ready: then it is, until a proof fails; the routes of an
    /// undisturbed replica must not change because an agent was started again.
    pub fn adopted(found: FoundReplica) -> Self {
        let at = found.started_at;
        let probe = Asking::from(at);
        let (alive, phase) = match found.ended {
            Some(ended) => (false, Phase::Releasing { ended, proof: Proof::from(at) }),
            None if found.was_ready => (true, Phase::Ready { probe, failures: 0 }),
            None => (true, Phase::Loading { done: 0, total: 0, said: false, probe }),
        };
        Self {
            phase,
            address: found.address,
            adopted_since: alive.then_some(at),
            was_ready: found.was_ready,
            engine_at: at,
            ..Self::ordered(found.order, at)
        }
    }

    /// The scheduler's newest words on it: what may change while it stands.
    pub fn reordered(&mut self, order: &RunOrder) {
        if self.phase == Phase::Waiting {
            self.order = order.clone();
            return;
        }
        self.order.hooks.clone_from(&order.hooks);
        self.order.grace = order.grace;
        self.order.start_deadline = order.start_deadline;
        self.order.single_copy = order.single_copy;
    }

    /// Carries it on until nothing more is to be decided now.
    pub fn advance(&mut self, around: &Around<'_>, out: &mut Out) -> Turn {
        if self.adopted_since.is_some() {
            self.looked_since.get_or_insert(out.now);
        }
        let mut turn = Turn::Same;
        loop {
            match self.turn(around, out) {
                Turn::Same => return turn,
                Turn::Changed => turn = Turn::Changed,
                Turn::Gone(gone) => return Turn::Gone(gone),
            }
        }
    }

    fn turn(&mut self, around: &Around<'_>, out: &mut Out) -> Turn {
        match &self.phase {
            Phase::Waiting | Phase::Fetching { .. } | Phase::Restoring => {
                self.before_start(around, out)
            }
            Phase::Starting => self.starting(out),
            Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. } => self.up(around, out),
            Phase::Draining => self.draining(out),
            Phase::DrainHook => self.drain_hook(out),
            Phase::Terminating { .. } | Phase::Killing { .. } => self.ending(out),
            Phase::Releasing { .. } | Phase::Quarantined { .. } => self.releasing(around, out),
        }
    }

    /// Moves on; `since` and an early report follow what others see of it.
    fn enter(&mut self, phase: Phase, out: &mut Out) {
        if phase.reported() != self.phase.reported() {
            self.since = out.now;
            self.because = None;
            self.told_permille = 0;
            out.report_now();
        }
        self.phase = phase;
    }

    fn note(&self, out: &mut Out, text: impl Into<String>) {
        out.note(Some(self.order.replica), text);
    }

    fn run_hook(&mut self, kind: HookKind, reason: String, deadline: Boottime, out: &mut Out) {
        let Some(hook) = self.order.hooks.get(&kind).cloned() else { return };
        self.note(out, format!("{kind} hook `{hook}` started"));
        self.remember_hook(kind, HookOutcome::Running, out.now);
        out.push(Effect::RunHook { replica: self.order.replica, kind, hook, reason, deadline });
    }

    /// There was no time for a hook that the order names.
    fn skip_hook(&mut self, kind: HookKind, out: &mut Out) {
        if let Some(hook) = self.order.hooks.get(&kind) {
            self.note(out, format!("{kind} hook `{hook}` skipped: no time for it"));
            self.remember_hook(kind, HookOutcome::Skipped, out.now);
        }
    }

    fn remember_hook(&mut self, kind: HookKind, outcome: HookOutcome, now: Boottime) {
        let Some(hook) = self.order.hooks.get(&kind).cloned() else { return };
        if self.hooks.len() >= MOST_HOOK_REPORTS {
            self.hooks.remove(0);
        }
        let ended_at = (outcome != HookOutcome::Running).then_some(now);
        self.hooks.push(HookReport {
            hook,
            kind,
            outcome,
            started_at: now,
            ended_at,
            detail: None,
        });
    }

    fn cut_hook(&self, kind: HookKind, out: &mut Out) {
        if self.hook_runs(kind) {
            self.note(out, format!("{kind} hook cut off"));
            out.push(Effect::CutHook { replica: self.order.replica, kind });
        }
    }

    pub fn hook_runs(&self, kind: HookKind) -> bool {
        self.hook_since(kind).is_some()
    }

    /// Since when a hook runs, if it does.
    fn hook_since(&self, kind: HookKind) -> Option<Boottime> {
        let mut runs = self.hooks.iter().filter(|run| run.outcome == HookOutcome::Running);
        runs.find(|run| run.kind == kind).map(|run| run.started_at)
    }

    fn running_hook(&mut self, kind: HookKind) -> Option<&mut HookReport> {
        self.hooks.iter_mut().find(|run| run.kind == kind && run.outcome == HookOutcome::Running)
    }

    /// What its hooks did last.
    pub fn hooks(&self) -> &[HookReport] {
        &self.hooks
    }

    /// A hook says how far it is.
    pub fn hook_progress(&mut self, kind: HookKind, permille: u16, now: Boottime) {
        if let Some(run) = self.running_hook(kind) {
            run.detail = Some(format!("{}.{} %", permille / 10, permille % 10));
        }
        if kind == HookKind::Checkpoint {
            self.expect_by_progress(permille, now);
        }
    }

    /// A hook wrote so much that is complete.
    pub fn hook_wrote(&mut self, kind: HookKind, bytes: u64) {
        if self.hook_runs(kind) {
            self.wrote = Some(bytes);
        }
    }

    /// A hook ended; what it took, when it was done.
    pub fn hook_ended(
        &mut self,
        kind: HookKind,
        outcome: HookOutcome,
        detail: Option<String>,
        out: &mut Out,
    ) -> Option<(Millis, Option<u64>)> {
        let bytes = self.wrote.take();
        let run = self.running_hook(kind)?;
        // `Running` is no end; whoever says so has lost sight of it.
        run.outcome = if outcome == HookOutcome::Running { HookOutcome::Failed } else { outcome };
        run.ended_at = Some(out.now);
        run.detail.clone_from(&detail);
        let (hook, took, outcome) = (run.hook.clone(), out.now.since(run.started_at), run.outcome);
        let said = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        let word = outcome_word(outcome);
        self.note(out, format!("{kind} hook `{hook}` {word} after {took}{said}"));
        out.report_now();
        if outcome != HookOutcome::Done {
            return None;
        }
        if matches!(kind, HookKind::Checkpoint | HookKind::Drain) {
            out.useful();
        }
        Some((took, bytes))
    }

    /// What its start is known by, on these GPUs.
    pub fn start_on(&self, hardware: String) -> Start {
        Start {
            engine: self.order.engine.clone(),
            bucket: self.order.model_bucket.clone(),
            path: self.order.model_path.clone(),
            hardware,
            cached: self.cached.unwrap_or(false),
        }
    }

    /// What a heartbeat says of it.
    pub fn report(&self, now: Boottime, takes: Option<Took>) -> ReplicaReport {
        ReplicaReport {
            replica: self.order.replica,
            phase: self.phase.reported(),
            since: self.since,
            progress_permille: self.progress(),
            expected_ready_in: self.expected_ready_in(now, takes),
            address: self.address.clone(),
            gpus: self.order.gpus.clone(),
            because: self.because(),
            hooks: self.hooks.clone(),
            load: None,
        }
    }

    /// What the status page says of it.
    pub fn status(&self, standing: Standing) -> ReplicaStatus {
        ReplicaStatus {
            replica: self.order.replica,
            deployment: self.order.deployment_name.clone(),
            phase: self.phase.reported(),
            since: self.since,
            ordered: standing != Standing::Unordered,
            address: self.address.clone(),
            serve_until: self.serve_until,
            timetable: self.plan.as_ref().and_then(|plan| plan.table),
            checkpoint: self.plan.as_ref().map(|plan| plan.slot).filter(|slot| *slot != Slot::None),
            does_not_fit: self.plan.as_ref().map(|plan| plan.misses.clone()).unwrap_or_default(),
            because: self.because(),
            hooks: self.hooks.clone(),
        }
    }

    /// Why it is where it is.
    fn because(&self) -> Option<String> {
        match &self.phase {
            Phase::Quarantined { because, .. } => Some(because.clone()),
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
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. } => self.because.clone(),
        }
    }

    /// Whether it should have been gone by now.
    pub fn is_overdue(&self, now: Boottime) -> bool {
        let deadline = self.plan.as_ref().and_then(|plan| plan.table).map(|table| table.gone_at);
        self.phase.is_leaving() && deadline.is_some_and(|deadline| now >= deadline)
    }
}

fn outcome_word(outcome: HookOutcome) -> &'static str {
    match outcome {
        HookOutcome::Running => "runs",
        HookOutcome::Done => "done",
        HookOutcome::Failed => "failed",
        HookOutcome::CutOff => "was cut off",
        HookOutcome::Skipped => "had nothing to do",
    }
}
