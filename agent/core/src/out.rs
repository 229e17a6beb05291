//! What one step asks of the hands, gathered in order.

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::time::Boottime;

use crate::effect::{Effect, Note};
use crate::status::Moment;

/// The effects of one step, with what the evacuation's timeline takes from it.
pub(crate) struct Out {
    /// The step's instant.
    pub now: Boottime,
    effects: Vec<Effect>,
    moments: Vec<Moment>,
    useful_until: Option<Boottime>,
    report_now: bool,
}

/// What is left of a step for the evacuation's timeline.
pub(crate) struct Told {
    pub moments: Vec<Moment>,
    pub useful_until: Option<Boottime>,
}

impl Out {
    pub fn new(now: Boottime) -> Self {
        Self {
            now,
            effects: Vec::new(),
            moments: Vec::new(),
            useful_until: None,
            report_now: false,
        }
    }

    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// A decision for the journal and, during an evacuation, for its timeline.
    pub fn note(&mut self, replica: Option<ReplicaId>, text: impl Into<String>) {
        let text = text.into();
        self.moments.push(Moment { at: self.now, replica, what: text.clone() });
        self.effects.push(Effect::Note(Note { replica, text }));
    }

    /// Something useful (serving, a checkpoint, a drain hook) went on up to now.
    pub fn useful(&mut self) {
        self.useful_until = Some(self.now);
    }

    /// The scheduler should hear of this step before the next interval.
    pub fn report_now(&mut self) {
        self.report_now = true;
    }

    /// Hands over what the timeline takes; asked once, when the step's decisions are made.
    pub fn told(&mut self) -> Told {
        Told { moments: std::mem::take(&mut self.moments), useful_until: self.useful_until.take() }
    }

    /// The effects in order; at most one report, after everything it may speak of.
    pub fn finish(mut self) -> Vec<Effect> {
        if self.report_now {
            self.effects.push(Effect::ReportNow);
        }
        self.effects
    }
}
