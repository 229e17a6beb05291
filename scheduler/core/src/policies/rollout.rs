//! How a change of settings replaces replicas: a few new ones first, then the old ones go.

use wharfage_shared::ids::ReplicaId;

use crate::capacity::ask::{classes, ground};
use crate::capacity::standing::{Standing, standing};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::deployment::Rollout;

/// Failed starts in a row after which no more replicas are replaced.
pub const FAILURES_THAT_STOP: u32 = 3;

/// Whether a rollout has stopped: the starts of the new settings fail, and the old replicas serve
/// all that is wanted. They are left alone until somebody changes the settings again; where they do
/// not suffice any more, starting goes on, since nothing else could serve.
pub fn is_stopped(fleet: &Fleet, row: &DeploymentRow) -> bool {
    if row.failures < FAILURES_THAT_STOP {
        return false;
    }
    // What stands where the classes no longer allow it must go in any case.
    let allowed = |replica: &ReplicaRow| {
        let mut nodes = replica.nodes().filter_map(|node| fleet.node(node));
        nodes.all(|node| classes(&row.spec).contains(&ground(node)))
    };
    let old = fleet.replicas_of(&row.id).filter(|replica| {
        replica.phase.is_ready()
            && replica.revision != row.revision
            && standing(fleet, row, replica) == Standing::Outdated
            && allowed(replica)
    });
    let old = u32::try_from(old.count()).unwrap_or(u32::MAX);
    row.desired > 0 && old >= row.desired
}

/// The state of a rollout in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How many are wanted in the end.
    pub desired: u32,
    /// New ones that serve.
    pub new_ready: u32,
    /// Old ones that have not been told to leave.
    pub old: u32,
}

/// How many new replicas there may be at this moment.
pub fn new_allowed(rollout: Rollout, progress: Progress) -> u32 {
    let room = (progress.desired + rollout.max_surge).saturating_sub(progress.old);
    room.min(progress.desired)
}

/// The old replicas that may leave now: those that do not serve at once, the others as far as
/// enough replicas go on serving.
pub fn leavers(rollout: Rollout, progress: Progress, old: &[&ReplicaRow]) -> Vec<ReplicaId> {
    let (serving, idle): (Vec<&ReplicaRow>, Vec<&ReplicaRow>) =
        old.iter().partition(|replica| replica.phase.is_ready());
    let ready = progress.new_ready + serving.len() as u32;
    let needed = progress.desired.saturating_sub(rollout.max_unavailable);
    let spare = ready.saturating_sub(needed) as usize;
    let going = serving.iter().take(spare).chain(idle.iter());
    going.map(|replica| replica.id).collect()
}
