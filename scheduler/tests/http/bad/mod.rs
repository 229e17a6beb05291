//! Bad input: every field of every create and patch, and what is wrong between fields. The field
//! is named in the words of its API, and nothing has changed.

mod schema;
mod together;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharfage_scheduler::http::fault::Style;
use wharfage_scheduler::http::route::{Access, style_of};
use wharfage_scheduler::http::routes;

use crate::lines::claim;
use crate::support::{Answer, Node, SKU, Scheduler, ZONE, deployment, gateway};

/// A scheduler that takes many writes a minute.
pub async fn empty(name: &str) -> Scheduler {
    Scheduler::start_with(name, "[limits]\nwrites_per_minute = 1000000\n").await
}

/// What is there to be changed: `d-chat` and its replica, `front`, `c-hold`, pools, a contract.
pub async fn furnish(scheduler: &Scheduler) -> Vec<Node<'_>> {
    let mut nodes = Vec::new();
    for (node, class) in [("node-1", "standard"), ("node-2", "standard"), ("spot-1", "spot")] {
        nodes.push(scheduler.node(node, class).await);
    }
    scheduler.gateways().await;
    let posts = [
        ("/api/v1/deployments", "acme-operator", deployment("chat")),
        ("/v1alpha1/inference/capacityclaims", "acme-operator", claim("hold", "SERVERLESS", 1)),
        ("/api/v1/contracts", "provider-admin", contract()),
    ];
    for (path, token, body) in posts {
        let made = scheduler.post(path, token, &body).await;
        assert!(matches!(made.status, 200 | 201), "{path}: {}", made.text);
    }
    // What they are told to run is ready once they have said so.
    beat(&mut nodes).await;
    beat(&mut nodes).await;
    nodes
}

/// A contract that neither begins nor binds before long.
pub fn contract() -> Value {
    json!({
        "id": "flex", "organization": "acme", "plan": "flex", "sku": SKU, "region": "US-EAST-04",
        "instances": 1, "start": "2098-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z",
        "holding_rate": "12.31", "usage_rate": "24.62",
    })
}

/// Everything that the log says, but for the meter, which runs by itself.
pub fn state(scheduler: &Scheduler) -> Value {
    let view = scheduler.driver.handle.view();
    let mut state = serde_json::to_value(view.fleet()).expect("a fleet is JSON");
    state.as_object_mut().and_then(|state| state.remove("meter"));
    state
}

/// A route's path with things that are there in its open parts.
fn asked(path: &str) -> String {
    let id = match path {
        _ if path.contains("capacityclaims") => "c-hold",
        _ if path.contains("gateways") => "front",
        _ if path.contains("nodepools") => "pool-standard",
        _ if path.contains("nodes") => "spot-1",
        _ if path.contains("contracts") => "flex",
        _deployments => "d-chat",
    };
    let path = path.replace("{id}", id).replace("{rule}", "xid-79");
    path.replace("{model}", "chat-model").replace("{deployment}", "d-chat")
}

/// Whether a route changes what is there.
fn updates(path: &str) -> bool {
    path.contains("{id}") || path.contains("/Update")
}

/// A body that a route takes as it is.
fn good(schema: &str, path: &str) -> Value {
    let patches = updates(path);
    match schema {
        "Deployment" if patches => deployment("chat"),
        "Deployment" => deployment("new"),
        "Gateway" if patches => gateway("front"),
        "Gateway" => gateway("new"),
        "CapacityClaim" if patches => claim("hold", "SERVERLESS", 1),
        "CapacityClaim" => claim("new", "SERVERLESS", 1),
        "AutoscalingSettings" => json!({"min_replica": 1}),
        "Verb" | "Reclaim" => json!({"reason": "a drill"}),
        "Notice" => json!({
            "id": "n-1", "node": "node-1", "kind": "preempt", "in_seconds": 60
        }),
        "NodePool" => json!({"id": "new", "zone": ZONE, "sku": SKU}),
        "Drill" => json!({
            "name": "weekly", "scope": {"node": "node-1"}, "profile": "custom",
            "window_seconds": 60, "budget": {"nodes_at_once": 1, "within_hours": 24},
            "abort": {"below_min_ready": true, "fewer_than_ready": 1},
            "targets": {"first_action_seconds": 5, "requests_cut": 0},
            "schedule": {"cron": "0 3 * * *", "time_zone": "UTC"},
        }),
        "PoolSize" => json!({"target_nodes": 1}),
        "Contract" => json!({
            "id": "new", "organization": "acme", "plan": "reserved", "sku": SKU,
            "region": "US-EAST-04", "instances": 1, "start": "2026-01-01T00:00:00Z",
            "end": "2099-01-01T00:00:00Z", "rate": "20.00",
        }),
        "Amendment" => json!({"id": "new", "rate": "20.00"}),
        "Quota" => json!({"organization": "acme", "zone": ZONE, "sku": SKU, "instances": 1}),
        "Price" => json!({"sku": SKU, "region": "US-EAST-04", "on_demand": "40.00"}),
        "Period" => json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}),
        "Organization" => json!({"id": "new"}),
        "Token" => json!({"organization": "acme", "roles": ["viewer"]}),
        "Join" => json!({"pool": "pool-standard"}),
        other => panic!("no good body is known for the schema {other}: write one"),
    }
}

/// Whose token a route is asked with.
fn token(access: Access) -> &'static str {
    match access {
        Access::Provider(_) => "provider-admin",
        _tenants => "acme-admin",
    }
}

/// Fields that a path does not have, or has for another purpose.
fn is_left_out(path: &str, updates: bool, case: &schema::Case) -> bool {
    let over_connect = path.starts_with("/coreweave.");
    // A name is fixed for life, so an update need not say it again.
    if updates && case.field == "name" && case.value.is_none() {
        return true;
    }
    // The dialect is a word of our own API; over Connect an update's id says what is changed.
    (case.field == "dialect" && !path.starts_with("/api/"))
        || (case.field == "id" && over_connect && path.contains("/Update"))
}

/// The fields that an answer names, and what it says, in whichever API's words.
pub fn named(path: &str, refused: &Answer) -> (Vec<String>, String) {
    let body = refused.json();
    let rows = match style_of(path) {
        Style::Rest => {
            assert_eq!((&body["code"], &body["status"]), (&json!(3), &json!("INVALID_ARGUMENT")));
            body["details"][0]["fieldViolations"].clone()
        }
        Style::Connect => {
            assert_eq!(body["code"], "invalid_argument");
            body["details"][0]["debug"]["fieldViolations"].clone()
        }
        Style::Problem => {
            assert_eq!(refused.headers["content-type"], "application/problem+json");
            assert_eq!(body["code"], "invalid");
            body["violations"].clone()
        }
        Style::Baseten | Style::Page => {
            assert_eq!(body["code"], "VALIDATION_ERROR");
            let message = body["message"].as_str().expect("a message").to_owned();
            let fields = message.split("; ").filter_map(|part| part.split_once(": "));
            return (fields.map(|(field, _)| field.to_owned()).collect(), message);
        }
    };
    let rows = rows.as_array().cloned().unwrap_or_default();
    let fields = rows.iter().filter_map(|row| row["field"].as_str());
    (fields.map(str::to_owned).collect(), body.to_string())
}

/// Keeps nodes connected while many cases are tried.
pub async fn beat(nodes: &mut [Node<'_>]) {
    for node in nodes {
        node.next().await;
    }
}

#[tokio::test]
async fn every_field_of_every_body_is_refused_outside_its_range_and_nothing_changes() {
    let scheduler = empty("bad-fields").await;
    let mut nodes = furnish(&scheduler).await;
    let document = scheduler.get("/openapi.json", "acme-viewer").await.expect(200);
    let schemas = &document["components"]["schemas"];
    let before = state(&scheduler);
    let mut wrong = Vec::new();
    let mut tried = 0;
    for route in routes() {
        let Some(schema) = route.takes else { continue };
        let (path, good) = (asked(route.path), good(schema, route.path));
        let (method, token) = (route.method.as_str(), token(route.access));
        for mut case in schema::cases(&schemas[schema]) {
            if is_left_out(&path, updates(route.path), &case) {
                continue;
            }
            if case.value.is_none() && method == "PATCH" && path.starts_with("/api/") {
                case.value = Some(Value::Null); // What is not named stays as it is; null removes.
            }
            let body = schema::body(&good, &case);
            let refused = scheduler.ask(method, &path, Some(token), Some(&body)).await;
            tried += 1;
            let value = case.value.as_ref().map_or("nothing".to_owned(), Value::to_string);
            let told = format!("{method} {path} with {} = {value:.80}", case.pointer);
            if refused.status != 400 {
                wrong.push(format!("{told}: {} {:.200}", refused.status, refused.text));
                continue;
            }
            let (fields, text) = named(&path, &refused);
            if !fields.contains(&case.field) || !text.contains("accepted") {
                wrong.push(format!("{told}: does not name {}: {text:.300}", case.field));
            }
        }
        beat(&mut nodes).await;
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 1000, "only {tried} cases");
    assert_eq!(state(&scheduler), before);
    scheduler.stop().await;
}

#[tokio::test]
async fn the_fields_that_are_read_are_those_that_the_document_lists() {
    let scheduler = empty("bad-listed").await;
    let _nodes = furnish(&scheduler).await;
    let document = scheduler.get("/openapi.json", "acme-viewer").await.expect(200);
    let schemas = &document["components"]["schemas"];
    for route in routes() {
        let Some(schema) = route.takes else { continue };
        let (path, good) = (asked(route.path), good(schema, route.path));
        let mut body = good.clone();
        body["noSuchField"] = json!(1);
        let (method, token) = (route.method.as_str(), token(route.access));
        let refused = scheduler.ask(method, &path, Some(token), Some(&body)).await;
        let text = refused.json().to_string();
        let accepted = text.split("no such field; accepted: ").nth(1).or_else(|| {
            // Our own words say apart what is accepted.
            text.split("\"accepted\":\"").nth(1)
        });
        let accepted = accepted.and_then(|rest| rest.split(['"', ';']).next()).unwrap_or_default();
        let read: BTreeSet<String> = accepted.split(", ").map(str::to_owned).collect();
        let mut listed: BTreeSet<String> = schema::names(&schemas[schema]).into_iter().collect();
        // Beside what a resource is: whose and which, and what other releases send.
        for beside in ["id", "organizationId", "dialect", "hotLoad", "weightsAndBiasesAuth"] {
            if read.contains(beside) {
                listed.insert(beside.to_owned());
            } else {
                listed.remove(beside);
            }
        }
        if schema == "Contract" {
            // The rates are those of the plan.
            listed.retain(|name| !name.ends_with("_rate"));
        }
        assert_eq!(read, listed, "{method} {path}: {text}");
    }
    scheduler.stop().await;
}
