//! Counts that follow loads: when they are looked at, and what is known of one.

use wharfage_shared::ids::DeploymentId;
use wharfage_shared::time::{Millis, Timestamp};

use super::Controller;
use crate::policies::autoscale::Decision;
use crate::policies::autoscale::work::Terms;
use crate::reconcile::loads::Hearing;
use crate::words::because::scaling::{Mean, Requests};

/// What is known of one deployment's load, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingNow {
    /// Its requests, as gateways said last.
    pub requests: Requests,
    /// How old the oldest word of a gateway is; none where no gateway was heard.
    pub age: Option<Millis>,
    /// Whether every gateway was heard lately; else nothing is taken away.
    pub is_fresh: bool,
    /// The mean over the window; none where it rests or nothing was sampled.
    pub mean: Option<Mean>,
    /// The last decision; none where it rests.
    pub decision: Option<Decision>,
    /// The terms of its wish, in work mode.
    pub terms: Option<Terms>,
}

impl Controller {
    /// What is known of a deployment's load at this instant.
    pub fn scaling(&self, id: &DeploymentId, now: Timestamp) -> ScalingNow {
        let heard = &self.soft.gateways;
        let live = self.soft.loads.of(id);
        let connected = self.fleet.gateway_processes().filter(|process| process.connected);
        let words = connected.filter_map(|process| heard.get(&process.name));
        ScalingNow {
            requests: live.map(|live| live.requests).unwrap_or_default(),
            age: words.map(|word| now.since(word.at)).max(),
            is_fresh: Hearing::of(&self.fleet, heard, self.soft.began, now).is_fresh,
            mean: live.and_then(|live| live.mean()),
            decision: live.and_then(|live| live.decision),
            terms: live.and_then(|live| live.terms()),
        }
    }

    /// Looks at every load, if it is time; what is to have another count is on the agenda.
    pub(super) fn look_at_loads(&mut self, now: Timestamp) {
        let hearing = Hearing::of(&self.fleet, &self.soft.gateways, self.soft.began, now);
        let changes = self.soft.loads.look(&self.fleet, &self.soft.gateways, hearing, now);
        for id in changes {
            self.agenda.scale(id);
        }
    }
}
