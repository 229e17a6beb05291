//! What the node tells: the core's part of a heartbeat, and the status page.

use wharfage_shared::time::Boottime;

use super::{Agent, start_of};
use crate::report::Report;
use crate::status::Status;

impl Agent {
    /// What a heartbeat carries of the core. `now` only ages what is expected; the open segment is
    /// proven up to the last step.
    pub fn report(&self, now: Boottime) -> Report {
        let replicas = self.replicas.values();
        Report {
            epoch: self.epoch,
            persisted: self.desired.version,
            applied: self.desired.version,
            replicas: replicas
                .map(|replica| {
                    let start = start_of(replica, &self.gpu_names);
                    replica.report(now, self.estimates.start(&start))
                })
                .collect(),
            gone: self.departed.values().map(|departed| departed.gone.clone()).collect(),
            open_segment: self.meter.open_segment(),
            last_segment: self.meter.last(),
            notices: self.notices.own(),
            evacuated: self.evacuation.as_ref().and_then(|story| story.told(now)),
            health: self.judge.verdict(),
        }
    }

    /// What `/status` shows, as of the last step.
    pub fn status(&self) -> Status {
        let replicas = self.replicas.iter();
        let still_serving = self.replicas.values().any(|replica| replica.phase.serves());
        Status {
            node: self.node.clone(),
            boot: self.boot.clone(),
            now: self.now,
            epoch: self.epoch,
            term: self.term,
            applied: self.desired.version,
            cordoned: self.desired.cordoned,
            held_for: self.desired.held_for.clone(),
            control_lease: self.leases.shown(self.now),
            replicas: replicas.map(|(id, replica)| replica.status(self.standing(*id))).collect(),
            gone: self.departed.values().map(|departed| departed.gone.clone()).collect(),
            notices: self.notices.all(),
            notices_expired: self.notices.expired(),
            evacuation: self.evacuation.as_ref().map(|e| e.shown(self.now, still_serving)),
            open_segment: self.meter.open_segment(),
            segments_waiting: self.meter.closed().len(),
            gpu_trouble: self.gpu_trouble.clone(),
            false_ready: self.estimates.history.false_ready().to_vec(),
            measured: self.estimates.history.runs.clone(),
            health: (*self.judge.verdict()).clone(),
        }
    }
}
