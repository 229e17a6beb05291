//! `get` and `describe`.

use serde_json::{Value, json};

use super::{deployment_id, escaped};
use crate::args::{Describable, Listable, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const NODES: &[Column] = &[
    ("NODE", "/id"),
    ("POOL", "/pool"),
    ("ZONE", "/zone"),
    ("SKU", "/sku"),
    ("CLASS", "/compute_class"),
    ("REACH", "/reach"),
    ("HEALTH", "/health_words"),
    ("INTENT", "/intent"),
    ("DEPARTURE", "/departure"),
    ("GPUS", "#/gpus"),
    ("FREE", "/free_gpus"),
    ("HELD BY", "/held_by"),
    ("BECAUSE", "/because"),
];
const DEPLOYMENTS: &[Column] = &[
    ("DEPLOYMENT", "/name"),
    ("ID", "/id"),
    ("MODEL", "/model"),
    ("STATUS", "/status/status"),
    ("READY", "/ready"),
    ("DESIRED", "/desired"),
    ("MIN", "/spec/autoscaling/min|/spec/autoscaling/min_replica"),
    ("MAX", "/spec/autoscaling/max|/spec/autoscaling/max_replica"),
    ("PRIORITY", "/priority"),
    ("CLASSES", "/capacity_classes"),
];
const REPLICAS: &[Column] = &[
    ("REPLICA", "/id"),
    ("DEPLOYMENT", "/deployment_name"),
    ("NODE", "/node"),
    ("GPUS", "#/gpus"),
    ("PHASE", "/phase"),
    ("SINCE", "/since"),
    ("PROGRESS", "/progress"),
    ("BECAUSE", "/because"),
];
const GATEWAYS: &[Column] = &[
    ("GATEWAY", "/spec/name"),
    ("ID", "/spec/id"),
    ("ZONES", "/spec/zones"),
    ("STATUS", "/status/status"),
    ("ENDPOINTS", "/status/endpoints"),
];
const POOLS: &[Column] = &[
    ("POOL", "/id"),
    ("ZONE", "/zone"),
    ("SKU", "/sku"),
    ("CLASS", "/compute_class"),
    ("TENANCY", "/tenancy"),
    ("OWNER", "/owner"),
    ("NODES", "/nodes"),
    ("TARGET", "/target_nodes"),
    ("CURRENT", "/current_nodes"),
    ("QUEUED", "/queued_nodes"),
];
/// The rows of `wharfage get claims` and `wharfage claim list`.
pub const CLAIMS: &[Column] = &[
    ("CLAIM", "/spec/name"),
    ("ID", "/spec/id"),
    ("ORGANIZATION", "/spec/organizationId"),
    ("TYPE", "/spec/resources/capacityType"),
    ("SKU", "/spec/resources/instanceId"),
    ("ZONES", "/spec/resources/zones"),
    ("COUNT", "/spec/resources/instanceCount"),
    ("ALLOCATED", "/status/allocatedInstances"),
    ("PENDING", "/status/pendingInstances"),
    ("STATUS", "/status/status"),
];
const QUOTAS: &[Column] = &[
    ("ORGANIZATION", "/organization"),
    ("ZONE", "/zone"),
    ("SKU", "/sku"),
    ("INSTANCES", "/instances"),
    ("CLAIMED", "/claimed"),
    ("LEFT", "/left"),
    ("SET", "/set"),
];
const CONTRACTS: &[Column] = &[
    ("CONTRACT", "/id"),
    ("ORGANIZATION", "/organization"),
    ("PLAN", "/plan"),
    ("SKU", "/sku"),
    ("REGION", "/region"),
    ("INSTANCES", "/instances"),
    ("START", "/start"),
    ("END", "/end"),
];
const PRICES: &[Column] = &[
    ("SKU", "/sku"),
    ("REGION", "/region"),
    ("ON-DEMAND", "/on_demand"),
    ("SPOT", "/spot"),
    ("GPU-HOUR", "/gpu_hour"),
    ("FROM", "/from"),
];
const INVOICES: &[Column] = &[
    ("INVOICE", "/id"),
    ("ORGANIZATION", "/organization"),
    ("STATUS", "/status"),
    ("FROM", "/from"),
    ("TO", "/to"),
    ("TOTAL", "/total"),
    ("CURRENCY", "/currency"),
];
const CAPACITY: &[Column] = &[
    ("REGION", "/region"),
    ("ZONE", "/zone"),
    ("SKU", "/sku"),
    ("NODES", "/nodes"),
    ("USABLE", "/usable"),
    ("USED", "/used"),
    ("CLAIMED", "/claimed"),
    ("IDLE", "/idle"),
    ("RECLAIMABLE", "/reclaimable"),
    ("SPOT", "/spot_usable"),
    ("SPOT USED", "/spot_used"),
    ("GUARANTEED", "/guaranteed"),
    ("COMMITTED", "/committed"),
    ("FREE", "/free"),
    ("SHORTFALL", "/shortfall"),
];

/// `wharfage get WHAT`.
pub async fn list(client: &Client, what: Listable, how: Output) -> Result<(), Failure> {
    let (path, plural, columns) = match what {
        Listable::Nodes => ("/api/v1/nodes", "nodes", NODES),
        Listable::Deployments => ("/api/v1/deployments", "deployments", DEPLOYMENTS),
        Listable::Replicas => ("/api/v1/replicas", "replicas", REPLICAS),
        Listable::Gateways => ("/v1alpha1/inference/gateways", "gateways", GATEWAYS),
        Listable::Nodepools => ("/api/v1/nodepools", "nodepools", POOLS),
        Listable::Claims => ("/v1alpha1/inference/capacityclaims", "capacityClaims", CLAIMS),
        Listable::Quotas => ("/api/v1/quotas", "quotas", QUOTAS),
        Listable::Contracts => ("/api/v1/contracts", "contracts", CONTRACTS),
        Listable::Prices => ("/api/v1/prices", "prices", PRICES),
        Listable::Invoices => ("/api/v1/invoices", "invoices", INVOICES),
        Listable::Capacity => ("/api/v1/capacity", "capacity", CAPACITY),
    };
    let answer = client.get(path).await?;
    match (what, how) {
        (Listable::Capacity, Output::Table) => {
            let flat = json!({ plural: flattened(&answer[plural]) });
            output::rows(&flat, plural, columns, how)
        }
        (Listable::Nodes, Output::Table) => {
            output::rows(&json!({ plural: in_words(&answer[plural]) }), plural, columns, how)
        }
        _ => output::rows(&answer, plural, columns, how),
    }
}

/// The ledger as a table reads it: the row of a region's SKU, then a row for each of its zones.
fn flattened(ledger: &Value) -> Vec<Value> {
    let mut flat = Vec::new();
    for total in ledger.as_array().into_iter().flatten() {
        flat.push(total.clone());
        for (zone, part) in total["zones"].as_object().into_iter().flatten() {
            let mut row = part.clone();
            row["region"] = total["region"].clone();
            row["sku"] = total["sku"].clone();
            row["zone"] = json!(zone);
            flat.push(row);
        }
    }
    flat
}

/// Nodes with their health in words: how many GPUs are closed, and the first reason for anything.
fn in_words(nodes: &Value) -> Vec<Value> {
    let mut told = Vec::new();
    for node in nodes.as_array().into_iter().flatten() {
        let mut row = node.clone();
        let gpus = node["gpus"].as_array().into_iter().flatten();
        let closed: Vec<&str> = gpus.filter_map(|gpu| gpu["unfit"].as_str()).collect();
        let health = node["health"].as_str().unwrap_or("-");
        row["health_words"] = match (health, closed.len()) {
            ("fit", 1) => json!("fit, 1 GPU closed"),
            ("fit", count @ 2..) => json!(format!("fit, {count} GPUs closed")),
            (health, _) => json!(health),
        };
        let first = closed.first().map(|because| json!(because));
        let of_node = Some(&node["health_because"]).filter(|because| because.is_string());
        row["because"] = of_node.cloned().or(first).unwrap_or(Value::Null);
        told.push(row);
    }
    told
}

/// `wharfage describe WHAT ID`.
pub async fn describe(
    client: &Client,
    what: Describable,
    id: &str,
    how: Output,
) -> Result<(), Failure> {
    let answer: Value = match what {
        Describable::Node => client.get(&format!("/api/v1/nodes/{}", escaped(id))).await?,
        Describable::Replica => client.get(&format!("/api/v1/replicas/{}", escaped(id))).await?,
        Describable::Deployment => {
            let id = deployment_id(client, id).await?;
            client.get(&format!("/api/v1/deployments/{}", escaped(&id))).await?
        }
    };
    output::described(&answer, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_health_reads_in_words_with_the_first_reason() {
        let node = |health: &str, because: Value, unfit: [Value; 2]| {
            let gpus = unfit.map(|unfit| json!({ "unfit": unfit }));
            json!({ "health": health, "health_because": because, "gpus": gpus })
        };
        let fit = || Value::Null;
        let nodes = json!([
            node("fit", fit(), [fit(), fit()]),
            node("fit", fit(), [fit(), json!("cordoned by XID 48")]),
            node("unfit", json!("the disk is full"), [json!("it hangs"), fit()]),
        ]);
        let columns = [("HEALTH", "/health_words"), ("BECAUSE", "/because")];
        let table = output::table(&in_words(&nodes), &columns);
        let rows: Vec<&str> = table.lines().map(str::trim).collect();
        let reads = |row: usize| rows[row].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(reads(1), "fit -");
        assert_eq!(reads(2), "fit, 1 GPU closed cordoned by XID 48");
        assert_eq!(reads(3), "unfit the disk is full");
    }

    #[test]
    fn the_ledger_reads_region_first_then_zone_by_zone() {
        let zone = |used: u32| json!({ "nodes": 2, "usable": 2, "used": used, "idle": 1 });
        let ledger = json!([{
            "region": "US-EAST-04", "sku": "gd-8xh100ib-i128", "usable": 4, "used": 3, "free": 1,
            "zones": { "US-EAST-04A": zone(1), "US-EAST-04B": zone(2) },
        }]);
        let columns = [("ZONE", "/zone"), ("SKU", "/sku"), ("USED", "/used"), ("FREE", "/free")];
        let table = output::table(&flattened(&ledger), &columns);
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["-", "gd-8xh100ib-i128", "3", "1"]);
        assert_eq!(rows[2], ["US-EAST-04A", "gd-8xh100ib-i128", "1", "-"]);
        assert_eq!(rows[3], ["US-EAST-04B", "gd-8xh100ib-i128", "2", "-"]);
    }
}
