//! The step that calls lent nodes back for those who have a right to them, on the seed's timeline:
//! warned and cordoned at once, drained and ended at stated times.
//!
//! Who waits is told by when there is room. A node that was called back is standard again as soon
//! as it is empty with proof; one that nobody waits for any more is called back no longer, unless
//! its drain has begun.

use wharfage_shared::ids::{DeploymentId, NodeId, NoticeId, OrganizationId, ReplicaId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::time::{Millis, Timestamp};

use super::agenda::Alarm;
use super::plan::Plan;
use crate::capacity::ask::Ask;
use crate::capacity::lending::{awaited, waiting_for};
use crate::policies::reclaim::{
    cheapest, given_up, is_for_later, is_worth_asking, one_too_many, shared,
};
use crate::words::event::node::Event;
use crate::words::event::replica::Event as ReplicaEvent;
use crate::words::node::NoticeFact;

/// Calls a node back for each pending replica of a deployment that only spot stands in the way of.
pub(super) fn for_pending(plan: &mut Plan<'_>, id: &DeploymentId, ask: &Ask) {
    // One node is called back at a time: what takes several waits for those that are free.
    if ask.is_gang() || !is_worth_asking(plan.fleet, ask) {
        return;
    }
    let from = (ask.sku.clone(), id.clone(), ReplicaId(0));
    let waiting = plan.fleet.index.pending.from(&from).map(|(key, ())| key);
    let waiting = waiting.take_while(|(sku, of, _)| *sku == ask.sku && of == id);
    let waiting: Vec<ReplicaId> = waiting.map(|(_, _, replica)| *replica).collect();
    for replica in waiting {
        let Some(row) = plan.fleet.replica(replica) else { continue };
        if awaited(plan.fleet, row).is_some() {
            continue;
        }
        let node = if let Some(node) = shared(plan.fleet, ask) {
            node
        } else if let Some(node) = given_up(plan.fleet, ask, plan.now) {
            let (organization, at) = (ask.organization.clone(), plan.now);
            plan.record(Event::Called { node: node.clone(), organization, at });
            node
        } else if let Some(node) = cheapest(plan.fleet, ask, plan.now) {
            call(plan, &node, &ask.organization);
            node
        } else {
            if is_for_later(plan.fleet, ask, plan.now) {
                let again = plan.now + Millis(1);
                plan.agenda.look_again(again, Alarm::Deployment(id.clone()));
            }
            return;
        };
        let Some(until) = plan.fleet.node(&node).and_then(|row| row.reclaim()) else { return };
        let until = until.gone_at;
        plan.record(ReplicaEvent::Awaits { replica, node, until });
    }
}

/// Calls a lent node back for an organization.
pub(super) fn call(plan: &mut Plan<'_>, node: &NodeId, organization: &OrganizationId) {
    let seconds = |seconds: u32| Millis::from_seconds(seconds.into());
    let drain_after = seconds(plan.policy.reclaim_drain_seconds);
    let gone_after = seconds(plan.policy.reclaim_gone_seconds);
    let notice = notice(node, Leaves::Replicas, plan.now, drain_after, gone_after);
    let (node, organization, at) = (node.clone(), organization.clone(), plan.now);
    plan.record(Event::Noticed { node: node.clone(), notice });
    plan.record(Event::Called { node, organization, at });
}

/// The scheduler's own notice: warned now, drained and ended later.
pub fn notice(
    node: &NodeId,
    leaves: Leaves,
    now: Timestamp,
    drain_after: Millis,
    gone_after: Millis,
) -> NoticeFact {
    NoticeFact {
        id: NoticeId::new(format!("reclaim-{node}-{}", now.0)),
        kind: NoticeKind::Reclaim,
        source: NoticeSource::Scheduler,
        leaves,
        heard_at: now,
        drain_at: now + drain_after,
        gone_at: now + gone_after,
    }
}

/// Whoever waits for what is called back may take something else instead. Where both would be more
/// than the organization may have, one call ends: what waits on would wait in vain.
pub(super) fn taken_instead(plan: &mut Plan<'_>, taken: &NodeId) {
    let Some(node) = one_too_many(plan.fleet, taken) else { return };
    let Some(notice) = plan.fleet.node(&node).and_then(|row| row.reclaim()) else { return };
    let (notice, drains, at) = (notice.id.clone(), notice.drain_at <= plan.now, plan.now);
    plan.record(match drains {
        true => Event::CallEnded { node, at },
        false => Event::NoticeEnded { node, notice, at },
    });
}

/// What becomes of a lent node that is, or was, called back.
pub(super) fn node(plan: &mut Plan<'_>, id: &NodeId) {
    let Some(row) = plan.fleet.node(id) else { return };
    let at = plan.now;
    if row.is_lent() && row.replicas.is_empty() && row.slots.iter().all(|s| s.promised.is_none()) {
        let over = row.reclaim().map(|notice| notice.id.clone());
        if let Some(notice) = over {
            plan.record(Event::NoticeEnded { node: id.clone(), notice, at });
        }
        plan.record(Event::Held { node: id.clone(), held_for: None, at });
    } else if let Some((notice, drains)) = unwanted(plan, id) {
        let node = id.clone();
        plan.record(match drains {
            true => Event::CallEnded { node, at },
            false => Event::NoticeEnded { node, notice, at },
        });
    }
    let Some(row) = plan.fleet.node(id) else { return };
    let called = row.called.as_ref().filter(|_| row.reclaim().is_none());
    if called.is_some_and(|called| called.at + plan.policy.lend_again_after() <= at) {
        plan.record(Event::Lendable { node: id.clone(), at });
    }
}

/// The reclaim of a node that was called back for somebody who does not need it any more, and
/// whether its drain has begun.
fn unwanted(plan: &Plan<'_>, id: &NodeId) -> Option<(NoticeId, bool)> {
    let row = plan.fleet.node(id)?;
    row.called.as_ref()?.organization.as_ref()?;
    let notice = row.reclaim().filter(|_| row.is_lent())?;
    let wanted = row.claimed.is_some() || waiting_for(plan.fleet, row).next().is_some();
    (!wanted).then(|| (notice.id.clone(), notice.drain_at <= plan.now))
}
