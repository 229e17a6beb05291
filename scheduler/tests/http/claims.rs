//! Capacity claims and quotas over the public listener. Numbers in names are lines of the checklist
//! of the claims' seed.

use serde_json::{Value, json};

use crate::support::{SKU, Scheduler, ZONE, client, deployment, read};

const CLAIMS: &str = "/v1alpha1/inference/capacityclaims";
const SERVICE: &str = "/coreweave.inference.v1alpha1.CapacityClaimService";

fn claim(name: &str, kind: &str, count: u32) -> Value {
    json!({
        "name": name,
        "resources": {
            "instanceId": SKU.to_uppercase(),
            "instanceCount": count,
            "capacityType": format!("CAPACITY_TYPE_{kind}"),
            "zones": [ZONE],
        },
    })
}

fn fields(refused: &Value) -> Vec<&str> {
    let violations = refused["details"][0]["fieldViolations"].as_array();
    let violations = violations.map(Vec::as_slice).unwrap_or_default();
    violations.iter().filter_map(|row| row["field"].as_str()).collect()
}

#[tokio::test]
async fn lines_21_34_36_39_and_40_a_claims_life() {
    let scheduler = Scheduler::start("claim-life").await;
    let _nodes = [scheduler.node("node-1", "standard").await];
    let offered = scheduler.get(&format!("{CLAIMS}/parameters"), "acme-viewer").await.expect(200);
    assert_eq!(offered, json!({"zoneInstanceTypes": {ZONE: {"instanceIds": [SKU]}}}));
    let body = claim("hold", "SERVERLESS", 1);
    let made = scheduler.post(CLAIMS, "acme-operator", &body).await.expect(200);
    let made = &made["capacityClaim"];
    assert_eq!(made["spec"]["resources"]["instanceId"], SKU, "whatever its case");
    assert_eq!(made["spec"]["resources"]["zones"], json!([ZONE]));
    assert_eq!(made["spec"]["organizationId"], "acme");
    assert_eq!(made["status"]["status"], "STATUS_READY");
    assert_eq!(made["status"]["allocatedInstances"], 1);
    assert_eq!(made["status"]["pendingInstances"], 0);
    let ready = &made["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["reason"]), (&json!("Ready"), &json!("AllAllocated")));
    assert_eq!((&ready["status"], &ready["zone"]), (&json!("True"), &json!(ZONE)));
    let one = format!("{CLAIMS}/{}", made["spec"]["id"].as_str().expect("an id"));
    let list = scheduler.get(CLAIMS, "acme-viewer").await.expect(200);
    assert_eq!(list["capacityClaims"][0], *made);
    let rivals = scheduler.get(CLAIMS, "rival-viewer").await.expect(200);
    assert_eq!(rivals, json!({"capacityClaims": []}));
    scheduler.get(&one, "rival-viewer").await.expect(404);
    let gone = scheduler.delete(&one, "acme-operator").await.expect(200);
    assert_eq!(gone["capacityClaim"]["status"]["status"], "STATUS_DELETING");
    let gone = scheduler.get(&one, "acme-viewer").await.expect(404);
    assert_eq!(gone["details"][0]["@type"], "type.googleapis.com/google.rpc.ResourceInfo");
    assert_eq!(gone["details"][0]["resourceType"], "capacityClaim");
    scheduler.stop().await;
}

#[tokio::test]
async fn lines_22_23_24_33_and_49_what_a_claim_may_not_say() {
    let scheduler = Scheduler::start("claim-bad").await;
    let _node = scheduler.node("node-1", "standard").await;
    let with = |key: &str, value: Value| {
        let mut body = claim("hold", "SERVERLESS", 1);
        body["resources"][key] = value;
        body
    };
    for (key, value, field) in [
        ("instanceCount", json!(0), "resources.instanceCount"),
        ("instanceCount", json!(-1), "resources.instanceCount"),
        ("instanceCount", json!(100_001), "resources.instanceCount"),
        ("instanceCount", json!("1"), "resources.instanceCount"),
        ("instanceCount", Value::Null, "resources.instanceCount"),
        ("zones", json!([]), "resources.zones"),
        ("zones", json!([ZONE, "US-EAST-04B"]), "resources.zones"),
        ("zones", json!(["RNO2A"]), "resources.zones[0]"),
        ("zones", Value::Null, "resources.zones"),
        ("instanceId", json!("b200-8x"), "resources.instanceId"),
        ("instanceId", json!(""), "resources.instanceId"),
        ("capacityType", json!("CAPACITY_TYPE_UNSPECIFIED"), "resources.capacityType"),
        ("capacityType", json!(0), "resources.capacityType"),
        ("capacityType", Value::Null, "resources.capacityType"),
        ("color", json!("red"), "resources.color"),
    ] {
        let refused = scheduler.post(CLAIMS, "acme-operator", &with(key, value)).await.expect(400);
        assert_eq!(refused["status"], "INVALID_ARGUMENT");
        assert_eq!(fields(&refused), [field], "{refused}");
    }
    let nameless = json!({"resources": claim("x", "MANAGED", 1)["resources"]});
    let refused = scheduler.post(CLAIMS, "acme-operator", &nameless).await.expect(400);
    assert_eq!(fields(&refused), ["name"]);
    let refused = scheduler.post(CLAIMS, "acme-operator", &json!({"name": "x"})).await.expect(400);
    assert_eq!(fields(&refused), ["resources"]);
    let body = claim("hold", "MANAGED", 1);
    let made = scheduler.post(CLAIMS, "acme-operator", &body).await.expect(200);
    let kind = &made["capacityClaim"]["spec"]["resources"]["capacityType"];
    assert_eq!(kind, "CAPACITY_TYPE_MANAGED", "its own word comes back");
    let again = scheduler.post(CLAIMS, "acme-operator", &body).await.expect(409);
    assert_eq!(again["details"][0]["resourceName"], "hold");
    let one = format!("{CLAIMS}/{}", made["capacityClaim"]["spec"]["id"].as_str().expect("an id"));
    let refused = scheduler.patch(&one, "acme-operator", &claim("held", "CUSTOMER", 1)).await;
    assert_eq!(fields(&refused.expect(400)), ["name", "resources.capacityType"]);
    scheduler.patch(&one, "acme-operator", &json!({"name": "hold"})).await.expect(400);
    scheduler.stop().await;
}

#[tokio::test]
async fn lines_25_26_and_41_a_quota_refuses_and_frees() {
    let scheduler = Scheduler::start("claim-quota").await;
    let _node = scheduler.node("node-1", "standard").await;
    let body = claim("own", "CUSTOMER", 2);
    let refused = scheduler.post(CLAIMS, "acme-operator", &body).await.expect(429);
    assert_eq!(refused["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(refused["details"][0]["@type"], "type.googleapis.com/google.rpc.QuotaFailure");
    let subject = refused["details"][0]["violations"][0]["subject"].as_str().expect("a subject");
    assert_eq!(subject, format!("instances:{ZONE}/{SKU}"));
    let quota = json!({"organization": "acme", "zone": ZONE, "sku": SKU, "instances": 2});
    let set = scheduler.post("/api/v1/quotas", "provider-admin", &quota).await.expect(201);
    assert_eq!(
        (&set["instances"], &set["left"], &set["set"]),
        (&json!(2), &json!(2), &json!(true))
    );
    scheduler.post("/api/v1/quotas", "acme-admin", &quota).await.expect(403);
    let made = scheduler.post(CLAIMS, "acme-operator", &body).await.expect(200);
    let status = &made["capacityClaim"]["status"];
    assert_eq!(status["status"], "STATUS_CREATING");
    let counts = (&status["allocatedInstances"], &status["pendingInstances"]);
    assert_eq!(counts, (&json!(1), &json!(1)), "one node has to join");
    let listed = scheduler.get("/api/v1/quotas", "acme-viewer").await.expect(200);
    assert_eq!(listed["quotas"][0]["left"], 0);
    let listed = scheduler.get("/api/v1/quotas", "rival-viewer").await.expect(200);
    assert_eq!(listed, json!({"quotas": []}));
    let ledger = scheduler.get("/api/v1/capacity", "acme-viewer").await.expect(200);
    let zone = &ledger["capacity"][0]["zones"][ZONE];
    assert_eq!(
        (&zone["usable"], &zone["claimed"], &zone["free"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(ledger["capacity"][0]["organizations"]["acme"]["claimed_customer"], 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn lines_29_and_30_a_resize_and_the_decrease_that_waits() {
    let scheduler = Scheduler::start("claim-resize").await;
    let _nodes = [
        scheduler.node("node-1", "standard").await,
        scheduler.node("node-2", "standard").await,
        scheduler.node("node-3", "standard").await,
    ];
    let mut body = claim("hold", "SERVERLESS", 3);
    body["id"] = json!("c-hold");
    scheduler.post(CLAIMS, "acme-operator", &body).await.expect(200);
    let one = format!("{CLAIMS}/c-hold");
    let counts = |answer: &Value| {
        let status = &answer["capacityClaim"]["status"];
        (status["allocatedInstances"].clone(), status["conditions"][1].clone())
    };
    let first = scheduler.patch(&one, "acme-operator", &claim("hold", "SERVERLESS", 2)).await;
    assert_eq!(counts(&first.expect(200)), (json!(2), Value::Null), "the first one at once");
    let second = scheduler.patch(&one, "acme-operator", &claim("hold", "SERVERLESS", 1)).await;
    let (allocated, condition) = counts(&second.expect(200));
    assert_eq!(allocated, 2);
    assert_eq!(condition["reason"], "DecreaseRateLimited");
    let message = condition["message"].as_str().expect("a message");
    assert!(message.starts_with("target 1 instances from 2"), "{message}");
    let more = scheduler.patch(&one, "acme-operator", &claim("hold", "SERVERLESS", 4)).await;
    assert_eq!(
        more.expect(429)["details"][0]["violations"][0]["subject"],
        format!("capacity:{ZONE}/{SKU}")
    );
    let row = scheduler.get(&one, "acme-viewer").await.expect(200);
    assert_eq!(row["capacityClaim"]["spec"]["resources"]["instanceCount"], 1, "nothing changed");
    scheduler.stop().await;
}

#[tokio::test]
async fn lines_16_17_and_31_a_deployment_and_the_end_of_its_claim() {
    let scheduler = Scheduler::start("claim-use").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    scheduler.post(CLAIMS, "acme-operator", &claim("hold", "SERVERLESS", 1)).await.expect(200);
    let mut chat = deployment("chat");
    chat["autoscaling"]["capacityClasses"] = json!(["CAPACITY_CLASS_ON_DEMAND"]);
    scheduler.post("/v1alpha1/inference/deployments", "acme-operator", &chat).await.expect(200);
    let mut own = deployment("own");
    own["autoscaling"]["capacityClasses"] = json!(["CAPACITY_CLASS_RESERVED"]);
    scheduler.post("/v1alpha1/inference/deployments", "acme-operator", &own).await.expect(200);
    node.next().await;
    node.next().await;
    let place = |name: &'static str| {
        let scheduler = &scheduler;
        async move {
            let rows = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
            let rows = rows["replicas"].as_array().cloned().unwrap_or_default();
            let mut of = rows.into_iter().filter(|row| row["deployment"] == format!("d-{name}"));
            of.next().map(|row| (row["node"].clone(), row["phase"].clone()))
        }
    };
    assert_eq!(place("own").await, Some((json!("node-1"), json!("ready"))));
    assert_eq!(place("chat").await, Some((Value::Null, json!("pending"))));
    let list = scheduler.get(CLAIMS, "acme-viewer").await.expect(200);
    let id = list["capacityClaims"][0]["spec"]["id"].as_str().expect("an id").to_owned();
    scheduler.delete(&format!("{CLAIMS}/{id}"), "acme-operator").await.expect(200);
    assert_eq!(place("own").await, Some((json!("node-1"), json!("draining"))));
    scheduler.stop().await;
}

#[tokio::test]
async fn connect_says_the_same_and_a_key_makes_one_claim() {
    let scheduler = Scheduler::start("claim-connect").await;
    let _node = scheduler.node("node-1", "standard").await;
    let call = |method: &str, body: Value| {
        let path = format!("{SERVICE}/{method}");
        let scheduler = &scheduler;
        async move { scheduler.post(&path, "acme-operator", &body).await }
    };
    let made = call("CreateCapacityClaim", claim("hold", "SERVERLESS", 1)).await.expect(200);
    let id = made["capacityClaim"]["spec"]["id"].clone();
    let same = call("GetCapacityClaim", json!({"id": id})).await.expect(200);
    assert_eq!(same["capacityClaim"]["spec"], made["capacityClaim"]["spec"]);
    let none = call("CreateCapacityClaim", claim("more", "SERVERLESS", 1)).await.expect(429);
    assert_eq!(none["code"], "resource_exhausted");
    assert_eq!(none["details"][0]["type"], "google.rpc.QuotaFailure");
    let mut whole = claim("hold", "SERVERLESS", 1);
    whole["id"] = id.clone();
    call("UpdateCapacityClaim", whole).await.expect(200);
    let all = call("ListCapacityClaims", json!({})).await.expect(200);
    assert_eq!(all["capacityClaims"].as_array().map(Vec::len), Some(1));
    call("DeleteCapacityClaim", json!({"id": id})).await.expect(200);
    let gone = call("GetCapacityClaim", json!({"id": id})).await.expect(404);
    assert_eq!(gone["code"], "not_found");
    let send = || {
        let request = client().post(format!("{}{CLAIMS}", scheduler.url));
        let request = request.header("authorization", "Bearer acme-operator");
        let request = request.header("content-type", "application/json");
        let body = claim("once", "SERVERLESS", 1).to_string();
        read(request.header("idempotency-key", "k-1").body(body))
    };
    let (first, second) = (send().await.expect(200), send().await.expect(200));
    assert_eq!(first["capacityClaim"]["spec"]["id"], second["capacityClaim"]["spec"]["id"]);
    scheduler.stop().await;
}
