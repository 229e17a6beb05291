//! Nodes and what an operator does with them, pools, the ledger.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::ledger;
use wharfage_scheduler_core::words::command::{Action, nodes};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::ids::{NodeId, PoolId};

use super::bodies;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Parted, Shared};

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
    let pool = bodies::read(&write.body, bodies::pool)?;
    let id = pool.id.clone();
    let render = move |fleet: &Fleet, _: &_| {
        (StatusCode::CREATED, json!(fleet.pool(&id).map(|pool| pool_row(fleet, pool))))
    };
    write.carry_out(&shared, Action::Node(nodes::Action::CreatePool(pool)), render).await
}

fn pool_row(fleet: &Fleet, pool: &Pool) -> Value {
    let of = |id: &PoolId| fleet.nodes().filter(|node| node.pool == *id).count();
    let mut row = json!(pool);
    row["region"] = json!(pool.zone.region());
    row["nodes"] = json!(of(&pool.id));
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
