//! Lent spot: an idle standard node is lent whole as spot where nothing fits the ask as it is sold,
//! and called back when somebody has a right to it.
//!
//! Who also names on demand gets the node on demand, if the region's sum admits that: what is lent
//! may be called back within minutes.

use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};

use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::fit;
use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::because::placement::{NotLent, Rejection, Score};
use crate::words::policy::Policy;
use crate::words::replica::Phase;

/// Whether nobody uses the node, and nobody but the provider may say what becomes of it.
pub fn is_idle(node: &NodeRow) -> bool {
    let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
    standard && node.claimed.is_none() && node.held_for.is_none()
}

/// Whether an idle standard node is lent, and if not, why.
pub fn may_lend(policy: &Policy, node: &NodeRow) -> Result<(), NotLent> {
    if !policy.lends_in(&node.pool) {
        Err(NotLent::SwitchedOff)
    } else if node.sku.is_superchip() {
        Err(NotLent::Superchip)
    } else if node.called.is_some() {
        Err(NotLent::CalledBack)
    } else if !node.is_whole() {
        Err(NotLent::NotWhole)
    } else {
        Ok(())
    }
}

/// Whether the ask fits an idle standard node that is lent to it. What is guaranteed to others is
/// no obstacle: it can be called back.
pub fn fit_lent(
    fleet: &Fleet,
    policy: &Policy,
    ask: &Ask,
    of: &DeploymentId,
    expected: Expected<'_>,
    node: &NodeRow,
) -> Result<Score, Rejection> {
    let class = fit::admits_on(fleet, ask, node, CapacityClass::Spot)?;
    may_lend(policy, node).map_err(|because| Rejection::NotLent { because })?;
    let score = fit::score(fleet, policy.placement_in(&node.pool), ask, of, expected, node)?;
    Ok(Score { class, lends: true, ..score })
}

/// Whether the ask fits the node as it is sold or else, where it is idle, as lent spot; or the first
/// rule that fails.
pub fn fit_or_lend(
    fleet: &Fleet,
    policy: &Policy,
    ask: &Ask,
    of: &DeploymentId,
    expected: Expected<'_>,
    node: &NodeRow,
) -> Result<Score, Rejection> {
    let rank = policy.placement_in(&node.pool);
    let as_sold = fit::fit(fleet, rank, ask, of, expected, node);
    if !is_idle(node) || ask.place_of(CapacityClass::Spot).is_none() {
        return as_sold;
    }
    let Err(sold) = as_sold else { return as_sold };
    fit_lent(fleet, policy, ask, of, expected, node).map_err(|lent| match sold {
        Rejection::ClassNotAllowed { .. } => lent,
        sold => sold,
    })
}

/// What is lost when a lent node is called back; smaller is cheaper.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Replicas that serve.
    pub serving: usize,
    /// For how long they have, together.
    pub served: Millis,
    /// GPUs in use.
    pub gpus: usize,
    /// The node: it makes the order total.
    pub node: NodeId,
}

/// What calling the node back costs.
pub fn cost(fleet: &Fleet, node: &NodeRow, now: Timestamp) -> Cost {
    let mut cost = Cost { serving: 0, served: Millis(0), gpus: 0, node: node.id.clone() };
    for row in fleet.replicas_on(&node.id) {
        let Phase::Placed { seat, ready_since, .. } = &row.phase else { continue };
        cost.gpus += seat.gpus_on(&node.id).len();
        if let Some(since) = ready_since {
            cost.serving += 1;
            cost.served = cost.served + now.since(*since);
        }
    }
    cost
}

/// Whether a lent node can be called back for somebody who would then use all of it. What was placed
/// there a moment ago is not warned in the same breath: it is looked at again a moment later.
pub fn is_callable(fleet: &Fleet, node: &NodeRow, now: Timestamp) -> bool {
    if is_fresh(fleet, node, now) {
        return false;
    }
    let quiet = node.notices.is_empty() && node.claimed.is_none();
    let sound = node.slots.iter().all(|slot| slot.unfit.is_none() && slot.orphan.is_none());
    node.is_lent() && quiet && sound && node.is_sound()
}

/// Whether something was placed on a lent node at this very instant.
pub fn is_fresh(fleet: &Fleet, node: &NodeRow, now: Timestamp) -> bool {
    let mut placed = fleet.replicas_on(&node.id);
    node.is_lent()
        && placed.any(|row| matches!(row.phase, Phase::Placed { since, .. } if since == now))
}

/// The node that is called back for a pending replica, while that goes on.
pub fn awaited<'a>(fleet: &'a Fleet, replica: &ReplicaRow) -> Option<&'a NodeRow> {
    let Phase::Pending { .. } = &replica.phase else { return None };
    let node = fleet.node(&replica.awaits.as_ref()?.node)?;
    let called_for = node.called.as_ref().and_then(|called| called.organization.as_ref());
    (node.is_coming() && called_for == Some(&replica.organization)).then_some(node)
}

/// The pending replicas that wait for a node that is called back.
pub fn waiting_for<'a>(
    fleet: &'a Fleet,
    node: &'a NodeRow,
) -> impl Iterator<Item = &'a ReplicaRow> {
    let from = (node.sku.clone(), DeploymentId::new(""), ReplicaId(0));
    let pending = fleet.index.pending.from(&from).map(|(key, ())| key);
    let pending = pending.take_while(|(sku, _, _)| *sku == node.sku);
    let rows = pending.filter_map(|(_, _, id)| fleet.replica(*id));
    rows.filter(|row| awaited(fleet, row).is_some_and(|awaited| awaited.id == node.id))
}
