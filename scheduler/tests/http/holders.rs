//! Who holds a node, and for whom a lent one is called back: told to those who may know.

use serde_json::{Value, json};

use crate::support::{SKU, Scheduler, deployment};

/// rival's spot deployment has node-1, the only one, lent.
async fn lent(name: &str) -> Scheduler {
    let scheduler = Scheduler::start(name).await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let mut batch = deployment("batch");
    batch["gatewayIds"] = json!(["gate"]);
    batch["autoscaling"]["capacityClasses"] = json!(["CAPACITY_CLASS_SPOT"]);
    scheduler.post("/api/v1/deployments", "rival-operator", &batch).await.expect(201);
    scheduler
}

/// `class`, `lent` and `held_by` of node-1 as a token sees them.
async fn node(scheduler: &Scheduler, token: &str) -> [Value; 3] {
    let row = scheduler.get("/api/v1/nodes/node-1", token).await.expect(200);
    ["compute_class", "lent", "held_by"].map(|key| row[key].clone())
}

#[tokio::test]
async fn a_lent_node_that_is_called_back_is_told_to_both_sides_and_to_nobody_else() {
    let scheduler = lent("lent").await;
    let told = json!("rival, lent as spot");
    assert_eq!(
        node(&scheduler, "provider-viewer").await,
        [json!("spot"), json!(true), told.clone()]
    );
    assert_eq!(node(&scheduler, "rival-viewer").await, [json!("spot"), json!(true), told.clone()]);
    let stranger = [json!("standard"), json!(false), Value::Null];
    assert_eq!(node(&scheduler, "acme-viewer").await, stranger);

    let chat = deployment("chat");
    let dry = scheduler.post("/api/v1/deployments?dryRun=true", "acme-operator", &chat).await;
    let dry = dry.expect(200);
    assert_eq!(dry["reclaims"][0]["node"], "node-1");
    assert_eq!(node(&scheduler, "acme-viewer").await, stranger, "nothing was changed");

    let made = scheduler.post("/api/v1/deployments", "acme-operator", &chat).await.expect(201);
    let condition = &made["status"]["conditions"][1];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("Progressing"), &json!("ReclaimingSpot"))
    );
    let message = condition["message"].as_str().expect("a message");
    assert!(message.contains("will run at 20") && message.contains("reclaims node-1"), "{message}");
    let replicas = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let row = &replicas["replicas"][0];
    assert_eq!(row["phase"], "pending");
    let until = row["room_by"].as_str().expect("when");
    assert!(message.contains(until), "{message} and {until}");
    let path = format!("/api/v1/replicas/{}/explain", row["id"].as_str().expect("an id"));
    let why = scheduler.get(&path, "acme-viewer").await.expect(200);
    assert!(why["summary"].as_str().is_some_and(|text| text.contains("reclaims node-1")), "{why}");

    let [_, _, held_by] = node(&scheduler, "acme-viewer").await;
    assert_eq!(held_by, "called back for acme");
    let [_, _, held_by] = node(&scheduler, "rival-viewer").await;
    assert_eq!(held_by, "rival, lent as spot", "for whom is not rival's business");
    let seen = scheduler.get("/api/v1/nodes/node-1", "rival-viewer").await.expect(200);
    assert_eq!(
        (&seen["departure"], &seen["notice"]["leaves"]),
        (&json!("noticed"), &json!("replicas"))
    );
    let ledger = scheduler.get("/api/v1/capacity", "acme-viewer").await.expect(200);
    assert_eq!(ledger["capacity"][0]["reclaimable"], 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_claim_says_by_when_what_was_lent_is_its_own() {
    let scheduler = lent("lent-claim").await;
    let claim = json!({
        "name": "hold",
        "resources": {"instanceId": SKU, "instanceCount": 1,
                      "capacityType": "CAPACITY_TYPE_SERVERLESS", "zones": ["US-EAST-04A"]},
    });
    let path = "/v1alpha1/inference/capacityclaims";
    let made = scheduler.post(path, "acme-operator", &claim).await;
    assert!(made.status < 300, "{}", made.text);
    let status = &made.json()["capacityClaim"]["status"];
    assert_eq!(
        (&status["allocatedInstances"], &status["pendingInstances"]),
        (&json!(0), &json!(1))
    );
    let condition = &status["conditions"][0];
    assert_eq!(condition["reason"], "ReclaimingSpot");
    let message = condition["message"].as_str().expect("a message");
    assert!(message.contains("what is lent as spot is back by 20"), "{message}");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_node_says_which_contract_or_claim_it_stands_under() {
    let scheduler = Scheduler::start("holders").await;
    let _one = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let chat = deployment("chat");
    scheduler.post("/api/v1/deployments", "acme-operator", &chat).await.expect(201);
    let [_, _, held_by] = node(&scheduler, "acme-viewer").await;
    assert_eq!(held_by, "acme, on demand");
    let contract = json!({
        "id": "c-1", "organization": "acme", "plan": "reserved", "sku": SKU,
        "region": "US-EAST-04", "instances": 1, "start": "2020-01-01T00:00:00Z",
        "end": "2099-01-01T00:00:00Z", "rate": "30.00",
    });
    scheduler.post("/api/v1/contracts", "provider-admin", &contract).await.expect(201);
    let [_, _, held_by] = node(&scheduler, "acme-viewer").await;
    assert_eq!(held_by, "acme, under contract c-1");
    let _two = scheduler.node("node-2", "standard").await;
    let claim = json!({
        "name": "hold",
        "resources": {"instanceId": SKU, "instanceCount": 1,
                      "capacityType": "CAPACITY_TYPE_SERVERLESS", "zones": ["US-EAST-04A"]},
    });
    let path = "/v1alpha1/inference/capacityclaims";
    let made = scheduler.post(path, "acme-operator", &claim).await;
    assert!(made.status < 300, "{}", made.text);
    let row = scheduler.get("/api/v1/nodes/node-2", "acme-viewer").await.expect(200);
    assert!(
        row["held_by"].as_str().is_some_and(|text| text.starts_with("acme, by claim ")),
        "{row}"
    );
    let other = scheduler.get("/api/v1/nodes/node-2", "rival-viewer").await.expect(200);
    assert_eq!((&other["held_by"], &other["claim"]), (&Value::Null, &Value::Null));
    scheduler.stop().await;
}
