//! What facts about claims and quotas do to the fleet.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharfage_shared::ids::ClaimId;

use crate::fleet::Fleet;
use crate::fleet::rows::claim::ClaimRow;
use crate::words::event::claim::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Created { claim, organization, spec, at } => {
            let row = ClaimRow {
                id: claim.clone(),
                organization: organization.clone(),
                granted: spec.instances,
                spec: spec.clone(),
                created_at: *at,
                updated_at: *at,
                filled_at: None,
                decreased_at: None,
                deleted_at: None,
                instances: BTreeSet::new(),
            };
            fleet.claims.insert(claim.clone(), Arc::new(row));
        }
        Event::Resized { claim, instances, at } => change(fleet, claim, |row| {
            row.spec.instances = *instances;
            row.updated_at = *at;
        }),
        Event::Granted { claim, instances, at } => change(fleet, claim, |row| {
            if *instances < row.granted {
                row.decreased_at = Some(*at);
            }
            row.granted = *instances;
            row.updated_at = *at;
        }),
        Event::Bound { claim, node, at } => {
            let Some(claimed) = fleet.claim(claim).map(ClaimRow::claimed) else { return };
            change(fleet, claim, |row| {
                row.instances.insert(node.clone());
                row.updated_at = *at;
            });
            fleet.change_node(node, |row| row.claimed = Some(claimed));
        }
        Event::Filled { claim, at } => change(fleet, claim, |row| {
            row.filled_at = Some(*at);
            row.updated_at = *at;
        }),
        Event::Released { claim, node, at } => {
            change(fleet, claim, |row| {
                row.instances.remove(node);
                row.updated_at = *at;
            });
            fleet.change_node(node, |row| row.claimed = None);
        }
        Event::Deleted { claim, at } => change(fleet, claim, |row| {
            row.deleted_at = Some(*at);
            row.updated_at = *at;
        }),
        Event::QuotaSet { quota, instances, .. } => match instances {
            Some(instances) => drop(fleet.quotas.insert(quota.clone(), *instances)),
            None => drop(fleet.quotas.remove(quota)),
        },
    }
}

fn change(fleet: &mut Fleet, id: &ClaimId, change: impl FnOnce(&mut ClaimRow)) {
    if let Some(row) = fleet.claims.get_mut(id) {
        change(Arc::make_mut(row));
    }
}
