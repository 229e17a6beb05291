//! What gateways are told: which ready replica serves which model.
//!
//! Traffic goes only to replicas whose proof stands, that do not leave and whose node is not lost.

use std::collections::BTreeMap;

use wharfage_shared::gateway::{
    RouteDeployment, RouteGateway, RouteReplica, Routes, RoutesVersion,
};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::version::Term;

use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::fleet::{Fleet, environments};
use crate::words::deployment::Dialect;
use crate::words::node::Reach;
use crate::words::principal::Role;

/// The table of the fleet as it is.
pub fn table(fleet: &Fleet, term: Term) -> Routes {
    let mut models: BTreeMap<(&OrganizationId, &str), Vec<&DeploymentRow>> = BTreeMap::new();
    for row in fleet.deployments().filter(|row| row.deleting.is_none()) {
        models.entry(model(row)).or_default().push(row);
    }
    let served = fleet.deployments().filter(|row| row.deleting.is_none() && !row.spec.disabled);
    Routes {
        version: RoutesVersion { term, number: fleet.routes_number() },
        deployments: served.map(|row| deployment(fleet, &models[&model(row)], row)).collect(),
        gateways: fleet
            .gateways()
            .map(|row| RouteGateway {
                id: row.id.clone(),
                organization: row.organization.clone(),
                zones: row.spec.zones.clone(),
                routing: row.spec.routing.clone(),
            })
            .collect(),
        keys: fleet
            .tokens()
            .filter(|row| row.caller().is_some_and(|caller| caller.may(Role::Viewer)))
            .map(|row| (row.sha256.clone(), row.organization.clone()))
            .collect(),
    }
}

/// Deployments of one organization with the same model name share its traffic.
fn model(row: &DeploymentRow) -> (&OrganizationId, &str) {
    (&row.organization, &row.spec.model.name)
}

fn deployment(fleet: &Fleet, of_model: &[&DeploymentRow], row: &DeploymentRow) -> RouteDeployment {
    RouteDeployment {
        id: row.id.clone(),
        name: row.spec.name.clone(),
        organization: row.organization.clone(),
        model: row.spec.model.name.clone(),
        gateways: row.spec.gateways.iter().cloned().collect(),
        weight: row.spec.weight.into(),
        concurrency: row.spec.scaling.concurrency,
        parks: row.spec.scaling.dialect == Dialect::Baseten,
        environments: environments::words(of_model, row),
        replicas: fleet.replicas_of(&row.id).filter_map(|row| replica(fleet, row)).collect(),
    }
}

/// A replica that may take traffic.
fn replica(fleet: &Fleet, row: &ReplicaRow) -> Option<RouteReplica> {
    let node = fleet.node(row.node()?)?;
    let address = row.phase.seen()?.address.as_deref()?.to_owned();
    // A gang without one of its nodes answers nobody.
    let lost = |id| fleet.node(id).is_none_or(|node| node.reach == Reach::Lost);
    let serves = row.phase.is_ready() && !row.nodes().any(lost);
    serves.then(|| RouteReplica { id: row.id, node: node.id.clone(), address })
}
