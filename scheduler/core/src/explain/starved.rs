//! Who waits while others of a higher priority were placed: said, and never mended by a promotion
//! that nobody asked for.

use std::collections::BTreeMap;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{DeploymentId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::words::deployment::Priority;
use crate::words::replica::Phase;

/// When a replica of each priority was placed last.
type Latest = BTreeMap<Priority, Timestamp>;

/// How many replicas of each deployment are starved: since they wait, at least one of a higher
/// priority of the same organization and type has been placed. One pass over the fleet.
pub fn starved(fleet: &Fleet) -> BTreeMap<DeploymentId, u32> {
    let mut starved = BTreeMap::new();
    if fleet.index.pending.is_empty() {
        return starved;
    }
    let mut placed: BTreeMap<(&OrganizationId, &Sku), Latest> = BTreeMap::new();
    for row in fleet.replicas() {
        let Phase::Placed { since, .. } = &row.phase else { continue };
        let Some(of) = fleet.deployment(&row.deployment) else { continue };
        let latest = placed.entry((&row.organization, &of.spec.sku)).or_default();
        let at = latest.entry(of.spec.priority).or_insert(*since);
        *at = (*at).max(*since);
    }
    for (_, id, replica) in fleet.index.pending.keys() {
        let Some(row) = fleet.replica(*replica) else { continue };
        let Some(of) = fleet.deployment(id) else { continue };
        let Some(latest) = placed.get(&(&row.organization, &of.spec.sku)) else { continue };
        let mut higher =
            latest.iter().rev().take_while(|(priority, _)| **priority > of.spec.priority);
        if higher.any(|(_, since)| *since > row.created_at) {
            *starved.entry(id.clone()).or_default() += 1;
        }
    }
    starved
}
