//! How a change of settings replaces replicas: a few new ones first, then the old ones go.

use wharfage_shared::ids::ReplicaId;

use crate::fleet::rows::replica::ReplicaRow;
use crate::words::deployment::Rollout;

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
