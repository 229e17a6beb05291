//! How the bill sees the host: the picture that segments are cut from.

use wharfage_shared::segment::{Activity, SegmentReplica};

use super::Agent;
use crate::meter::Picture;
use crate::out::Out;
use crate::replica::{Phase, Replica, Standing};

impl Agent {
    /// An adopted replica that lives proves the time since the earlier agent's last note.
    pub(super) fn resume_metering(&mut self, out: &mut Out) {
        let since = self.replicas.values().filter_map(|replica| replica.adopted_since).min();
        if let Some(since) = since {
            let picture = self.picture();
            self.meter.resume(since, picture, out);
        }
    }

    /// What the node is doing; nothing while it is merely joining, or serves nobody.
    ///
    /// It is active from the first guard's start (a claimed node: from the claim) until it is held
    /// for nobody and its last replica is gone; idle gaps between are held time.
    pub(super) fn picture(&mut self) -> Option<Picture> {
        let held_for = self.desired.held_for.clone();
        let guards = self.replicas.values().any(|replica| replica.phase.has_guard());
        let claimed = held_for.as_ref().is_some_and(|held| held.claim.is_some());
        if !self.meter.is_active_for(held_for.as_ref(), guards) && !claimed {
            return None;
        }
        let standing = self.replicas.iter().filter(|(_, replica)| stands(replica));
        let replicas = standing
            .map(|(id, replica)| SegmentReplica { replica: *id, gpus: replica.order.gpus.clone() })
            .collect();
        Some(Picture { held_for, activity: self.activity(), replicas })
    }

    /// The row of the bill: the best that any replica does counts for the node.
    fn activity(&self) -> Activity {
        let here = || self.replicas.iter().filter(|(_, replica)| stands(replica));
        let any = |asks: &dyn Fn(&Replica) -> bool| here().any(|(_, replica)| asks(replica));
        let all_orphans = here().all(|(id, _)| self.standing(*id) == Standing::Unordered);
        let blind =
            !self.gpus.is_empty() && self.gpus.iter().all(|gpu| self.gpu_trouble.contains_key(gpu));
        if here().next().is_some() && all_orphans {
            Activity::Orphaned
        } else if any(&|replica| replica.phase.serves()) {
            Activity::Serving
        } else if blind {
            Activity::Unusable
        } else if any(&|replica| !replica.phase.is_leaving()) {
            Activity::Starting
        } else if any(&|replica| !self.holds_what_is_over(replica)) {
            Activity::Draining
        } else if here().next().is_some() {
            Activity::Quarantined
        } else if self.judge.closes_any() {
            // Who holds a node holds all of it: one that lacks a GPU is not what they pay for.
            Activity::Unusable
        } else {
            Activity::IdleHeld
        }
    }

    /// Past its deadline, or over and its slots not proven free: not its user's time any more.
    fn holds_what_is_over(&self, replica: &Replica) -> bool {
        let quarantined = matches!(replica.phase, Phase::Quarantined { .. });
        quarantined || replica.is_overdue(self.now)
    }
}

/// Whether it is on the host as the bill sees it: one that has begun nothing, or has its model and
/// may not start, is not.
fn stands(replica: &Replica) -> bool {
    !matches!(replica.phase, Phase::Waiting | Phase::Fetching { fetched: true, .. })
}
