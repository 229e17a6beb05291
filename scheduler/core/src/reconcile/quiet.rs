//! The step that finds leaving replicas to which nobody sends any more.

use wharfage_shared::ids::ReplicaId;

use super::plan::Plan;
use crate::words::event::replica::Event;
use crate::words::replica::{Leaving, Phase};

pub(super) fn replicas(plan: &mut Plan<'_>) {
    let leaving = plan.fleet.index.leaving.keys().copied();
    let quiet: Vec<ReplicaId> = leaving.filter(|id| is_quiet(plan, *id)).collect();
    for replica in quiet {
        let at = plan.now;
        plan.record(Event::Quiet { replica, at });
    }
}

/// Every gateway process with a live lease uses a table without it and has nothing in flight there.
/// A process that this scheduler has not heard yet counts as live until a lease has passed.
fn is_quiet(plan: &Plan<'_>, id: ReplicaId) -> bool {
    let Some(row) = plan.fleet.replica(id) else { return false };
    let Phase::Leaving { leaving, .. } = &row.phase else { return false };
    if !row.was_ready {
        return true;
    }
    let lease = plan.policy.gateway_lease();
    plan.fleet.gateway_processes().all(|process| match plan.gateways.get(&process.name) {
        Some(heard) if plan.now < heard.at + lease => {
            let sends = heard.in_flight.get(&id).is_some_and(|count| *count > 0);
            has_dropped(heard.routes, leaving) && !sends
        }
        Some(_) => true,
        None => !process.connected || plan.began + lease <= plan.now,
    })
}

/// Tables are compared by their number where the term is another: numbers go on over a restart.
fn has_dropped(used: wharfage_shared::gateway::RoutesVersion, leaving: &Leaving) -> bool {
    used >= leaving.routes || used.number >= leaving.routes.number
}
