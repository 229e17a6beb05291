//! What an operator does on a new installation, done through the same API.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use wharfage_shared::capacity::{Region, Zone};

use super::fleet::{self, DevNode};
use super::prices;
use crate::client::Client;
use crate::exit::Failure;

/// The tenant of a development installation.
pub const TENANT: &str = "acme";

/// The name of the pool that a node belongs to: nodes alike in every respect share one.
pub fn pool_of(node: &DevNode) -> String {
    let owner = node.owner.as_ref().map_or(String::new(), |owner| format!("-{owner}"));
    let zone = node.zone.as_str().to_ascii_lowercase();
    format!("{}-{}-{}{owner}", zone, node.sku, node.compute_class)
}

/// The provider's token, which the scheduler wrote at its first start.
pub fn admin_token(scheduler_state: &Path) -> Result<String, Failure> {
    let path = scheduler_state.join("admin.token");
    std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|error| {
        Failure::unavailable(format!("{}: cannot be read: {error}", path.display()))
    })
}

/// A node that joins as late as a fleet file may say is let in.
const JOIN_SECONDS: u32 = fleet::MOST_SECONDS + 3600;

/// Makes the tenant, its token with every tenant role, and the list prices of each region.
pub async fn tenant(admin: &Client, nodes: &[DevNode]) -> Result<String, Failure> {
    let organization = json!({ "id": TENANT, "currency": "USD" });
    admin.post("/api/v1/organizations", &organization).await?;
    for owner in owners(nodes) {
        let organization = json!({ "id": owner, "currency": "USD" });
        admin.post("/api/v1/organizations", &organization).await?;
    }
    let token = json!({
        "organization": TENANT,
        "name": "development",
        "roles": ["viewer", "operator", "billing", "admin"],
    });
    let made = admin.post("/api/v1/tokens", &token).await?;
    let secret = text(&made, "token")?;
    let mut regions: Vec<Region> = nodes.iter().map(|node| node.zone.region()).collect();
    regions.sort();
    regions.dedup();
    for region in regions {
        for (sku, on_demand, spot, gpus, gpu_hour) in prices::LIST {
            let mut price = json!({
                "sku": sku, "region": region, "on_demand": on_demand, "gpus": gpus,
                "gpu_hour": gpu_hour, "from": "2026-01-01T00:00:00Z",
            });
            if let (Some(spot), Value::Object(price)) = (spot, &mut price) {
                price.insert("spot".to_owned(), spot.into());
            }
            admin.post("/api/v1/prices", &price).await?;
        }
    }
    Ok(secret)
}

fn owners(nodes: &[DevNode]) -> Vec<String> {
    let mut owners: Vec<String> =
        nodes.iter().filter_map(|node| node.owner.as_ref()).map(ToString::to_string).collect();
    owners.sort();
    owners.dedup();
    owners.retain(|owner| owner != TENANT);
    owners
}

/// Makes the pools and one join string for each: pool -> join string.
pub async fn pools(admin: &Client, nodes: &[DevNode]) -> Result<BTreeMap<String, String>, Failure> {
    let mut joins = BTreeMap::new();
    for node in nodes {
        let pool = pool_of(node);
        if joins.contains_key(&pool) {
            continue;
        }
        let mut body = json!({
            "id": pool, "zone": node.zone, "sku": node.sku, "compute_class": node.compute_class,
        });
        if let (Some(owner), Value::Object(body)) = (&node.owner, &mut body) {
            body.insert("owner".to_owned(), owner.to_string().into());
        }
        admin.post("/api/v1/nodepools", &body).await?;
        let uses = nodes.iter().filter(|other| pool_of(other) == pool).count();
        let join = json!({
            "admits": "nodes", "pool": pool, "uses": uses, "expires_in_seconds": JOIN_SECONDS,
        });
        let made = admin.post("/api/v1/joins", &join).await?;
        joins.insert(pool, text(&made, "join")?);
    }
    Ok(joins)
}

/// A join string for one gateway process.
pub async fn gateway_join(admin: &Client) -> Result<String, Failure> {
    let made = admin.post("/api/v1/joins", &json!({ "admits": "gateways", "uses": 1 })).await?;
    text(&made, "join")
}

/// The tenant's front door over all zones of the fleet, the provider's to give: one may be another
/// tenant's own.
pub async fn gateway(admin: &Client, nodes: &[DevNode]) -> Result<String, Failure> {
    let mut zones: Vec<&Zone> = nodes.iter().map(|node| &node.zone).collect();
    zones.sort();
    zones.dedup();
    let body = json!({
        "name": "development",
        "organizationId": TENANT,
        "zones": zones,
        "coreWeaveAuth": {},
        "bodyBasedRouting": { "apiType": "API_TYPE_OPENAI" },
    });
    let made = admin.post("/v1alpha1/inference/gateways", &body).await?;
    made.pointer("/gateway/spec/id")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::check(format!("the new gateway has no id: {made}")))
}

fn text(answer: &Value, key: &str) -> Result<String, Failure> {
    answer
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::check(format!("`{key}` is missing in the answer")))
}
