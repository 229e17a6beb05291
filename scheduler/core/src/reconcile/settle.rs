//! The last step: what nothing stands on any more is let go.

use wharfage_shared::ids::{DeploymentId, NodeId};

use super::plan::Plan;
use crate::words::event::deployment::Event as DeploymentEvent;
use crate::words::event::node::Event;
use crate::words::replica::Phase;

/// A node serves its organization until its last replica is gone, with proof, or until its claim
/// gives it back.
pub(super) fn node(plan: &mut Plan<'_>, id: &NodeId) {
    let Some(row) = plan.fleet.node(id) else { return };
    let promised = row.slots.iter().any(|slot| slot.promised.is_some());
    if row.held_for.is_some() && !row.is_allocated() && row.replicas.is_empty() && !promised {
        let (node, at) = (id.clone(), plan.now);
        plan.record(Event::Held { node, held_for: None, at });
    }
}

/// A deleted deployment ends with its last replica.
pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    let Some(row) = plan.fleet.deployment(id) else { return };
    if row.deleting.is_none() {
        return;
    }
    let ended = |phase: &Phase| matches!(phase, Phase::Stopped { .. });
    if plan.fleet.replicas_of(id).all(|replica| ended(&replica.phase)) {
        plan.record(DeploymentEvent::Removed { deployment: id.clone() });
    }
}
