//! Nodes and what an operator does with them, pools, the ledger.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::capacity::finder::{self, Wish};
use wharfage_scheduler_core::ledger;
use wharfage_scheduler_core::words::command::{Action, nodes};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::words::principal::{Caller, Role};
use wharfage_shared::capacity::{ComputeClass, Sku};
use wharfage_shared::ids::{NodeId, PoolId};

use super::bodies;
use super::invoices::asked_organization;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared, query};

/// Most instances that one search asks for.
const MOST_WANTED: u32 = 100_000;

pub fn routes() -> Vec<Route> {
    let operator = Access::Provider(Role::Operator);
    let admin = Access::Provider(Role::Admin);
    vec![
        Route::get("/api/v1/nodes", "Nodes with their axes and GPUs.", list).access(Access::Read),
        Route::get("/api/v1/nodes/{id}", "One node.", get).access(Access::Read),
        Route::post("/api/v1/nodes/{id}/cordon", "Place nothing new there.", cordon)
            .access(operator)
            .takes("Verb"),
        Route::post("/api/v1/nodes/{id}/uncordon", "Use it again.", uncordon)
            .access(operator)
            .takes("Verb"),
        Route::post("/api/v1/nodes/{id}/drain", "Empty it, replacement first.", drain)
            .access(operator)
            .takes("Verb"),
        Route::post("/api/v1/nodes/{id}/reclaim", "Take spot capacity back.", reclaim)
            .access(operator)
            .takes("Reclaim"),
        Route::post("/api/v1/nodes/{id}/retire", "It will not come back.", retire)
            .access(admin)
            .takes("Verb"),
        Route::post("/api/v1/nodes/{id}/rejoin", "Let its name enrol anew.", rejoin)
            .access(admin)
            .takes("Verb"),
        Route::get("/api/v1/brakes", "Health rules that hit too many nodes at once.", brakes)
            .access(Access::Read),
        Route::post("/api/v1/brakes/{rule}/release", "Drain and reset again by itself.", release)
            .access(operator)
            .takes("Verb"),
        Route::get("/api/v1/nodepools", "Pools of nodes.", pools).access(Access::Read),
        Route::post("/api/v1/nodepools", "Make a pool.", create_pool)
            .access(admin)
            .takes("NodePool"),
        Route::patch("/api/v1/nodepools/{id}", "How many nodes a pool is to have.", size_pool)
            .access(admin)
            .takes("PoolSize"),
        Route::get("/api/v1/capacity/find", "Zones by the chance of getting instances.", find)
            .access(Access::Read)
            .query(&["sku", "count", "class", "organization"]),
        Route::get("/api/v1/capacity", "The ledger by region, zone and SKU.", capacity)
            .access(Access::Read),
    ]
}

async fn list(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    Json(shared.show(&caller, |shown| json!({"nodes": shown.nodes(), "brakes": shown.brakes()})))
}

async fn get(
    State(shared): State<Shared>,
    Who(caller): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Fault> {
    shared.show(&caller, |shown| {
        let node = shown.fleet.node(&NodeId::from(id.as_str()));
        let node = node.filter(|node| shown.sees_node(node));
        let node = node.ok_or_else(|| Fault::not_found("node", &id))?;
        Ok(Json(json!(shown.node(node))))
    })
}

async fn cordon(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    verb(&shared, write, id, |node, verb| nodes::Action::Cordon { node, reason: verb.reason }).await
}

async fn uncordon(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    verb(&shared, write, id, |node, verb| nodes::Action::Uncordon { node, reason: verb.reason })
        .await
}

async fn drain(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    verb(&shared, write, id, |node, verb| nodes::Action::Drain { node, reason: verb.reason }).await
}

async fn retire(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    verb(&shared, write, id, |node, verb| nodes::Action::Retire { node, reason: verb.reason }).await
}

async fn rejoin(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    verb(&shared, write, id, |node, _| nodes::Action::AllowRejoin { node }).await
}

async fn reclaim(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let verb = bodies::read(&write.body, |fields| bodies::verb(fields, true))?;
    let action = nodes::Action::Reclaim {
        node: NodeId::from(id.as_str()),
        reason: verb.reason,
        leaves: verb.leaves,
        drain_after: verb.drain_after,
        gone_after: verb.gone_after,
    };
    answer(&shared, write, id, action).await
}

async fn verb(
    shared: &Shared,
    write: Write,
    id: String,
    action: impl FnOnce(NodeId, bodies::Verb) -> nodes::Action,
) -> Result<Response, Fault> {
    let verb = bodies::read(&write.body, |fields| bodies::verb(fields, false))?;
    let action = action(NodeId::from(id.as_str()), verb);
    answer(shared, write, id, action).await
}

async fn answer(
    shared: &Shared,
    write: Write,
    id: String,
    action: nodes::Action,
) -> Result<Response, Fault> {
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, _: &_| {
        let node = fleet.node(&NodeId::from(id.as_str()));
        let row = node.map(|node| of.show_fleet(fleet, &caller, |shown| shown.node(node)));
        (StatusCode::OK, json!(row))
    };
    write.carry_out(shared, Action::Node(action), render).await
}

async fn brakes(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    Json(json!({"brakes": shared.show(&caller, |shown| shown.brakes())}))
}

async fn release(
    State(shared): State<Shared>,
    Parted(rule): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let verb = bodies::read(&write.body, |fields| bodies::verb(fields, false))?;
    let (of, caller) = (shared.clone(), write.caller.clone());
    let render = move |fleet: &Fleet, _: &_| {
        let brakes = of.show_fleet(fleet, &caller, |shown| shown.brakes());
        (StatusCode::OK, json!({"brakes": brakes}))
    };
    let action = nodes::Action::ReleaseBrake { rule, reason: verb.reason };
    write.carry_out(&shared, Action::Node(action), render).await
}

async fn pools(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let visible = view
        .fleet()
        .pools()
        .filter(|pool| pool.owner.as_ref().is_none_or(|owner| caller.sees(owner)));
    let rows: Vec<Value> = visible.map(|pool| pool_row(view.fleet(), pool)).collect();
    Json(json!({"nodepools": rows}))
}

async fn create_pool(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let (pool, size) = bodies::read(&write.body, |fields| {
        let size = bodies::pool_size(fields, None);
        bodies::pool(fields).map(|pool| (pool, size))
    })?;
    let id = pool.id.clone();
    let action = match size {
        Some(size) => nodes::Action::CreateSizedPool { pool, size },
        None => nodes::Action::CreatePool(pool),
    };
    answer_pool(&shared, write, StatusCode::CREATED, id, action).await
}

async fn size_pool(
    State(shared): State<Shared>,
    Parted(id): Parted<String>,
    write: Write,
) -> Result<Response, Fault> {
    let view = shared.handle.view();
    let pool = PoolId::from(id.as_str());
    let known = view.fleet().pool_count(&pool).map(|count| count.size);
    let size = bodies::read(&write.body, |fields| Some(bodies::pool_size(fields, known)))?;
    let accepted = "at least one of target_nodes, min_nodes, max_nodes";
    let size = size.ok_or_else(|| Fault::field("target_nodes", "it is missing", accepted))?;
    let action = nodes::Action::SizePool { pool: pool.clone(), size };
    answer_pool(&shared, write, StatusCode::OK, pool, action).await
}

async fn answer_pool(
    shared: &Shared,
    write: Write,
    status: StatusCode,
    id: PoolId,
    action: nodes::Action,
) -> Result<Response, Fault> {
    let render = move |fleet: &Fleet, _: &_| {
        (status, json!(fleet.pool(&id).map(|pool| pool_row(fleet, pool))))
    };
    write.carry_out(shared, Action::Node(action), render).await
}

/// A pool with its counts: `current_nodes` and `queued_nodes` once it is to have a stated number.
fn pool_row(fleet: &Fleet, pool: &Pool) -> Value {
    let of = |id: &PoolId| fleet.nodes().filter(|node| node.pool == *id).count();
    let count = fleet.pool_count(&pool.id);
    let mut row = json!(pool);
    row["region"] = json!(pool.zone.region());
    row["nodes"] = json!(of(&pool.id));
    row["target_nodes"] = json!(count.map(|count| count.size.target));
    row["min_nodes"] = json!(count.map(|count| count.size.min));
    row["max_nodes"] = json!(count.map(|count| count.size.max));
    row["current_nodes"] = json!(count.map(|count| count.current));
    row["queued_nodes"] = json!(count.map(|count| count.queued));
    row
}

async fn capacity(State(shared): State<Shared>, Who(caller): Who) -> Json<Value> {
    let view = shared.handle.view();
    let mut rows = ledger::capacity(view.fleet());
    for row in &mut rows {
        row.organizations.retain(|organization, _| caller.sees(organization));
    }
    Json(json!({"capacity": rows}))
}

async fn find(
    State(shared): State<Shared>,
    Who(caller): Who,
    uri: Uri,
) -> Result<Json<Value>, Fault> {
    let view = shared.handle.view();
    let wish = wish(view.fleet(), &caller, &uri)?;
    let found = finder::find(view.fleet(), shared.handle.policy(), &wish, shared.handle.now());
    Ok(Json(json!({
        "sku": wish.sku,
        "count": wish.count,
        "class": wish.class,
        "zones": found,
    })))
}

fn wish(fleet: &Fleet, caller: &Caller, uri: &Uri) -> Result<Wish, Fault> {
    let known: BTreeSet<&Sku> = fleet.pools().map(|pool| &pool.sku).collect();
    let accepted = known.iter().map(|sku| sku.as_str()).collect::<Vec<_>>().join(", ");
    let sku = query::value(uri, "sku").map(|text| Sku::new(&text));
    let sku = sku.ok_or_else(|| Fault::field("sku", "it is missing", accepted.clone()))?;
    if !known.contains(&sku) {
        return Err(Fault::field("sku", format!("the fleet has no `{sku}`"), accepted));
    }
    let count = query::whole(uri, "count", u64::from(MOST_WANTED))?.unwrap_or(1);
    let count = u32::try_from(count).unwrap_or(MOST_WANTED);
    if count == 0 {
        let accepted = format!("a whole number from 1 to {MOST_WANTED}");
        return Err(Fault::field("count", "it is 0", accepted));
    }
    let class = match query::value(uri, "class").as_deref() {
        None | Some("standard" | "on_demand" | "on-demand") => ComputeClass::Standard,
        Some("spot") => ComputeClass::Spot,
        Some(other) => {
            let problem = format!("it is `{other}`");
            return Err(Fault::field("class", problem, "standard, on_demand, spot"));
        }
    };
    let organization = asked_organization(caller, uri)?;
    Ok(Wish { organization, sku, count, class })
}
