//! One question at a time to the hands: when it is due, and when an answer has stayed away so long
//! that it is asked again.

use wharfage_shared::time::{Boottime, Millis};

/// A question that is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    asked_at: Option<Boottime>,
    next_at: Boottime,
}

impl Asking {
    /// First due at `next_at`.
    pub fn from(next_at: Boottime) -> Self {
        Self { asked_at: None, next_at }
    }

    /// Whether it is to be asked now; if so it counts as asked.
    pub fn ask(&mut self, now: Boottime, unanswered_after: Millis) -> bool {
        let due = now >= self.wake(unanswered_after);
        if due {
            self.asked_at = Some(now);
        }
        due
    }

    /// The answer came; the next question is due after `pause`.
    pub fn answered(&mut self, now: Boottime, pause: Millis) {
        *self = Self::from(now + pause);
    }

    /// When it is due.
    pub fn wake(&self, unanswered_after: Millis) -> Boottime {
        self.asked_at.map_or(self.next_at, |at| at + unanswered_after)
    }
}
