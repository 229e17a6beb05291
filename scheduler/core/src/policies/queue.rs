//! Which pending replica is next.
//!
//! Within an organization: priority, then what its `min` needs, then the oldest, then the id. Between organizations: who uses
//! the smaller share of what is not guaranteed, then the oldest. `priority_scope = fleet` makes one
//! order of all.

use std::cmp::Reverse;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{OrganizationId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::words::deployment::Priority;
use crate::words::policy::{Policy, PriorityScope};

/// Where a pending replica stands in the order of its organization; smaller goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<Priority>,
    beyond_min: bool,
    since: Timestamp,
    replica: ReplicaId,
}

/// The place of a deployment's pending replica.
pub fn place(deployment: &DeploymentRow, replica: ReplicaId, since: Timestamp) -> Place {
    let min = deployment.spec.scaling.bounds.min();
    let beyond_min = deployment.placed >= min;
    Place { priority: Reverse(deployment.spec.priority), beyond_min, since, replica }
}

/// Instances of the type that an organization uses beyond its guarantees.
fn beyond_guarantee(fleet: &Fleet, organization: &OrganizationId, sku: &Sku) -> u32 {
    let of_type = fleet.index.capacity.iter().filter(|((_, of), _)| of == sku);
    let shares = of_type.filter_map(|(_, capacity)| capacity.organizations.get(organization));
    shares.map(|shares| shares.used.saturating_sub(shares.guaranteed) + shares.spot).sum()
}

/// The next of the heads of the organizations' queues.
pub fn next<'a>(
    fleet: &Fleet,
    policy: &Policy,
    heads: impl Iterator<Item = (&'a OrganizationId, &'a Sku, &'a Place)>,
) -> Option<&'a OrganizationId> {
    match policy.priority_scope {
        PriorityScope::Fleet => {
            heads.min_by_key(|(_, _, place)| *place).map(|(organization, _, _)| organization)
        }
        PriorityScope::Organization => {
            let mut heads = heads.peekable();
            let first = heads.next()?;
            if heads.peek().is_none() {
                return Some(first.0);
            }
            let ranked = std::iter::once(first).chain(heads).map(|(organization, sku, place)| {
                let share = beyond_guarantee(fleet, organization, sku);
                ((share, place.since, place.replica), organization)
            });
            ranked.min().map(|(_, organization)| organization)
        }
    }
}
