//! A capacity claim's body -> the checked words, and back, by the rules of CoreWeave's reference.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use wharfage_billing::timestamp::to_rfc3339;
use wharfage_scheduler_core::capacity::claims;
use wharfage_scheduler_core::fleet::rows::claim::ClaimRow;
use wharfage_scheduler_core::words::claim::Spec;
use wharfage_scheduler_core::{Fleet, Policy};
use wharfage_shared::capacity::{CapacityType, Sku, Zone};
use wharfage_shared::time::Timestamp;

use super::offer::listed;
use super::resource::{self, Draft, LABEL, is_label};
use crate::http::fields::{Fields, Unknown, Wrong};
use crate::http::rows::instant;

/// Most instances of one claim.
const MOST_INSTANCES: u32 = 100_000;

/// A type by name and protobuf number, and whether the name is the later one.
const TYPES: [(&str, u64, (CapacityType, bool)); 3] = [
    ("CAPACITY_TYPE_SERVERLESS", 1, (CapacityType::Serverless, false)),
    ("CAPACITY_TYPE_CUSTOMER", 2, (CapacityType::Customer, false)),
    ("CAPACITY_TYPE_MANAGED", 3, (CapacityType::Serverless, true)),
];

/// What can be claimed: instance types by zone.
pub type Claimable = BTreeMap<Zone, BTreeSet<Sku>>;

/// What a body is read against.
pub struct Context<'a> {
    /// What can be claimed.
    pub claimable: &'a Claimable,
    /// Whether the newest revision's words alone are taken.
    pub strict: bool,
    /// The claim as it is, when the body replaces it.
    pub current: Option<&'a Spec>,
}

/// Reads a body.
pub fn read(body: &Map<String, Value>, context: &Context<'_>) -> Result<Draft<Spec>, Vec<Wrong>> {
    resource::read(body, Unknown::IgnoreEmpty, "capacity claim", |fields| spec(fields, context))
}

fn spec(fields: &Fields<'_>, context: &Context<'_>) -> Option<Spec> {
    let name = name(fields, context.current);
    let resources = fields.required_object("resources")?;
    let zone = zone(&resources, context.claimable);
    let sku = sku(&resources, context, zone.as_ref());
    let instances = resources.required_whole("instanceCount", 1..=MOST_INSTANCES);
    let capacity_type = capacity_type(&resources, context.strict);
    resources.finish();
    let (capacity_type, says_managed) = capacity_type?;
    let (sku, zone, instances) = (sku?, zone?, instances?);
    Some(Spec { name: name?, capacity_type, says_managed, sku, zone, instances })
}

fn name(fields: &Fields<'_>, current: Option<&Spec>) -> Option<String> {
    if let (Some(current), false) = (current, fields.has("name")) {
        return Some(current.name.clone());
    }
    let name = fields.required_text("name", LABEL)?;
    if !is_label(name) {
        fields.wrong("name", format!("`{name}` is no name"), LABEL);
        return None;
    }
    Some(name.to_owned())
}

/// Exactly one, for now.
fn zone(fields: &Fields<'_>, claimable: &Claimable) -> Option<Zone> {
    let accepted = format!("exactly one of {}", listed(claimable.keys()));
    if !fields.has("zones") {
        fields.wrong("zones", "it is missing", accepted);
        return None;
    }
    let zones = fields.texts("zones")?;
    let [zone] = zones.as_slice() else {
        let given = fields.list("zones").map_or(0, <[Value]>::len);
        if zones.len() == given {
            fields.wrong("zones", format!("{given} zones are named"), accepted);
        }
        return None;
    };
    let zone = Zone::new(zone);
    if !claimable.contains_key(&zone) {
        let problem = format!("there is no zone `{zone}` with capacity to claim");
        fields.problems().note(&fields.entry("zones", 0), problem, accepted);
    }
    Some(zone)
}

/// Whatever its case, one of the zone's instance types.
fn sku(fields: &Fields<'_>, context: &Context<'_>, zone: Option<&Zone>) -> Option<Sku> {
    let types = zone.and_then(|zone| context.claimable.get(zone));
    let accepted = types.map_or("an instance type of the zone".to_owned(), listed);
    let text = fields.required_text("instanceId", &accepted)?;
    let sku = Sku::new(text);
    if types.is_some_and(|types| !types.contains(&sku)) {
        let problem = format!("`{text}` cannot be claimed in the zone");
        fields.wrong("instanceId", problem, accepted);
    }
    Some(sku)
}

fn capacity_type(fields: &Fields<'_>, strict: bool) -> Option<(CapacityType, bool)> {
    // What the revision of August 2026 left.
    let words = if strict { &TYPES[2..] } else { &TYPES[..] };
    if !fields.has("capacityType") {
        let names: Vec<&str> = words.iter().map(|(name, _, _)| *name).collect();
        fields.wrong("capacityType", "it is missing", names.join(", "));
        return None;
    }
    fields.word("capacityType", words)
}

/// The resource as the API shows it.
pub fn show(fleet: &Fleet, policy: &Policy, now: Timestamp, row: &ClaimRow) -> Value {
    let spec = &row.spec;
    let capacity_type = match (spec.capacity_type, spec.says_managed) {
        (CapacityType::Serverless, false) => TYPES[0].0,
        (CapacityType::Customer, _) => TYPES[1].0,
        (CapacityType::Serverless, true) => TYPES[2].0,
    };
    let (allocated, pending) = (claims::allocated(fleet, row), claims::pending(fleet, row));
    let word = match (row.deleted_at, pending, row.filled_at) {
        (Some(_), _, _) => "STATUS_DELETING",
        (None, 0, _) => "STATUS_READY",
        (None, _, None) => "STATUS_CREATING",
        (None, _, Some(_)) => "STATUS_UPDATING",
    };
    json!({
        "spec": {
            "id": row.id,
            "name": spec.name,
            "organizationId": row.organization,
            "resources": {
                "instanceId": spec.sku,
                "instanceCount": spec.instances,
                "capacityType": capacity_type,
                "zones": [spec.zone],
            },
        },
        "status": {
            "status": word,
            "createdAt": instant(row.created_at),
            "updatedAt": instant(row.updated_at),
            "allocatedInstances": allocated,
            "pendingInstances": pending,
            "conditions": conditions(row, policy, now, pending, claims::called_back_by(fleet, row)),
        },
    })
}

/// Whether it has all that it is to hold, and the decrease that waits.
fn conditions(
    row: &ClaimRow,
    policy: &Policy,
    now: Timestamp,
    pending: u32,
    called_back_by: Option<Timestamp>,
) -> Vec<Value> {
    let condition = |kind: &str, status: bool, reason: &str, message: String| {
        json!({
            "type": kind,
            "status": if status { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "zone": row.spec.zone,
            "lastUpdateTime": instant(row.updated_at),
        })
    };
    let granted = row.granted;
    let ready = match (row.deleted_at, pending) {
        (Some(_), _) => {
            condition("Ready", false, "Deleting", "its instances are given back".to_owned())
        }
        (None, 0) => {
            let message = format!("all {granted} instances are allocated");
            condition("Ready", true, "AllAllocated", message)
        }
        (None, pending) => {
            let waits = match row.spec.capacity_type {
                CapacityType::Customer => "nodes have to join or to be empty",
                CapacityType::Serverless => "what runs there has to leave, or one was lost",
            };
            let message = format!("{pending} of {granted} instances are pending: {waits}");
            match called_back_by.map(to_rfc3339) {
                Some(by) => {
                    let message = format!("{message}; what is lent as spot is back by {by}");
                    condition("Ready", false, "ReclaimingSpot", message)
                }
                None => condition("Ready", false, "InstancesPending", message),
            }
        }
    };
    let decrease = claims::decreases_at(policy, row, now).map(|at| {
        let every = policy.claim_decrease_seconds;
        let message = format!(
            "target {} instances from {} on: it holds {granted} until then, since a decrease \
             takes effect at most once in {every} s",
            row.spec.instances,
            to_rfc3339(at)
        );
        condition("ScaleDownPending", true, "DecreaseRateLimited", message)
    });
    [ready].into_iter().chain(decrease).collect()
}

/// `GET .../capacityclaims/parameters`.
pub fn parameters(claimable: &Claimable) -> Value {
    let zones = claimable.iter();
    let types: Map<String, Value> =
        zones.map(|(zone, skus)| (zone.to_string(), json!({"instanceIds": skus}))).collect();
    json!({"zoneInstanceTypes": types})
}
