//! From the engine's end to the proof that its slots are free.
//!
//! Guards the rule that only a measured proof frees a slot; what is held is named.

use wharfage_shared::replica::{Ended, Gone, HookKind};
use wharfage_shared::time::{Boottime, Millis};

use super::{Around, Phase, Proof, Replica, Turn};
use crate::config::Config;
use crate::effect::Effect;
use crate::input::Release;
use crate::out::Out;

/// How long a post hook may run where no deadline binds: long enough for an upload, short enough
/// that a hook that hangs does not stay for ever.
const POST_HOOK_LIMIT: Millis = Millis::from_seconds(600);

/// Doublings of the pause between looks; beyond this the configured longest pause holds anyway.
const MOST_DOUBLINGS: u32 = 16;

impl Replica {
    /// Its engine ended, whoever ended it.
    pub fn ended(&mut self, ended: Ended, out: &mut Out) {
        let may_have_run = self.phase.holds_slots();
        let has_ended = matches!(self.phase, Phase::Releasing { .. } | Phase::Quarantined { .. });
        if !may_have_run || has_ended {
            return;
        }
        if self.phase.serves() {
            out.useful();
        }
        let asked_for = matches!(self.phase, Phase::Terminating { .. } | Phase::Killing { .. });
        let by_itself = if asked_for { "" } else { " by itself" };
        let said = self.last_words.as_ref().filter(|_| !asked_for);
        let said = said.map(|said| format!(", {said}")).unwrap_or_default();
        self.note(out, format!("its engine ended{by_itself}: {}{said}", how(&ended)));
        self.cut_hook(HookKind::Checkpoint, out);
        self.cut_hook(HookKind::Drain, out);
        let last_words = self.last_words.take();
        let ended = match (self.failed_start.take(), &last_words) {
            (Some(because), _) => Ended::NeverStarted { because },
            // It never served: why it could not is worth more than its exit alone.
            (None, Some(said)) if !self.was_ready && !asked_for => {
                Ended::NeverStarted { because: said.clone() }
            }
            (None, _) => ended,
        };
        self.enter(Phase::Releasing { ended, proof: Proof::from(out.now) }, out);
        self.because = last_words.filter(|_| !asked_for);
        out.report_now();
        self.begin_post_hook(out);
    }

    fn begin_post_hook(&mut self, out: &mut Out) {
        let plan = self.plan.as_ref();
        let reason = plan.map_or("its engine ended".to_owned(), |plan| plan.because.to_string());
        let end = plan.and_then(|plan| plan.table).map(|table| table.kill_at);
        let end = end.unwrap_or(out.now + POST_HOOK_LIMIT);
        if out.now < end {
            self.run_hook(HookKind::Post, reason, end, out);
        } else {
            self.skip_hook(HookKind::Post, out);
        }
    }

    /// Asks for the next look when it is due.
    pub(super) fn releasing(&mut self, around: &Around<'_>, out: &mut Out) -> Turn {
        let replica = self.order.replica;
        if let Phase::Releasing { proof, .. } | Phase::Quarantined { proof, .. } = &mut self.phase
            && proof.look.ask(out.now, around.config.unanswered_after)
        {
            out.push(Effect::CheckRelease { replica });
        }
        Turn::Same
    }

    /// What a look at its slots saw.
    pub fn looked(&mut self, saw: Release, config: &Config, out: &mut Out) -> Option<Gone> {
        let was_quarantined = matches!(self.phase, Phase::Quarantined { .. });
        let (Phase::Releasing { ended, proof } | Phase::Quarantined { ended, proof, .. }) =
            &self.phase
        else {
            return None;
        };
        let (replica, ended, mut proof) = (self.order.replica, ended.clone(), *proof);
        match saw {
            Release::Free { processes_gone_at, memory_back_at, memory } => {
                let measured = memory.len();
                self.note(
                    out,
                    format!("gone: no process is left, memory is back (GPUs measured: {measured})"),
                );
                out.report_now();
                Some(Gone { replica, ended, processes_gone_at, memory_back_at, memory })
            }
            Release::Held { processes_left, because } => {
                proof.answered(config, out.now);
                if processes_left {
                    // The engine is over; what it left behind has no work of its own.
                    out.push(Effect::Kill { replica });
                    self.enter(Phase::Releasing { ended, proof }, out);
                    self.because = Some(because);
                } else {
                    if !was_quarantined {
                        self.note(
                            out,
                            format!("its processes are gone, its slots are held: {because}"),
                        );
                    }
                    self.enter(Phase::Quarantined { ended, proof, because }, out);
                }
                None
            }
        }
    }
}

impl Proof {
    /// A look found the slots held: the next one comes later than this one did.
    fn answered(&mut self, config: &Config, now: Boottime) {
        let doubled = config.release_first.0.saturating_mul(1 << self.looks.min(MOST_DOUBLINGS));
        self.look.answered(now, Millis(doubled).min(config.release_longest));
        self.looks = self.looks.saturating_add(1);
    }
}

/// How an engine ended, for people.
fn how(ended: &Ended) -> String {
    match ended {
        Ended::Exited { code } => format!("exit {code}"),
        Ended::Signaled { signal } => format!("signal {signal}"),
        Ended::NeverStarted { because } => because.clone(),
        Ended::Unknown => "nobody saw how".to_owned(),
    }
}
