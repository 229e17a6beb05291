//! What a receiver is told: one pool's counts.

use serde::Serialize;
use wharfage_scheduler_core::fleet::PoolCount;
use wharfage_scheduler_core::words::node::Pool;
use wharfage_shared::capacity::{ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{OrganizationId, PoolId};

use crate::http::rows::instant;

/// How many nodes a pool wants. The newest message of a pool holds; older ones are void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// The kind of message: always `nodes.wanted`.
    pub event: &'static str,
    /// Names these counts: told twice, it is the same.
    pub id: String,
    /// The pool.
    pub pool: PoolId,
    /// Where its nodes are to be.
    pub zone: Zone,
    /// That zone's region.
    pub region: Region,
    /// Their instance type.
    pub sku: Sku,
    /// How they are to be sold.
    pub compute_class: ComputeClass,
    /// The tenant that is to own them; null = the provider.
    pub owner: Option<OrganizationId>,
    /// How many there are to be.
    pub target_nodes: u32,
    /// How many there are.
    pub current_nodes: u32,
    /// How many are wanted beyond these.
    pub queued_nodes: u32,
    /// Since when it is so.
    pub since: String,
}

impl Wanted {
    /// A pool's counts as they are.
    pub fn of(pool: &Pool, count: &PoolCount) -> Self {
        let PoolCount { size, current, queued, since } = *count;
        Self {
            event: "nodes.wanted",
            id: format!("{}-{}-{}-{current}-{queued}", pool.id, since.0, size.target),
            pool: pool.id.clone(),
            zone: pool.zone.clone(),
            region: pool.zone.region(),
            sku: pool.sku.clone(),
            compute_class: pool.compute_class,
            owner: pool.owner.clone(),
            target_nodes: size.target,
            current_nodes: current,
            queued_nodes: queued,
            since: instant(since),
        }
    }
}
