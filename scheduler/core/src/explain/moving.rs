//! Whether moving others would make room for a replica that waits, and what stands in the way of
//! that: asked of the policy that decides.

use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::Ask;
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::policies::consolidation::{self, Full, MOST_MOVES, Plan, Within};
use crate::words::policy::Policy;

/// What would help and why it does not happen yet, as one sentence; absent where no move helps.
pub(super) fn would_help(
    fleet: &Fleet,
    policy: &Policy,
    of: &DeploymentRow,
    ask: &Ask,
    now: Timestamp,
) -> Option<String> {
    if !consolidation::is_worth_asking(fleet, ask) {
        return None;
    }
    let full = Full::for_one(fleet, ask);
    let search = |most, despite_owners| {
        let within = Within { most, despite_owners, full: &full };
        consolidation::decide(fleet, policy, of, ask, within, now)
    };
    let Some(plan) = search(MOST_MOVES, false) else {
        let plan = search(MOST_MOVES, true)?;
        let makes = makes_room(&plan);
        return Some(format!("{makes}, and their deployments say `consolidation: false`"));
    };
    if !policy.consolidation {
        return Some(format!("{}, and consolidation is switched off", makes_room(&plan)));
    }
    let most = policy.consolidation_moves_per_hour;
    let left = most.saturating_sub(fleet.moves_within_an_hour(now)) as usize;
    let fewer = || search(left, false).filter(|_| left > 0);
    let within = if plan.moves.len() <= left { Some(plan.clone()) } else { fewer() };
    if let Some(plan) = within {
        let every = policy.tick();
        let makes = makes_room(&plan);
        return Some(format!("{makes}, which is decided every {every} for what waits as long"));
    }
    let makes = makes_room(&plan);
    let count = plan.moves.len();
    Some(match fleet.moves_allowed_at(now, most, count) {
        Some(at) => {
            let wait = at.since(now);
            format!("{makes}, and of {most} moves an hour {left} are left: the next in {wait}")
        }
        None => format!("{makes}, and {most} moves an hour are allowed"),
    })
}

/// `moving r-3 to node-2 would make room on node-1`.
fn makes_room(plan: &Plan) -> String {
    let step = |(replica, to): (ReplicaId, &NodeId)| format!("{replica} to {to}");
    let steps: Vec<String> = plan.moves.iter().map(|of| (of.replica, &of.to)).map(step).collect();
    format!("moving {} would make room on {}", steps.join(" and "), plan.seat.node)
}
