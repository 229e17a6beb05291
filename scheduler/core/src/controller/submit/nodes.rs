//! Commands about pools and nodes.

use wharfage_shared::capacity::{ComputeClass, Tenancy};
use wharfage_shared::ids::{JoinId, NodeId, NoticeId, PoolId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::time::Millis;

use super::access::usable;
use super::{is_label, name_taken, not_found, precondition};
use crate::fleet::rows::node::NodeRow;
use crate::reconcile::plan::Plan;
use crate::reconcile::reclaim::notice;
use crate::words::command::Answer;
use crate::words::command::access::Admits;
use crate::words::command::nodes::Action;
use crate::words::event::access::Event as AccessEvent;
use crate::words::event::node::Event;
use crate::words::node::{Doubt, Intent, NoticeFact, Pool, PoolSize};
use crate::words::refusal::{Kind, Refusal};

pub(super) fn carry_out(plan: &mut Plan<'_>, action: &Action) -> Result<Answer, Refusal> {
    match action {
        Action::CreatePool(pool) => create_pool(plan, pool)?,
        Action::CreateSizedPool { pool, size } => {
            create_pool(plan, pool)?;
            size_pool(plan, &pool.id, *size)?;
        }
        Action::SizePool { pool, size } => size_pool(plan, pool, *size)?,
        Action::Enroll { node, join, pool, key } => {
            enroll(plan, node, join, pool.as_ref(), key)?;
        }
        Action::AllowRejoin { node } => {
            known(plan, node)?;
            let (node, at) = (node.clone(), plan.now);
            plan.record(Event::RejoinAllowed { node, at });
        }
        Action::Cordon { node, reason } => {
            intend(plan, node, Intent::Cordoned { reason: reason.clone() })?;
        }
        Action::Uncordon { node, reason } => {
            intend(plan, node, Intent::Open)?;
            forgive(plan, node, reason)?;
        }
        Action::Drain { node, reason } => {
            intend(plan, node, Intent::Draining { reason: reason.clone() })?;
        }
        Action::Reclaim { node, reason: _, leaves, drain_after, gone_after } => {
            reclaim(plan, node, *leaves, *drain_after, *gone_after)?;
        }
        Action::Announce { node, notice, kind, gone_after } => {
            announce(plan, node, notice, *kind, *gone_after)?;
        }
        Action::ReleaseBrake { rule, reason } => {
            if !plan.fleet.brakes().any(|(on, _)| on == rule) {
                return Err(not_found(Kind::Brake, rule));
            }
            let (rule, because, at) = (rule.clone(), reason.clone(), plan.now);
            plan.record(Event::BrakeReleased { rule, because, at });
        }
        Action::Retire { node, reason: _ } => intend(plan, node, Intent::Retired)?,
    }
    Ok(Answer::Done)
}

fn create_pool(plan: &mut Plan<'_>, pool: &Pool) -> Result<(), Refusal> {
    if plan.fleet.pool(&pool.id).is_some() {
        return Err(name_taken(Kind::Pool, &pool.id));
    }
    if pool.tenancy == Tenancy::Shared {
        let description = "shared; accepted: dedicated. Nodes that several organizations share by \
                           slot are not supported yet";
        return Err(Refusal::invalid("tenancy", description));
    }
    if pool.compute_class == ComputeClass::Spot && pool.sku.is_superchip() {
        let description = format!("{} is never sold as spot; accepted: standard", pool.sku);
        return Err(Refusal::invalid("compute_class", description));
    }
    let owner = pool.owner.as_ref().filter(|owner| plan.fleet.organization(owner).is_none());
    if let Some(owner) = owner {
        return Err(not_found(Kind::Organization, owner));
    }
    plan.record(Event::PoolCreated { pool: pool.clone() });
    Ok(())
}

/// Most nodes of one pool: more is a mistake.
const MOST_NODES: u32 = 1_000_000;

fn size_pool(plan: &mut Plan<'_>, pool: &PoolId, size: PoolSize) -> Result<(), Refusal> {
    if plan.fleet.pool(pool).is_none() {
        return Err(not_found(Kind::Pool, pool));
    }
    let PoolSize { target, min, max } = size;
    if max > MOST_NODES {
        let description = format!("{max}; accepted: at most {MOST_NODES}");
        return Err(Refusal::invalid("max_nodes", description));
    }
    if min > max {
        let description = format!("{min}; accepted: at most max_nodes, which is {max}");
        return Err(Refusal::invalid("min_nodes", description));
    }
    if !(min..=max).contains(&target) {
        let description = format!("{target}; accepted: {min} to {max}, min_nodes to max_nodes");
        return Err(Refusal::invalid("target_nodes", description));
    }
    if plan.fleet.pool_count(pool).is_none_or(|count| count.size != size) {
        let (pool, at) = (pool.clone(), plan.now);
        plan.record(Event::PoolSized { pool, size, at });
    }
    Ok(())
}

fn known<'a>(plan: &'a Plan<'_>, node: &NodeId) -> Result<&'a NodeRow, Refusal> {
    plan.fleet.node(node).ok_or_else(|| not_found(Kind::Node, node))
}

/// Admits a host: the join is counted, and a known name needs an operator's word.
fn enroll(
    plan: &mut Plan<'_>,
    node: &NodeId,
    join: &JoinId,
    named: Option<&PoolId>,
    key: &str,
) -> Result<(), Refusal> {
    let pool = match &usable(plan, join)?.admits {
        Admits::Nodes { pool } => pool.clone(),
        Admits::Gateways => {
            let description = "the join string admits gateways, not nodes; ask for one for nodes";
            return Err(precondition("join_wrong_pool", description));
        }
    };
    if let Some(named) = named.filter(|named| **named != pool) {
        let description = format!(
            "the join string admits nodes of pool `{pool}`, the host's own configuration names \
             `{named}`; change one of the two"
        );
        return Err(precondition("join_wrong_pool", description));
    }
    if !is_label(node.as_str()) {
        let accepted = "accepted: 1 to 63 of a-z, 0-9 and `-`, not at an end";
        return Err(Refusal::invalid("name", format!("`{node}`; {accepted}")));
    }
    if plan.fleet.node(node).is_some_and(|row| !row.rejoin_allowed) {
        return Err(name_taken(Kind::Node, node));
    }
    let (node, join, key) = (node.clone(), join.clone(), key.to_owned());
    let at = plan.now;
    plan.record(AccessEvent::JoinUsed { join: join.clone() });
    plan.record(Event::Enrolled { node, pool, join, key, at });
    Ok(())
}

/// An operator's word; said again it changes nothing.
fn intend(plan: &mut Plan<'_>, node: &NodeId, intent: Intent) -> Result<(), Refusal> {
    let row = known(plan, node)?;
    if row.intent != intent {
        let (node, at) = (node.clone(), plan.now);
        plan.record(Event::IntentChanged { node, intent, at });
    }
    Ok(())
}

/// Faults that came again and again are forgiven by an operator's word.
fn forgive(plan: &mut Plan<'_>, node: &NodeId, reason: &str) -> Result<(), Refusal> {
    if known(plan, node)?.doubts.repeated.is_some() {
        let (node, at, because) = (node.clone(), plan.now, reason.to_owned());
        plan.record(Event::Doubted { node, doubt: Doubt::Forgiven { because }, at });
    }
    Ok(())
}

/// Takes spot capacity back: warning and cordon now, drain and end at stated times.
fn announce(
    plan: &mut Plan<'_>,
    node: &NodeId,
    notice: &NoticeId,
    kind: NoticeKind,
    gone_after: Millis,
) -> Result<(), Refusal> {
    let row = known(plan, node)?;
    if row.departed_at.is_some() {
        return Err(precondition(node.to_string(), format!("{node} has departed already")));
    }
    // Events are delivered at least once, and later ones must not move the deadline away.
    if row.notices.contains_key(notice) || row.past_notices.contains_key(notice) {
        return Ok(());
    }
    let gone_at = plan.now + gone_after;
    let notice = NoticeFact {
        id: notice.clone(),
        kind,
        source: NoticeSource::Provider,
        leaves: Leaves::Node,
        heard_at: plan.now,
        drain_at: gone_at,
        gone_at,
    };
    plan.record(Event::Noticed { node: node.clone(), notice });
    Ok(())
}

fn reclaim(
    plan: &mut Plan<'_>,
    node: &NodeId,
    leaves: Leaves,
    drain_after: Option<Millis>,
    gone_after: Option<Millis>,
) -> Result<(), Refusal> {
    let row = known(plan, node)?;
    if row.sold() != ComputeClass::Spot {
        let description = format!(
            "{node} is sold as standard: Reserved, Flex and On-Demand instances are never taken \
             back for capacity; drain it instead"
        );
        return Err(precondition(node.to_string(), description));
    }
    if row.reclaim().is_some() {
        let description = format!("{node} is being reclaimed already");
        return Err(precondition(node.to_string(), description));
    }
    let default = |seconds: u32| Millis::from_seconds(seconds.into());
    let drain_after = drain_after.unwrap_or(default(plan.policy.reclaim_drain_seconds));
    let gone_after = gone_after.unwrap_or(default(plan.policy.reclaim_gone_seconds));
    if drain_after > gone_after {
        let description = format!("{drain_after}; accepted: at most the end's {gone_after}");
        return Err(Refusal::invalid("drain_after", description));
    }
    // What is lent stays and is standard again.
    let leaves = if row.is_lent() { Leaves::Replicas } else { leaves };
    let notice = notice(node, leaves, plan.now, drain_after, gone_after);
    plan.record(Event::Noticed { node: node.clone(), notice });
    Ok(())
}
