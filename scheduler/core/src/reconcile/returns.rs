//! The step that lets replicas go back to spot, successors first, within the budget of all moves.

use wharfage_shared::ids::{DeploymentId, ReplicaId};

use super::place::seat;
use super::plan::Plan;
use crate::capacity::ask::Ask;
use crate::policies::{placement, spot_return};
use crate::words::event::replica::Event;

/// Looks once over the deployments that name spot before something else.
pub(super) fn look(plan: &mut Plan<'_>) {
    if !plan.policy.spot_return || !spot_return::is_possible(plan.fleet) {
        return;
    }
    let named = plan.fleet.deployments().filter(|row| row.spec.classes.len() > 1);
    let deployments: Vec<DeploymentId> = named.map(|row| row.id.clone()).collect();
    for id in deployments {
        let moved = plan.fleet.moves_within_an_hour(plan.now);
        if moved >= plan.policy.consolidation_moves_per_hour {
            return;
        }
        let Some(of) = plan.fleet.deployment(&id) else { continue };
        let decided = spot_return::decide(plan.fleet, plan.policy, of, plan.now);
        let ask = Ask::of(plan.fleet, of);
        if let Some(decision) = decided {
            go_back(plan, id, &ask, decision);
        }
    }
}

fn go_back(
    plan: &mut Plan<'_>,
    deployment: DeploymentId,
    ask: &Ask,
    decision: spot_return::Return,
) {
    let Some(revision) = plan.fleet.deployment(&deployment).map(|of| of.revision) else { return };
    let (at, successor) = (plan.now, ReplicaId(plan.fleet.last_replica + 1));
    let spot_return::Return { replica, class, seat: to, engine_version, because } = decision;
    plan.record(Event::Created { replica: successor, deployment, revision, at });
    let node = to.node.clone();
    plan.record(Event::GoesBack { replica, successor, to: node, class, at });
    seat(plan, successor, ask, placement::Decision { seat: to, engine_version, because });
}
