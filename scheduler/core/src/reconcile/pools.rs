//! The step that counts the nodes of pools that are to have a stated number.
//!
//! A pool that was emptied stays: what it lacks is wanted until it is there.

use wharfage_shared::ids::PoolId;

use super::plan::Plan;
use crate::fleet::rows::node::NodeRow;
use crate::words::event::node::Event;
use crate::words::node::{Intent, Reach};

pub(super) fn pool(plan: &mut Plan<'_>, id: &PoolId) {
    let Some(count) = plan.fleet.pool_count(id) else { return };
    let nodes = plan.fleet.nodes().filter(|node| node.pool == *id && is_there(node));
    let current = nodes.count() as u32;
    let queued = count.size.target.saturating_sub(current);
    if (count.current, count.queued) != (current, queued) {
        let (pool, at) = (id.clone(), plan.now);
        plan.record(Event::PoolCounted { pool, current, queued, at });
    }
}

/// Heard and here to stay.
fn is_there(node: &NodeRow) -> bool {
    let heard = matches!(node.reach, Reach::Connected | Reach::Silent);
    heard && node.intent != Intent::Retired && node.departed_at.is_none()
}
