//! What facts about deployments do to the fleet.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharfage_shared::ids::{DeploymentId, NodeId};

use super::node::next;
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::revisions::Revisions;
use crate::fleet::table::Table;
use crate::words::because::scaling::DesiredBecause;
use crate::words::event::deployment::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Created { deployment, organization, spec, at } => {
            let row = DeploymentRow {
                id: deployment.clone(),
                organization: organization.clone(),
                spec: Arc::clone(spec),
                revision: 1,
                revisions: Revisions::first(Arc::clone(spec)),
                created_at: *at,
                updated_at: *at,
                deleting: None,
                desired: 0,
                because: DesiredBecause::New,
                scaled_at: None,
                scaled_on: None,
                failures: 0,
                backoff_until: None,
                last_start: None,
                replicas: Table::default(),
                placed: 0,
            };
            fleet.index.deployment_changed(&row, true);
            fleet.deployments.insert(deployment.clone(), Arc::new(row));
            fleet.routes_number += 1;
        }
        Event::Replaced { deployment, spec, revision, at } => {
            let used: BTreeSet<u32> =
                fleet.replicas_of(deployment).map(|replica| replica.revision).collect();
            fleet.change_spec(deployment, |row| {
                row.revisions.retain(|known| used.contains(&known));
                row.revisions.insert(*revision, Arc::clone(spec));
                if row.revision != *revision {
                    row.failures = 0;
                    row.backoff_until = None;
                }
                row.spec = Arc::clone(spec);
                row.revision = *revision;
                row.updated_at = *at;
            });
            raise_generations(fleet, deployment);
            fleet.routes_number += 1;
        }
        Event::SettingsChanged { deployment, scaling, at } => {
            fleet.change_spec(deployment, |row| {
                let mut spec = (*row.spec).clone();
                spec.scaling = scaling.clone();
                let spec = Arc::new(spec);
                row.revisions.insert(row.revision, Arc::clone(&spec));
                row.spec = spec;
                row.updated_at = *at;
            });
            fleet.routes_number += 1;
        }
        Event::Scaled { deployment, desired, because, on, at } => {
            fleet.change_deployment(deployment, |row| {
                row.desired = *desired;
                row.because = *because;
                row.scaled_at = Some(*at);
                row.scaled_on = *on;
            });
        }
        Event::BackedOff { deployment, failures, until } => {
            fleet.change_deployment(deployment, |row| {
                row.failures = *failures;
                row.backoff_until = Some(*until);
            });
        }
        Event::Deleted { deployment, at } => {
            fleet.change_deployment(deployment, |row| {
                row.deleting = Some(*at);
                row.updated_at = *at;
            });
            fleet.routes_number += 1;
        }
        Event::Removed { deployment } => {
            if let Some(row) = fleet.deployments.remove(deployment) {
                fleet.index.deployment_changed(&row, false);
            }
            fleet.routes_number += 1;
        }
    }
}

/// What nodes are told of a replica follows its spec.
fn raise_generations(fleet: &mut Fleet, deployment: &DeploymentId) {
    let nodes: BTreeSet<NodeId> = fleet
        .replicas_of(deployment)
        .filter_map(|replica| replica.phase.holds())
        .flat_map(|seat| seat.nodes().cloned())
        .collect();
    for node in nodes {
        fleet.change_node(&node, |row| row.generation = next(row.generation));
    }
}
