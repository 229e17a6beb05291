//! What facts about gateways do to the fleet.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::fleet::rows::gateway::{GatewayProcessRow, GatewayRow};
use crate::words::event::gateway::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Created { gateway, organization, spec, at } => {
            let row = GatewayRow {
                id: gateway.clone(),
                organization: organization.clone(),
                spec: spec.clone(),
                created_at: *at,
                updated_at: *at,
            };
            fleet.gateways.insert(gateway.clone(), Arc::new(row));
            fleet.routes_number += 1;
        }
        Event::Replaced { gateway, spec, at } => {
            if let Some(row) = fleet.gateways.get_mut(gateway) {
                let row = Arc::make_mut(row);
                row.spec = spec.clone();
                row.updated_at = *at;
            }
            fleet.routes_number += 1;
        }
        Event::Deleted { gateway, .. } => {
            fleet.gateways.remove(gateway);
            fleet.routes_number += 1;
        }
        Event::Enrolled { name, key, at, join: _ } => {
            let row = GatewayProcessRow {
                name: name.clone(),
                key: key.clone(),
                enrolled_at: *at,
                connected: false,
                since: *at,
            };
            fleet.gateway_processes.insert(name.clone(), Arc::new(row));
        }
        Event::Connected { name, at } => connect(fleet, name, true, *at),
        Event::Lapsed { name, at } => connect(fleet, name, false, *at),
    }
}

fn connect(
    fleet: &mut Fleet,
    name: &wharfage_shared::ids::GatewayName,
    connected: bool,
    at: wharfage_shared::time::Timestamp,
) {
    if let Some(row) = fleet.gateway_processes.get_mut(name) {
        let row = Arc::make_mut(row);
        row.connected = connected;
        row.since = at;
    }
}
