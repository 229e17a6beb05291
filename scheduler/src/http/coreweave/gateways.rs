//! `GatewayService`: REST under `/v1alpha1/inference/gateways`, and Connect.

use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::gateway::GatewayRow;
use wharfage_scheduler_core::words::command::{Action, gateways};
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::GatewayId;

use super::deployments::offer;
use super::gateway;
use super::resource::organization;
use super::service::{Head, Service, Words};
use crate::driver::View;
use crate::http::Shared;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::rows::instant;

/// Gateway resources.
pub struct Gateways;

impl Service for Gateways {
    type Row = GatewayRow;

    const COSTS: bool = false;

    const WORDS: Words = Words {
        one: "gateway",
        all: "gateways",
        schema: "Gateway",
        rest: [
            "/v1alpha1/inference/gateways",
            "/v1alpha1/inference/gateways/{id}",
            "/v1alpha1/inference/gateways/parameters",
        ],
        connect: [
            "/coreweave.inference.v1alpha1.GatewayService/ListGateways",
            "/coreweave.inference.v1alpha1.GatewayService/CreateGateway",
            "/coreweave.inference.v1alpha1.GatewayService/GetGatewayParameters",
            "/coreweave.inference.v1alpha1.GatewayService/GetGateway",
            "/coreweave.inference.v1alpha1.GatewayService/UpdateGateway",
            "/coreweave.inference.v1alpha1.GatewayService/DeleteGateway",
        ],
        summaries: [
            "List gateways.",
            "Create a gateway.",
            "The zones a gateway may name.",
            "One gateway.",
            "Replace a gateway's specification.",
            "Delete a gateway that no deployment names.",
        ],
    };

    fn rows(fleet: &Fleet) -> impl Iterator<Item = &GatewayRow> {
        fleet.gateways()
    }

    fn row<'f>(fleet: &'f Fleet, id: &str) -> Option<&'f GatewayRow> {
        fleet.gateway(&GatewayId::from(id))
    }

    fn head(row: &GatewayRow) -> Head<'_> {
        Head {
            id: row.id.as_str().into(),
            organization: &row.organization,
            updated_at: row.updated_at,
            leaves: false,
        }
    }

    fn show(shared: &Shared, fleet: &Fleet, _: &Caller, row: &GatewayRow, leaves: bool) -> Value {
        let served = if leaves { Vec::new() } else { endpoints(shared) };
        resource(fleet, &served, row, leaves)
    }

    fn parameters(_: &Shared, view: &View, caller: &Caller) -> Value {
        offer(view, caller, &caller.organization).gateway_parameters()
    }

    fn creation(_: &Shared, view: &View, write: &Write) -> Result<(String, Action), Fault> {
        let organization = organization(&write.caller, &write.body)?;
        let offer = offer(view, &write.caller, &organization);
        let draft = gateway::read(&write.body, &offer, None)?;
        let id = draft.chosen_id();
        let gateway = GatewayId::from(id.as_str());
        let create = gateways::Action::Create { id: gateway, organization, spec: draft.spec };
        Ok((id, Action::Gateway(create)))
    }

    fn replacement(
        _: &Shared,
        view: &View,
        write: &Write,
        row: &GatewayRow,
    ) -> Result<Action, Fault> {
        let offer = offer(view, &write.caller, &row.organization);
        let draft = gateway::read(&write.body, &offer, Some(&row.spec))?;
        draft.is_still("gateway", row.id.as_str(), &row.organization)?;
        Ok(Action::Gateway(gateways::Action::Replace { id: row.id.clone(), spec: draft.spec }))
    }

    fn deletion(row: &GatewayRow) -> Action {
        Action::Gateway(gateways::Action::Delete { id: row.id.clone() })
    }
}

/// Where the gateway processes that are alive listen: each serves every resource.
fn endpoints(shared: &Shared) -> Vec<String> {
    shared.telemetry.endpoints(shared.handle.now())
}

/// The resource: it is ready once a gateway process serves it, and names where it is reached, the
/// customer's own names after the processes.
fn resource(fleet: &Fleet, served: &[String], row: &GatewayRow, is_deleted: bool) -> Value {
    let serving = fleet.gateway_processes().filter(|process| process.connected);
    let since = serving.map(|process| process.since).min();
    let word = match (is_deleted, since) {
        (true, _) => "STATUS_DELETING",
        (false, Some(_)) => "STATUS_READY",
        (false, None) => "STATUS_CREATING",
    };
    let ready = since.is_some() && !is_deleted;
    let message = match (is_deleted, since) {
        (true, _) => "it is being removed",
        (false, Some(_)) => "a gateway process serves it",
        (false, None) => "no gateway process is connected",
    };
    let zone = match row.spec.zones.as_slice() {
        [zone] => zone.as_str(),
        _several => "",
    };
    let own = row.spec.additional_dns.iter().map(|name| format!("https://{name}"));
    let endpoints: Vec<String> = served.iter().cloned().chain(own).collect();
    json!({
        "spec": gateway::show(row.id.as_str(), row.organization.as_str(), &row.spec),
        "status": {
            "status": word,
            "createdAt": instant(row.created_at),
            "updatedAt": instant(row.updated_at),
            "endpoints": endpoints,
            "conditions": [{
                "type": "Ready",
                "status": if ready { "True" } else { "False" },
                "reason": if ready { "AsExpected" } else { "NotServed" },
                "message": message,
                "zone": zone,
                "lastUpdateTime": instant(since.unwrap_or(row.updated_at).max(row.updated_at)),
            }],
        },
    })
}
