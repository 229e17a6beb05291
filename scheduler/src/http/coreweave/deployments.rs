//! `DeploymentService`: REST under `/v1alpha1/inference/deployments`, and Connect.

use serde_json::{Map, Value};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::words::command::{Action, deployments};
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::{DeploymentId, OrganizationId};

use super::deployment::{self, Context};
use super::offer::Offer;
use super::resource::organization;
use super::service::{Head, Service, Words};
use crate::driver::View;
use crate::http::Shared;
use crate::http::body::Write;
use crate::http::fault::Fault;

/// Deployments.
pub struct Deployments;

impl Service for Deployments {
    type Row = DeploymentRow;

    const COSTS: bool = true;

    const WORDS: Words = Words {
        one: "deployment",
        all: "deployments",
        schema: "Deployment",
        rest: [
            "/v1alpha1/inference/deployments",
            "/v1alpha1/inference/deployments/{id}",
            "/v1alpha1/inference/deployments/parameters",
        ],
        connect: [
            "/coreweave.inference.v1alpha1.DeploymentService/ListDeployments",
            "/coreweave.inference.v1alpha1.DeploymentService/CreateDeployment",
            "/coreweave.inference.v1alpha1.DeploymentService/GetDeploymentParameters",
            "/coreweave.inference.v1alpha1.DeploymentService/GetDeployment",
            "/coreweave.inference.v1alpha1.DeploymentService/UpdateDeployment",
            "/coreweave.inference.v1alpha1.DeploymentService/DeleteDeployment",
        ],
        summaries: [
            "List deployments.",
            "Create a deployment.",
            "What a deployment may choose from.",
            "One deployment.",
            "Replace a deployment's specification.",
            "Delete a deployment and its replicas.",
        ],
    };

    fn rows(fleet: &Fleet) -> impl Iterator<Item = &DeploymentRow> {
        fleet.deployments()
    }

    fn row<'f>(fleet: &'f Fleet, id: &str) -> Option<&'f DeploymentRow> {
        fleet.deployment(&DeploymentId::from(id))
    }

    fn head(row: &DeploymentRow) -> Head<'_> {
        Head {
            id: row.id.text(),
            organization: &row.organization,
            updated_at: row.updated_at,
            leaves: row.deleting.is_some(),
        }
    }

    fn show(
        shared: &Shared,
        fleet: &Fleet,
        caller: &Caller,
        row: &DeploymentRow,
        leaves: bool,
    ) -> Value {
        let going = leaves.then(|| DeploymentRow {
            deleting: row.deleting.or(Some(shared.handle.now())),
            ..row.clone()
        });
        shared.show_fleet(fleet, caller, |shown| shown.resource(going.as_ref().unwrap_or(row)))
    }

    fn parameters(_: &Shared, view: &View, caller: &Caller) -> Value {
        offer(view, caller, &caller.organization).deployment_parameters()
    }

    fn creation(shared: &Shared, _: &View, write: &Write) -> Result<(String, Action), Fault> {
        let (id, action) = creation(shared, write, false)?;
        Ok((id.to_string(), action))
    }

    fn replacement(
        shared: &Shared,
        view: &View,
        write: &Write,
        row: &DeploymentRow,
    ) -> Result<Action, Fault> {
        replacement(shared, view, &write.caller, &write.body, row, false)
    }

    fn deletion(row: &DeploymentRow) -> Action {
        Action::Deployment(deployments::Action::Delete { id: row.id.clone() })
    }
}

/// The command that creates what a body asks for, and the new deployment's id.
pub fn creation(
    shared: &Shared,
    write: &Write,
    own: bool,
) -> Result<(DeploymentId, Action), Fault> {
    let view = shared.handle.view();
    let organization = organization(&write.caller, &write.body)?;
    let offer = offer(&view, &write.caller, &organization);
    let strict = shared.config.compat.strict;
    let context = Context { offer: &offer, strict, current: None, own };
    let draft = deployment::read(&write.body, &context)?;
    let id = DeploymentId::from(draft.chosen_id().as_str());
    let spec = draft.spec.into();
    let create = deployments::Action::Create { id: id.clone(), organization, spec };
    Ok((id, Action::Deployment(create)))
}

/// The command that replaces a deployment by what a body asks for.
pub fn replacement(
    shared: &Shared,
    view: &View,
    caller: &Caller,
    body: &Map<String, Value>,
    row: &DeploymentRow,
    own: bool,
) -> Result<Action, Fault> {
    let offer = offer(view, caller, &row.organization);
    let strict = shared.config.compat.strict;
    let context = Context { offer: &offer, strict, current: Some(&row.spec), own };
    let draft = deployment::read(body, &context)?;
    draft.is_still("deployment", &row.id.text(), &row.organization)?;
    let spec = draft.spec.into();
    Ok(Action::Deployment(deployments::Action::Replace { id: row.id.clone(), spec }))
}

/// What there is to choose from for an organization's deployments.
pub fn offer(view: &View, caller: &Caller, organization: &OrganizationId) -> Offer {
    let fleet = view.fleet();
    let mut offer = Offer::default();
    let open = |owner: Option<&OrganizationId>| owner.is_none_or(|owner| owner == organization);
    for pool in fleet.pools().filter(|pool| open(pool.owner.as_ref())) {
        offer.zones.insert(pool.zone.clone());
        offer.instance_types.insert(pool.sku.clone());
    }
    // A front door over a tenant's own zone is the provider's to give to others.
    if caller.is_provider() {
        offer.zones.extend(fleet.pools().map(|pool| pool.zone.clone()));
    }
    for node in fleet.nodes().filter(|node| open(node.owner.as_ref())) {
        for engine in node.inventory.engines.iter() {
            offer.add_engine(engine);
        }
    }
    let own = |owner: &OrganizationId| owner == organization && caller.sees(owner);
    let gateways = fleet.gateways().filter(|gateway| own(&gateway.organization));
    offer.gateways = gateways.map(|gateway| gateway.id.clone()).collect();
    offer
}
