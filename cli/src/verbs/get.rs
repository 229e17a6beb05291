//! `get` and `describe`.

use serde_json::Value;

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
    ("HEALTH", "/health"),
    ("INTENT", "/intent"),
    ("DEPARTURE", "/departure"),
    ("GPUS", "#/gpus"),
    ("FREE", "/free_gpus"),
];
const DEPLOYMENTS: &[Column] = &[
    ("DEPLOYMENT", "/name"),
    ("ID", "/id"),
    ("MODEL", "/model"),
    ("STATUS", "/status/status"),
    ("READY", "/ready"),
    ("DESIRED", "/desired"),
    ("MIN", "/spec/autoscaling/min"),
    ("MAX", "/spec/autoscaling/max"),
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
    ("USABLE", "/usable"),
    ("GUARANTEED", "/guaranteed"),
    ("COMMITTED", "/committed"),
    ("USED", "/used"),
    ("FREE", "/free"),
];

/// `wharfage get WHAT`.
pub async fn list(client: &Client, what: Listable, how: Output) -> Result<(), Failure> {
    let (path, plural, columns) = match what {
        Listable::Nodes => ("/api/v1/nodes", "nodes", NODES),
        Listable::Deployments => ("/api/v1/deployments", "deployments", DEPLOYMENTS),
        Listable::Replicas => ("/api/v1/replicas", "replicas", REPLICAS),
        Listable::Gateways => ("/v1alpha1/inference/gateways", "gateways", GATEWAYS),
        Listable::Nodepools => ("/api/v1/nodepools", "nodepools", POOLS),
        Listable::Contracts => ("/api/v1/contracts", "contracts", CONTRACTS),
        Listable::Prices => ("/api/v1/prices", "prices", PRICES),
        Listable::Invoices => ("/api/v1/invoices", "invoices", INVOICES),
        Listable::Capacity => ("/api/v1/capacity", "capacity", CAPACITY),
    };
    output::rows(&client.get(path).await?, plural, columns, how)
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
