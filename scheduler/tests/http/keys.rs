//! Idempotency keys: every write that succeeds happens once for its key, whatever API it came by.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharfage_scheduler::http::fault::Style;
use wharfage_scheduler::http::routes;

use crate::lines::{KINDS, claim};
use crate::support::{Answer, SKU, Scheduler, ZONE, client, deployment, gateway, read};

/// Writes that this story leaves out, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("POST /api/v1/brakes/{rule}/release", "a brake takes a fleet of faults: the core tells it"),
    ("POST /api/v1/invoices/{id}/verify", "it changes nothing"),
];

/// One write: its row in the table of routes, the path that is asked, the token, the body.
struct Step(&'static str, String, &'static str, Option<Value>);

fn step(row: &'static str, token: &'static str, body: impl Into<Option<Value>>) -> Step {
    let (_, path) = row.split_once(' ').expect("method and path");
    Step(row, path.to_owned(), token, body.into())
}

fn at(row: &'static str, path: &str, token: &'static str, body: impl Into<Option<Value>>) -> Step {
    Step(row, path.to_owned(), token, body.into())
}

const OWN: &str = "acme-operator";
const ADMIN: &str = "provider-admin";

/// The resources of CoreWeave's API over REST and over Connect.
fn resources(steps: &mut Vec<Step>) {
    for kind in &KINDS {
        let rows: [&'static str; 3] = match kind.one {
            "capacityClaim" => [
                "POST /v1alpha1/inference/capacityclaims",
                "PATCH /v1alpha1/inference/capacityclaims/{id}",
                "DELETE /v1alpha1/inference/capacityclaims/{id}",
            ],
            "deployment" => [
                "POST /v1alpha1/inference/deployments",
                "PATCH /v1alpha1/inference/deployments/{id}",
                "DELETE /v1alpha1/inference/deployments/{id}",
            ],
            _gateway => [
                "POST /v1alpha1/inference/gateways",
                "PATCH /v1alpha1/inference/gateways/{id}",
                "DELETE /v1alpha1/inference/gateways/{id}",
            ],
        };
        let body = (kind.body)("once");
        steps.push(step(rows[0], OWN, body.clone()));
        steps.push(at(rows[1], &kind.path("once"), OWN, body));
        steps.push(at(rows[2], &kind.path("once"), OWN, None));
        let body = (kind.body)("connect");
        let id = json!({"id": body["id"]});
        for (method, body) in [("Create", body.clone()), ("Update", body), ("Delete", id)] {
            let row: &'static str = format!("POST {}", kind.connect(method)).leak();
            steps.push(step(row, OWN, body));
        }
    }
}

/// Our own paths.
fn own(steps: &mut Vec<Step>, replica: &str, drill: &str) {
    let why = || json!({"reason": "a drill"});
    let verb = |row, node: &str, token, body| {
        let (_, path) = str::split_once(row, ' ').expect("method and path");
        at(row, &path.replace("{id}", node), token, body)
    };
    let quota = json!({"organization": "acme", "zone": ZONE, "sku": SKU, "instances": 2});
    let contract = json!({
        "id": "flex", "organization": "acme", "plan": "flex", "sku": SKU, "region": "US-EAST-04",
        "instances": 1, "start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z",
        "holding_rate": "12.31", "usage_rate": "24.62",
    });
    let price = json!({"sku": "b200-8x", "region": "US-EAST-04", "on_demand": "68.80", "gpus": 8});
    steps.extend([
        step("POST /api/v1/organizations", ADMIN, json!({"id": "new"})),
        step("POST /api/v1/tokens", ADMIN, json!({"organization": "new", "roles": ["viewer"]})),
        at("DELETE /api/v1/tokens/{id}", "/api/v1/tokens/tok-rival-viewer", ADMIN, None),
        step("POST /api/v1/nodepools", ADMIN, json!({"id": "p", "zone": ZONE, "sku": SKU})),
        at(
            "PATCH /api/v1/nodepools/{id}",
            "/api/v1/nodepools/p",
            ADMIN,
            json!({"target_nodes": 1}),
        ),
        step("POST /api/v1/joins", ADMIN, json!({"pool": "p"})),
        step("POST /api/v1/quotas", ADMIN, quota),
        at(
            "DELETE /api/v1/quotas/{organization}/{zone}/{sku}",
            &format!("/api/v1/quotas/acme/{ZONE}/{SKU}"),
            ADMIN,
            None,
        ),
        step("POST /api/v1/prices", ADMIN, price),
        step("POST /api/v1/contracts", ADMIN, contract),
        at(
            "POST /api/v1/contracts/{id}/amend",
            "/api/v1/contracts/flex/amend",
            ADMIN,
            json!({"id": "fixed", "rate": "30.00", "from": "2098-01-01T00:00:00Z"}),
        ),
        step("POST /api/v1/invoices", "acme-billing", None),
        step("POST /api/v1/deployments", OWN, deployment("own")),
        at(
            "PATCH /api/v1/deployments/{id}",
            "/api/v1/deployments/d-own",
            OWN,
            json!({"autoscaling": {"max": 5}}),
        ),
        at(
            "PATCH /v1/models/{model}/deployments/{deployment}/autoscaling_settings",
            "/v1/models/own-model/deployments/d-own/autoscaling_settings",
            OWN,
            json!({"concurrency_target": 3}),
        ),
        at("DELETE /api/v1/deployments/{id}", "/api/v1/deployments/d-own", OWN, None),
        at("DELETE /api/v1/replicas/{id}", &format!("/api/v1/replicas/{replica}"), OWN, None),
        step("POST /api/v1/drills", ADMIN, yearly_drill("two")),
        at("DELETE /api/v1/drills/{id}", &format!("/api/v1/drills/{drill}"), ADMIN, None),
        step(
            "POST /api/v1/notices",
            ADMIN,
            json!({"id": "n-1", "node": "node-2", "kind": "preempt", "in_seconds": 86_400}),
        ),
        step(
            "POST /api/v1/notices/oci",
            ADMIN,
            json!({"eventType": "com.oraclecloud.computeapi.instancepreemptionaction",
                   "data": {"resourceId": "spot-1"}}),
        ),
        verb("POST /api/v1/nodes/{id}/cordon", "node-2", ADMIN, why()),
        verb("POST /api/v1/nodes/{id}/uncordon", "node-2", ADMIN, why()),
        verb("POST /api/v1/nodes/{id}/drain", "node-2", ADMIN, why()),
        verb("POST /api/v1/nodes/{id}/retire", "node-2", ADMIN, why()),
        verb("POST /api/v1/nodes/{id}/rejoin", "node-2", ADMIN, why()),
        verb("POST /api/v1/nodes/{id}/reclaim", "spot-1", ADMIN, why()),
    ]);
}

/// One that is not due while the test runs.
fn yearly_drill(name: &str) -> Value {
    let schedule = json!({"cron": "30 3 29 FEB *"});
    json!({"name": name, "scope": {"node": "node-2"}, "profile": "gcp-30", "schedule": schedule})
}

async fn send(scheduler: &Scheduler, step: &Step, body: Option<&Value>) -> Answer {
    let Step(row, path, token, _) = step;
    let (method, _) = row.split_once(' ').expect("method and path");
    let method = method.parse().expect("a method");
    let request = client().request(method, format!("{}{path}", scheduler.url));
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.header("idempotency-key", "the-one");
    match body {
        None => read(request).await,
        Some(body) => read(request.json(body)).await,
    }
}

/// Writes in the table of routes: over Connect reads are POST too.
fn writes() -> BTreeSet<String> {
    let reads = |path: &str| {
        let method = path.rsplit('/').next().unwrap_or_default();
        path.starts_with("/coreweave.") && (method.starts_with("Get") || method.starts_with("List"))
    };
    routes()
        .into_iter()
        .filter(|route| route.style != Style::Page && route.method.as_str() != "GET")
        .filter(|route| !reads(route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect()
}

#[tokio::test]
async fn every_write_with_a_key_happens_once_and_a_dry_run_of_it_never() {
    let scheduler = Scheduler::start("keys").await;
    let mut node = scheduler.node("node-1", "standard").await;
    let _others =
        [scheduler.node("node-2", "standard").await, scheduler.node("spot-1", "spot").await];
    scheduler.gateways().await;
    scheduler.post("/api/v1/deployments", OWN, &deployment("chat")).await.expect(201);
    node.next().await;
    let rows = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let replica = rows["replicas"][0]["id"].as_str().expect("an id").to_owned();
    let mut steps = Vec::new();
    resources(&mut steps);
    let drill = scheduler.post("/api/v1/drills", ADMIN, &yearly_drill("one")).await.expect(201);
    own(&mut steps, &replica, drill["id"].as_str().expect("an id"));
    for step in &steps {
        let row = step.0;
        let before = commands(&scheduler).await;
        let (method, path) = row.split_once(' ').expect("method and path");
        let dry = format!("{}?dryRun=true", step.1);
        let dry = scheduler.ask(method, &dry, Some(step.2), step.3.as_ref()).await;
        assert_eq!(dry.expect(200)["dryRun"], true, "{row} on {path}");
        assert_eq!(commands(&scheduler).await, before, "a dry run of {row} was carried out");
        let first = send(&scheduler, step, step.3.as_ref()).await;
        assert!(matches!(first.status, 200 | 201), "{row}: {}", first.text);
        assert!(!first.headers.contains_key("idempotency-replayed"), "{row}");
        let commands = commands(&scheduler).await;
        let again = send(&scheduler, step, step.3.as_ref()).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{row}");
        assert_eq!(again.headers["idempotency-replayed"], "true", "{row}");
        let other = json!({"another": "body"});
        assert_eq!(send(&scheduler, step, Some(&other)).await.status, 422, "{row}");
        assert_eq!(self::commands(&scheduler).await, commands, "{row} was carried out again");
    }
    let mut told: BTreeSet<String> = steps.iter().map(|step| step.0.to_owned()).collect();
    told.extend(LEFT_OUT.map(|(row, _)| row.to_owned()));
    assert_eq!(told, writes(), "a write without a step, or a step without a write");
    scheduler.stop().await;
}

/// Commands in the log.
async fn commands(scheduler: &Scheduler) -> usize {
    scheduler.commands_since(0).await.len()
}

#[tokio::test]
async fn a_key_of_a_refused_request_is_free_and_two_at_once_make_one() {
    let scheduler = Scheduler::start("keys-refused").await;
    let _node = scheduler.node("node-1", "standard").await;
    let claims = step("POST /v1alpha1/inference/capacityclaims", OWN, None);
    let too_much = claim("hold", "SERVERLESS", 9);
    assert_eq!(send(&scheduler, &claims, Some(&too_much)).await.status, 429);
    let mut good = claim("hold", "SERVERLESS", 1);
    good.as_object_mut().and_then(|body| body.remove("id"));
    let (one, two) = tokio::join!(
        send(&scheduler, &claims, Some(&good)),
        send(&scheduler, &claims, Some(&good))
    );
    assert_eq!(one.expect(200), two.expect(200));
    let doors = step("POST /v1alpha1/inference/gateways", OWN, None);
    let door = gateway("door");
    assert_eq!(send(&scheduler, &doors, Some(&door)).await.status, 200, "keys are a path's own");
    scheduler.stop().await;
}
