//! What an answer of the scheduler may change: epoch, leases, clock, segments, desired state.
//!
//! Guards S9: an older term, epoch or (term, generation) changes nothing.

use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::time::Boottime;

use super::Agent;
use crate::effect::Effect;
use crate::out::Out;

impl Agent {
    pub(super) fn hear_answer(
        &mut self,
        sent_at: Boottime,
        answer: HeartbeatAnswer,
        out: &mut Out,
    ) {
        let sent_at = sent_at.min(self.now);
        // Words of a leader that was replaced.
        if answer.term < self.term {
            return;
        }
        match self.epoch {
            None => {
                self.epoch = Some(answer.epoch);
                self.epoch_at = self.now;
                out.note(None, format!("the scheduler named this start epoch {}", answer.epoch.0));
                out.report_now();
            }
            Some(own) if own < answer.epoch => {
                self.abdicated = true;
                out.note(None, "a newer start of this node exists: this one ends");
                out.push(Effect::Abdicate);
                return;
            }
            // An answer to an earlier start of this node.
            Some(own) if own > answer.epoch => return,
            // One without the epoch was not looked at, so it renews nothing.
            Some(_) if sent_at >= self.epoch_at => {
                self.leases.renew(sent_at, answer.lease);
                self.lease_end_noted = false;
            }
            Some(_) => {}
        }
        self.term = answer.term;
        // A hold that is longer than the whole exchange is told by a clock that runs too fast.
        let left_at = (sent_at + answer.held).min(self.now);
        self.clock.hear(left_at, self.now, answer.now);
        if let Some(acknowledged) = &answer.segments {
            self.meter.acknowledged(acknowledged);
        }
        if let Some(desired) = answer.desired
            && desired.version > self.desired.version
        {
            out.push(Effect::Persist(Box::new(desired.clone())));
            out.note(None, format!("desired state {} is carried out", desired.version));
            self.desired = desired;
            out.report_now();
        }
    }
}
