//! From the order to a proven replica: fetch, restore, start, load, warm, ready.

use wharfage_shared::order::Gang;
use wharfage_shared::replica::{Ended, Gone, HookKind};
use wharfage_shared::time::{Boottime, Millis};

use super::{Around, Phase, Plan, Replica, Standing, Turn};
use crate::asking::Asking;
use crate::config::Config;
use crate::effect::Effect;
use crate::history::Took;
use crate::input::Probe;
use crate::lease::NoStart;
use crate::out::Out;

/// An engine that was never ready and says so often in a row that it never will be has failed to
/// start: one answer may be a moment's.
const DEAD_LOOKS: u32 = 3;

/// So long an agent asks a replica that another one began before it judges the start.
const ADOPTED_IS_ASKED: Millis = Millis::from_seconds(60);

/// A start that has come a tenth further is told at once.
const PROGRESS_STEP: u16 = 100;

/// What a probe taught about the engine, for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It was proven for the first time; how long its start took, unless an earlier agent began it.
    Ready(Option<Took>),
    /// Its health was good and its generation failed.
    WasNotReady,
}

impl Replica {
    /// Nothing of it stands on the host yet: begin it, start it, or give it up.
    pub(super) fn before_start(&mut self, around: &Around<'_>, out: &mut Out) -> Turn {
        if let Some(why) = self.never_starts(out.now) {
            return self.give_up(why, out);
        }
        let fetched = match &self.phase {
            Phase::Waiting => false,
            Phase::Fetching { fetched: true, .. } => true,
            Phase::Restoring if !self.hook_runs(HookKind::Restore) => true,
            // The hands are at it.
            Phase::Fetching { fetched: false, .. } | Phase::Restoring => return Turn::Same,
            Phase::Starting
            | Phase::Loading { .. }
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => return Turn::Same,
        };
        if let Err(why) = self.may_start(around) {
            self.because = Some(why);
            return Turn::Same;
        }
        self.because = None;
        if !fetched {
            self.begun_at = out.now;
            self.note(out, "the fetch of its model begins");
            out.push(Effect::Fetch(Box::new(self.order.clone())));
            self.enter(Phase::Fetching { done: 0, total: 0, fetched: false }, out);
            return Turn::Changed;
        }
        if self.phase != Phase::Restoring && self.order.hooks.contains_key(&HookKind::Restore) {
            let limit = self.begun_at + self.order.start_deadline;
            self.run_hook(HookKind::Restore, "the replica starts".to_owned(), limit, out);
            self.enter(Phase::Restoring, out);
            return Turn::Changed;
        }
        if let Some((gpu, holder)) = &around.slot_held_by {
            self.because =
                Some(format!("waits: {gpu} is held by {holder} until its release is proven"));
            return Turn::Same;
        }
        self.engine_at = out.now;
        self.note(out, "guard and engine are asked for");
        out.push(Effect::Start(Box::new(self.order.clone())));
        self.enter(Phase::Starting, out);
        Turn::Changed
    }

    fn may_start(&self, around: &Around<'_>) -> Result<(), String> {
        around.may_start.map_err(|why| why.to_string())?;
        match around.standing {
            Standing::Run => Ok(()),
            Standing::Stop { .. } | Standing::Unordered => Err(NoStart::NotOrdered.to_string()),
        }
    }

    /// Why it will not start any more.
    fn never_starts(&self, now: Boottime) -> Option<String> {
        if let Some(plan) = &self.plan
            && (plan.ordered || plan.is_time_to_drain(now))
        {
            return Some(format!("stopped before it started: {}", plan.because));
        }
        let begun = self.phase != Phase::Waiting;
        (begun && self.start_is_overdue(now)).then(|| self.overdue_sentence())
    }

    fn start_is_overdue(&self, now: Boottime) -> bool {
        !self.was_ready && now >= self.start_due()
    }

    /// When it must have been proven. One that an earlier agent began may serve for long, and its mark
    /// is lost: it is asked before it is judged.
    fn start_due(&self) -> Boottime {
        let due = self.begun_at + self.order.start_deadline;
        self.looked_since.map_or(due, |since| due.max(since + ADOPTED_IS_ASKED))
    }

    fn overdue_sentence(&self) -> String {
        let at = match &self.phase {
            Phase::Fetching { .. } => "its model was still being fetched",
            Phase::Restoring => "its restore hook still ran",
            Phase::Loading { .. } => &match self.progress() {
                Some(far) => {
                    format!("its engine was still loading, at {}.{} %", far / 10, far % 10)
                }
                None => "its engine was still loading".to_owned(),
            },
            Phase::Warming { .. } => "its engine answered, but no generation was proven",
            Phase::Waiting
            | Phase::Starting
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => "its engine was not up",
        };
        let last = self.because.as_ref().map(|last| format!(" ({last})")).unwrap_or_default();
        format!("not ready within {}: {at}{last}", self.order.start_deadline)
    }

    fn give_up(&mut self, because: String, out: &mut Out) -> Turn {
        self.cut_hook(HookKind::Restore, out);
        self.note(out, because.clone());
        Turn::Gone(never_started(self.order.replica, because, out.now))
    }

    /// The guard was asked for and has not answered.
    pub(super) fn starting(&mut self, out: &mut Out) -> Turn {
        let now = out.now;
        if self.start_is_overdue(now) {
            self.failed_start = Some(self.overdue_sentence());
        }
        let overdue =
            self.plan.as_ref().and_then(|plan| plan.table).is_some_and(|t| now >= t.kill_at);
        if overdue || self.failed_start.is_some() {
            self.kill(out);
            return Turn::Changed;
        }
        Turn::Same
    }

    /// The engine is up: leave when that is due, else look at it.
    pub(super) fn up(&mut self, around: &Around<'_>, out: &mut Out) -> Turn {
        let now = out.now;
        if self.plan.as_ref().is_some_and(|plan| plan.ordered || plan.is_time_to_drain(now)) {
            self.begin_leaving(around, out);
            return Turn::Changed;
        }
        if self.start_is_overdue(now) {
            let why = self.overdue_sentence();
            self.note(out, why.clone());
            self.failed_start = Some(why);
            self.terminate(now + around.config.budget.stop, out);
            return Turn::Changed;
        }
        let replica = self.order.replica;
        let unanswered = around.config.unanswered_after;
        let (probe, prove) = match &mut self.phase {
            Phase::Loading { probe, .. } => (probe, false),
            Phase::Warming { probe } | Phase::Ready { probe, .. } | Phase::Degraded { probe } => {
                (probe, true)
            }
            Phase::Waiting
            | Phase::Fetching { .. }
            | Phase::Restoring
            | Phase::Starting
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => return Turn::Same,
        };
        if probe.ask(now, unanswered) {
            out.push(Effect::Probe { replica, prove });
        }
        Turn::Same
    }

    /// The fetch has come this far.
    pub fn fetch_progress(&mut self, seen_done: u64, seen_total: u64, out: &mut Out) {
        if let Phase::Fetching { done, total, .. } = &mut self.phase {
            (*done, *total) = (seen_done, seen_total);
            if seen_done < seen_total {
                self.cached = Some(false);
            }
        }
        self.tell_progress(out);
    }

    /// Whoever watches a start sees it move before the next interval: a start sends so few reports
    /// for that alone that a fleet of them does not weigh.
    fn tell_progress(&mut self, out: &mut Out) {
        if let Some(far) = self.progress()
            && far >= self.told_permille.saturating_add(PROGRESS_STEP)
        {
            self.told_permille = far;
            out.report_now();
        }
    }

    /// The model is on the host.
    pub fn model_fetched(&mut self) {
        if let Phase::Fetching { done, total, fetched } = &mut self.phase {
            (*done, *fetched) = (*total, true);
            self.cached.get_or_insert(true);
        }
    }

    /// The fetch failed for good.
    pub fn fetch_failed(&mut self, because: String, out: &mut Out) -> Option<Gone> {
        if !matches!(self.phase, Phase::Fetching { .. }) {
            return None;
        }
        self.note(out, format!("the fetch of its model failed: {because}"));
        Some(never_started(self.order.replica, because, out.now))
    }

    /// The guard is up, or cannot be.
    pub fn started(&mut self, outcome: Result<String, String>, out: &mut Out) {
        match (&self.phase, outcome) {
            (Phase::Starting, Ok(address)) => {
                self.address = Some(address);
                self.note(out, "its guard is up, its engine loads");
                let probe = Asking::from(out.now);
                self.enter(Phase::Loading { done: 0, total: 0, said: false, probe }, out);
                out.report_now();
            }
            // It came up while it was being killed.
            (Phase::Killing { .. }, Ok(address)) => self.address = Some(address),
            (Phase::Starting | Phase::Killing { .. }, Err(because)) => {
                self.ended(Ended::NeverStarted { because }, out);
            }
            // Old news.
            (_, Ok(_) | Err(_)) => {}
        }
    }

    /// The engine says that it has read this much of its weights.
    pub fn load_progress(&mut self, seen_done: u64, seen_total: u64, out: &mut Out) {
        if let Phase::Loading { done, total, said, .. } = &mut self.phase {
            (*done, *total, *said) = (seen_done, seen_total, true);
        }
        self.tell_progress(out);
    }

    /// The host shows that it has come this far; the engine's own word is better.
    pub fn load_measured(&mut self, seen_done: u64, seen_total: u64, out: &mut Out) {
        if let Phase::Loading { done, total, said: false, .. } = &mut self.phase {
            // It may read more than its weights and still not be there.
            let nearly = seen_total - seen_total.div_ceil(100);
            (*done, *total) = ((*done).max(seen_done).min(nearly), seen_total);
        }
        self.tell_progress(out);
    }

    /// Why its engine ended.
    pub fn last_words(&mut self, because: String) {
        self.last_words = Some(because);
    }

    /// A probe came back; what it taught.
    pub fn probed(&mut self, saw: Probe, config: &Config, out: &mut Out) -> Option<Learned> {
        let now = out.now;
        let is_dead = matches!(saw, Probe::Dead(_));
        self.dead_looks = if is_dead { self.dead_looks + 1 } else { 0 };
        let soon = Asking::from(now + config.probe_until_ready);
        let later = Asking::from(now + config.probe_when_ready);
        match (&mut self.phase, saw) {
            (Phase::Loading { probe, .. }, Probe::Loading) => {
                probe.answered(now, config.probe_until_ready);
                self.because = None;
            }
            (Phase::Loading { .. }, Probe::Healthy) => {
                self.note(out, "its engine answers; the one-token proof is under way");
                self.enter(Phase::Warming { probe: Asking::from(now) }, out);
            }
            (Phase::Loading { .. } | Phase::Warming { .. }, Probe::Dead(why))
                if !self.was_ready && self.dead_looks >= DEAD_LOOKS =>
            {
                self.note(out, why.clone());
                self.failed_start = Some(why);
                self.terminate(now + config.budget.stop, out);
            }
            (Phase::Loading { probe, .. }, Probe::Failed(why) | Probe::Dead(why))
            | (Phase::Warming { probe }, Probe::Dead(why)) => {
                probe.answered(now, config.probe_until_ready);
                self.because = Some(why);
            }
            (Phase::Warming { probe }, Probe::Failed(why)) => {
                probe.answered(now, config.probe_until_ready);
                self.because = Some(why);
                let first = !self.was_ready && !std::mem::replace(&mut self.was_false, true);
                return first.then_some(Learned::WasNotReady);
            }
            (Phase::Loading { .. }, Probe::Busy)
            | (Phase::Warming { .. }, Probe::Loading | Probe::Healthy | Probe::Busy) => {
                self.enter(Phase::Warming { probe: soon }, out);
            }
            (Phase::Loading { .. } | Phase::Warming { .. }, Probe::Proven) => {
                let leads = self.order.gang.as_ref().is_none_or(Gang::leads);
                let said = if leads {
                    "ready: a one-token generation answered"
                } else {
                    "its engine runs beside its leader's, whose generation is the proof"
                };
                self.note(out, said);
                self.enter(Phase::Ready { probe: later, failures: 0 }, out);
                let first = !std::mem::replace(&mut self.was_ready, true);
                return first.then(|| Learned::Ready(self.start_took(now)));
            }
            // Its own clients fill it: that is no fault, and no proof for one that was degraded.
            (Phase::Ready { probe, .. } | Phase::Degraded { probe }, Probe::Busy) => {
                probe.answered(now, config.probe_when_ready);
            }
            (Phase::Ready { .. }, Probe::Proven) => {
                self.because = None;
                self.enter(Phase::Ready { probe: later, failures: 0 }, out);
            }
            (Phase::Degraded { .. }, Probe::Proven) => {
                self.note(out, "ready again: a one-token generation answered");
                self.enter(Phase::Ready { probe: later, failures: 0 }, out);
            }
            (Phase::Ready { failures, .. }, saw) => {
                let failures = *failures + 1;
                let why = failure(saw);
                if failures < config.failures_to_degrade && !is_dead {
                    self.enter(Phase::Ready { probe: soon, failures }, out);
                } else {
                    self.note(out, format!("degraded: {why}"));
                    self.enter(Phase::Degraded { probe: soon }, out);
                }
                self.because = Some(why);
            }
            (Phase::Degraded { .. }, saw) => {
                self.enter(Phase::Degraded { probe: later }, out);
                self.because = Some(failure(saw));
            }
            // Old news: it was asked before it left.
            (
                Phase::Waiting
                | Phase::Fetching { .. }
                | Phase::Restoring
                | Phase::Starting
                | Phase::Draining
                | Phase::DrainHook
                | Phase::Terminating { .. }
                | Phase::Killing { .. }
                | Phase::Releasing { .. }
                | Phase::Quarantined { .. },
                _,
            ) => {}
        }
        None
    }

    /// How long its start took, when this agent saw all of it.
    fn start_took(&self, now: Boottime) -> Option<Took> {
        let fetch = self.engine_at.since(self.begun_at);
        let took = Took { fetch, load: now.since(self.engine_at) };
        let leads = self.order.gang.as_ref().is_none_or(Gang::leads);
        (leads && self.adopted_since.is_none() && self.cached.is_some()).then_some(took)
    }

    /// How far its phase has come, in thousandths.
    pub(super) fn progress(&self) -> Option<u16> {
        let (done, total) = match &self.phase {
            Phase::Fetching { done, total, .. } | Phase::Loading { done, total, .. } => {
                (*done, *total)
            }
            Phase::Waiting
            | Phase::Restoring
            | Phase::Starting
            | Phase::Warming { .. }
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => return None,
        };
        let permille = u128::from(done) * 1000 / u128::from(total).max(1);
        (total > 0).then(|| u16::try_from(permille.min(1000)).unwrap_or(1000))
    }

    /// When it is expected to be ready: from the last starts like it, else from how fast this one
    /// reads.
    pub(super) fn expected_ready_in(&self, now: Boottime, takes: Option<Took>) -> Option<Millis> {
        let so_far = now.since(self.engine_at);
        match &self.phase {
            Phase::Fetching { done, total, .. } => {
                let takes = takes?;
                let fetched_for = now.since(self.begun_at);
                // A fetch that was never seen whole tells by its own speed.
                let left = match takes.fetch {
                    Millis(0) => by_speed(fetched_for, *done, *total).unwrap_or_default(),
                    fetch => fetch - fetched_for,
                };
                Some(left + takes.load)
            }
            Phase::Restoring | Phase::Starting => takes.map(|takes| takes.load),
            Phase::Loading { done, total, .. } => {
                takes.map(|takes| takes.load - so_far).or_else(|| by_speed(so_far, *done, *total))
            }
            Phase::Warming { .. } => takes.map(|takes| takes.load - so_far),
            Phase::Waiting
            | Phase::Ready { .. }
            | Phase::Degraded { .. }
            | Phase::Draining
            | Phase::DrainHook
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Releasing { .. }
            | Phase::Quarantined { .. } => None,
        }
    }

    /// What its start still waits for, as instants.
    pub(super) fn start_wakes(&self) -> Option<Boottime> {
        let begun = self.phase != Phase::Waiting && !self.was_ready;
        begun.then(|| self.start_due())
    }
}

/// The proof of what never stood on the host: nothing was held, nothing is to be measured.
pub(crate) fn never_started(
    replica: wharfage_shared::ids::ReplicaId,
    because: String,
    now: Boottime,
) -> Gone {
    Gone {
        replica,
        ended: Ended::NeverStarted { because },
        processes_gone_at: now,
        memory_back_at: now,
        memory: Vec::new(),
    }
}

/// What is left at the speed so far.
fn by_speed(so_far: Millis, done: u64, total: u64) -> Option<Millis> {
    let left = u128::from(total.saturating_sub(done));
    let length = u128::from(so_far.0) * left / u128::from(done).max(1);
    // The first bytes tell of the start, not of the speed.
    let tells = done > 0 && done.saturating_mul(50) >= total;
    tells.then(|| Millis(u64::try_from(length).unwrap_or(u64::MAX)))
}

fn failure(saw: Probe) -> String {
    match saw {
        Probe::Loading => "its engine refuses or says that it loads".to_owned(),
        Probe::Busy => "it has no room for a proof".to_owned(),
        Probe::Healthy => "its health answers, but no generation does".to_owned(),
        Probe::Failed(why) | Probe::Dead(why) => why,
        Probe::Proven => "a generation answered".to_owned(),
    }
}

impl Plan {
    /// Whether traffic must go off now by the plan, order or not.
    pub(super) fn is_time_to_drain(&self, now: Boottime) -> bool {
        self.table.is_some_and(|table| now >= table.drain_at)
            || self.drain_from.is_some_and(|from| now >= from)
    }
}
