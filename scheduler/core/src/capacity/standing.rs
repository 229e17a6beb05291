//! Whether a replica counts for its deployment, and if not, why: asked by scaling, evacuation,
//! rollout and explanations alike.

use crate::capacity::ask::{classes, ground};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::node::{Intent, Reach};
use crate::words::policy::Policy;
use crate::words::replica::{Phase, Seat};
use wharfage_shared::health::Asked;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::{Millis, Timestamp};

/// How a replica stands towards its deployment's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It counts.
    Wanted,
    /// It runs older settings, or stands where the classes no longer allow it.
    Outdated,
    /// Its node is under a notice, is left early, or has an operator's word to be emptied; or it
    /// moves elsewhere.
    Evacuating,
    /// Its node is lost.
    Lost,
    /// It fails without having been told to leave.
    Failing,
    /// It leaves or has ended.
    Over,
}

/// How a replica stands.
pub fn standing(fleet: &Fleet, deployment: &DeploymentRow, replica: &ReplicaRow) -> Standing {
    let current = replica.revision == deployment.revision;
    let seat = match &replica.phase {
        Phase::Pending { .. } | Phase::Promised { .. } => {
            return if current { Standing::Wanted } else { Standing::Outdated };
        }
        Phase::Leaving { .. } | Phase::Stopped { .. } => return Standing::Over,
        Phase::Placed { seat, .. } => seat,
    };
    let mut worst = if current { Standing::Wanted } else { Standing::Outdated };
    for id in seat.nodes() {
        let there = match fleet.node(id) {
            Some(node) => standing_on(fleet, deployment, replica, seat, node),
            None => Standing::Lost,
        };
        // What is lost cannot be asked; what must be emptied goes whatever else is so.
        worst = match (worst, there) {
            (Standing::Lost, _) | (_, Standing::Lost) => Standing::Lost,
            (Standing::Evacuating, _) | (_, Standing::Evacuating) => Standing::Evacuating,
            (worst, there) => worst.max(there),
        };
    }
    worst
}

/// How one member of a replica that was placed stands, its settings apart.
fn standing_on(
    fleet: &Fleet,
    deployment: &DeploymentRow,
    replica: &ReplicaRow,
    seat: &Seat,
    node: &NodeRow,
) -> Standing {
    if node.reach == Reach::Lost {
        return Standing::Lost;
    }
    let emptied = match node.intent {
        Intent::Draining { .. } | Intent::Retired => true,
        Intent::Open | Intent::Cordoned { .. } => node.doubts.early.is_some(),
    };
    if emptied || node.notice().is_some() || is_emptied_for_repair(fleet, node, seat) {
        return Standing::Evacuating;
    }
    let phase = replica.seen_on(&node.id);
    if matches!(phase, Some(ReportedPhase::Quarantined | ReportedPhase::Stopping)) {
        return Standing::Failing;
    }
    if replica.moving.is_some() {
        return Standing::Evacuating;
    }
    let forbidden = !classes(&deployment.spec).contains(&ground(node));
    if forbidden { Standing::Outdated } else { Standing::Wanted }
}

/// Whether the node's agent asks for the seat to be emptied, because of its hardware. While a brake
/// is on nothing is emptied by itself.
pub fn is_emptied_for_repair(fleet: &Fleet, node: &NodeRow, seat: &Seat) -> bool {
    if fleet.brakes().next().is_some() {
        return false;
    }
    node.asks.iter().map(|fact| &fact.ask).any(|ask| {
        let here = ask.gpu.as_ref().is_none_or(|gpu| seat.gpus_on(&node.id).contains(gpu));
        let meant = !ask.only_multi_gpu || seat.size() > 1;
        ask.what == Asked::Drain && here && meant
    })
}

/// Whether a single-copy replica may still run somewhere, so that another one must wait: until its
/// end is proven, or its lease with margin is over.
pub fn may_still_run(fleet: &Fleet, policy: &Policy, replica: &ReplicaRow, now: Timestamp) -> bool {
    held_until(fleet, policy, replica).is_some_and(|until| until.is_none_or(|until| now < until))
}

/// `None` = it runs nowhere; `Some(None)` = until proof; `Some(Some(t))` = until `t` at the latest.
pub fn held_until(
    fleet: &Fleet,
    policy: &Policy,
    replica: &ReplicaRow,
) -> Option<Option<Timestamp>> {
    match &replica.phase {
        Phase::Pending { .. } | Phase::Promised { .. } => Some(None),
        Phase::Stopped { proven: true, .. } => None,
        Phase::Stopped { at, proven: false, .. } => {
            let margin = policy.lease() + policy.single_copy_margin();
            Some(Some(*at + margin))
        }
        Phase::Placed { seat, .. } | Phase::Leaving { seat, .. } => {
            // Of a gang no member is a copy: it has ended when one of them has.
            let nodes = seat.nodes().filter_map(|node| fleet.node(node));
            let lost = nodes.filter(|node| node.reach == Reach::Lost);
            let lost_since = lost.map(|node| node.reach_since).min();
            // One that was started without that lease runs on, whatever its deployment says today.
            let leased = fleet.spec_of(replica).is_some_and(|spec| spec.extension.single_copy);
            let lost_since = lost_since.filter(|_| leased);
            Some(lost_since.map(|since| since + policy.single_copy_margin()))
        }
    }
}

/// How long a stop of a replica may take.
pub fn grace(fleet: &Fleet, replica: &ReplicaRow) -> Millis {
    let seconds = fleet.spec_of(replica).map_or(30, |spec| spec.extension.grace_seconds);
    Millis::from_seconds(seconds.into())
}
