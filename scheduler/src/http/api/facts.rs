//! Which facts a caller may see, and how they are shown.
//!
//! The provider sees all but hashes of secrets and kept answers. A tenant sees facts about its own
//! things and about nodes that it may be placed on, without the operator's words; a fact whose
//! owner is not known any more is not shown to it.

use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::words::event::{
    Event, access, claim, deployment, gateway, meter, money, node, replica,
};
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::{ClaimId, DeploymentId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::time::Timestamp;

use crate::driver::{Cause, Record};
use crate::http::rows::instant;

/// Fields that stand for secrets or keys: never shown.
const HIDDEN: [&str; 2] = ["sha256", "key"];

/// Fields of a node's facts that are the provider's own business.
const OPERATORS: [&str; 4] = ["join", "nonce", "reason", "epoch"];

/// The record as the caller may see it; nothing if it may see none of its facts.
pub fn record(
    fleet: &Fleet,
    caller: &Caller,
    position: u64,
    at: Timestamp,
    record: &Record,
) -> Option<Value> {
    let facts: Vec<Value> =
        record.events.iter().filter_map(|event| fact(fleet, caller, event)).collect();
    if facts.is_empty() {
        return None;
    }
    Some(json!({
        "position": position,
        "at": instant(at),
        "cause": cause(caller, &record.cause),
        "facts": facts,
    }))
}

/// What made the record be written, if the caller may know.
pub fn cause(caller: &Caller, cause: &Cause) -> Option<Value> {
    match cause {
        Cause::Command { organization, token, action } => caller
            .sees(organization)
            .then(|| json!({"command": action, "organization": organization, "token": token})),
        Cause::Tick | Cause::Start => Some(json!(cause)),
        Cause::Heartbeat { .. } | Cause::Segments { .. } | Cause::Gateway { .. } => {
            caller.is_provider().then(|| json!(cause))
        }
    }
}

/// One fact as the caller may see it.
fn fact(fleet: &Fleet, caller: &Caller, event: &Event) -> Option<Value> {
    let allowed = match event {
        Event::Request(_) => false,
        _other if caller.is_provider() => true,
        Event::Term { .. } => true,
        // Whose replicas stand on the node is told by their own facts.
        Event::Drill(_) => false,
        Event::Node(event) => sees_node_fact(fleet, caller, event),
        Event::Replica(event) => sees_replica(fleet, caller, event.replica(), event),
        Event::Deployment(event) => sees_deployment_fact(fleet, caller, event),
        Event::Gateway(event) => sees_gateway_fact(fleet, caller, event),
        Event::Claim(event) => sees_claim_fact(fleet, caller, event),
        Event::Money(event) => sees_money_fact(fleet, caller, event),
        Event::Access(event) => sees_access_fact(fleet, caller, event),
        Event::Meter(event) => sees_meter_fact(caller, event),
    };
    if !allowed {
        return None;
    }
    let mut value = json!(event);
    hide(&mut value, &HIDDEN);
    if !caller.is_provider() && matches!(event, Event::Node(_)) {
        hide(&mut value, &OPERATORS);
    }
    Some(value)
}

fn sees_node(caller: &Caller, node: &NodeRow) -> bool {
    node.owner.as_ref().is_none_or(|owner| caller.sees(owner))
}

fn sees_node_fact(fleet: &Fleet, caller: &Caller, event: &node::Event) -> bool {
    let known = |id: &NodeId| fleet.node(id).is_some_and(|node| sees_node(caller, node));
    match event {
        node::Event::PoolCreated { pool } => {
            pool.owner.as_ref().is_none_or(|owner| caller.sees(owner))
        }
        node::Event::PoolSized { pool, .. } | node::Event::PoolCounted { pool, .. } => {
            let pool = fleet.pool(pool);
            let owner = pool.and_then(|pool| pool.owner.as_ref());
            owner.is_some_and(|owner| caller.sees(owner))
        }
        node::Event::Held { node, held_for, .. } => {
            let mine = |held: &HeldFor| caller.sees(&held.organization);
            known(node) && held_for.as_ref().is_some_and(mine)
        }
        node::Event::Called { organization, .. } => caller.sees(organization),
        node::Event::EpochIssued { .. }
        | node::Event::RejoinAllowed { .. }
        | node::Event::CallEnded { .. }
        | node::Event::Doubted { .. }
        | node::Event::BrakePulled { .. }
        | node::Event::BrakeReleased { .. }
        | node::Event::OrphanFound { .. }
        | node::Event::OrphanGone { .. } => false,
        node::Event::Enrolled { node, .. }
        | node::Event::ReachChanged { node, .. }
        | node::Event::InventoryReported { node, .. }
        | node::Event::HealthChanged { node, .. }
        | node::Event::HardwareJudged { node, .. }
        | node::Event::IntentChanged { node, .. }
        | node::Event::Noticed { node, .. }
        | node::Event::NoticeEnded { node, .. }
        | node::Event::Lendable { node, .. }
        | node::Event::Departed { node, .. } => known(node),
    }
}

fn sees_replica(fleet: &Fleet, caller: &Caller, id: ReplicaId, event: &replica::Event) -> bool {
    let by_row = fleet.replica(id).map(|row| caller.sees(&row.organization));
    match (by_row, event) {
        (Some(sees), _) => sees,
        (None, replica::Event::Created { deployment, .. }) => {
            sees_deployment(fleet, caller, deployment)
        }
        (None, _) => false,
    }
}

fn sees_deployment(fleet: &Fleet, caller: &Caller, id: &DeploymentId) -> bool {
    fleet.deployment(id).is_some_and(|row| caller.sees(&row.organization))
}

fn sees_deployment_fact(fleet: &Fleet, caller: &Caller, event: &deployment::Event) -> bool {
    match event {
        deployment::Event::Created { organization, .. } => caller.sees(organization),
        deployment::Event::Replaced { deployment, .. }
        | deployment::Event::SettingsChanged { deployment, .. }
        | deployment::Event::Scaled { deployment, .. }
        | deployment::Event::BackedOff { deployment, .. }
        | deployment::Event::Deleted { deployment, .. }
        | deployment::Event::Removed { deployment } => sees_deployment(fleet, caller, deployment),
    }
}

fn sees_gateway_fact(fleet: &Fleet, caller: &Caller, event: &gateway::Event) -> bool {
    match event {
        gateway::Event::Created { organization, .. } => caller.sees(organization),
        gateway::Event::Replaced { gateway, .. } | gateway::Event::Deleted { gateway, .. } => {
            fleet.gateway(gateway).is_some_and(|row| caller.sees(&row.organization))
        }
        gateway::Event::Enrolled { .. }
        | gateway::Event::Connected { .. }
        | gateway::Event::Lapsed { .. } => false,
    }
}

fn sees_claim_fact(fleet: &Fleet, caller: &Caller, event: &claim::Event) -> bool {
    let own = |id: &ClaimId| fleet.claim(id).is_some_and(|row| caller.sees(&row.organization));
    match event {
        claim::Event::QuotaSet { quota, .. } => caller.sees(&quota.organization),
        claim::Event::Created { organization, .. } => caller.sees(organization),
        claim::Event::Resized { claim, .. }
        | claim::Event::Granted { claim, .. }
        | claim::Event::Bound { claim, .. }
        | claim::Event::Filled { claim, .. }
        | claim::Event::Released { claim, .. }
        | claim::Event::Deleted { claim, .. } => own(claim),
    }
}

fn sees_money_fact(fleet: &Fleet, caller: &Caller, event: &money::Event) -> bool {
    use wharfage_scheduler_core::words::principal::Role;
    let pays =
        |organization: &OrganizationId| caller.may(Role::Billing) && caller.sees(organization);
    match event {
        money::Event::Signed { contract, .. } => pays(&contract.organization),
        money::Event::Amended { by, .. } => pays(&by.organization),
        money::Event::ContractStarted { contract, .. }
        | money::Event::ContractEnded { contract, .. } => {
            fleet.contract(contract).is_some_and(|row| pays(&row.contract.organization))
        }
        money::Event::PriceSet { .. } => true,
        money::Event::InvoiceDrafted { invoice } => pays(&invoice.organization),
    }
}

fn sees_access_fact(fleet: &Fleet, caller: &Caller, event: &access::Event) -> bool {
    use wharfage_scheduler_core::words::principal::Role;
    let admin = caller.may(Role::Admin);
    match event {
        access::Event::OrganizationCreated { organization, .. } => caller.sees(organization),
        access::Event::TokenCreated { organization, .. } => admin && caller.sees(organization),
        access::Event::TokenRevoked { token, .. } => {
            admin && fleet.token(token).is_some_and(|row| caller.sees(&row.organization))
        }
        access::Event::JoinCreated { .. } | access::Event::JoinUsed { .. } => false,
    }
}

fn sees_meter_fact(caller: &Caller, event: &meter::Event) -> bool {
    let mine = |held: Option<&HeldFor>| held.is_some_and(|held| caller.sees(&held.organization));
    match event {
        meter::Event::SegmentOpened { segment, .. } => mine(segment.held_for.as_ref()),
        meter::Event::SegmentClosed { segment, .. } => mine(segment.held_for.as_ref()),
        meter::Event::SegmentSuperseded { .. }
        | meter::Event::Incident { .. }
        | meter::Event::Offset { .. }
        | meter::Event::Tick { .. } => false,
    }
}

/// Takes fields out, wherever they are. Only texts: a segment's `key` is a name made of several.
fn hide(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let is_secret = key != "key" || value.is_string();
                !(names.contains(&key.as_str()) && is_secret)
            });
            map.values_mut().for_each(|value| hide(value, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| hide(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
