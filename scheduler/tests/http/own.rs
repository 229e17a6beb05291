//! Our own API: nodes and verbs, pools, deployments, replicas, tokens and joins.

use serde_json::{Value, json};
use wharfage_shared::replica::ReportedPhase;

use crate::support::{SKU, Scheduler, ZONE, client, deployment, read};

#[tokio::test]
async fn a_node_shows_its_axes_and_gpus_and_an_operator_moves_its_intent() {
    let scheduler = Scheduler::start("nodes").await;
    let _node = scheduler.node("node-1", "standard").await;
    let row = scheduler.get("/api/v1/nodes/node-1", "provider-viewer").await.expect(200);
    let axes = ["reach", "health", "intent", "departure"].map(|axis| row[axis].clone());
    assert_eq!(axes, [json!("connected"), json!("fit"), json!("open"), json!("none")]);
    assert_eq!((&row["zone"], &row["sku"]), (&json!(ZONE), &json!(SKU)));
    assert_eq!(row["gpus"].as_array().map(Vec::len), Some(8));
    assert_eq!(row["gpus"][2]["memory_mib"], 81_559);
    assert_eq!(row["gpus"][2]["memory_used_mib"], 14_000);
    assert_eq!(row["gpus"][2]["utilization"], 24);
    let verb = async |verb: &str, body: Value| {
        let path = format!("/api/v1/nodes/node-1/{verb}");
        scheduler.post(&path, "provider-operator", &body).await
    };
    let reason = json!({"reason": "fan 3 is loud"});
    let cordoned = verb("cordon", reason.clone()).await.expect(200);
    assert_eq!(
        (&cordoned["intent"], &cordoned["intent_reason"]),
        (&json!("cordoned"), &reason["reason"])
    );
    let seen = scheduler.get("/api/v1/nodes/node-1", "acme-viewer").await.expect(200);
    assert_eq!(seen["intent"], "cordoned");
    assert!(seen["intent_reason"].is_null(), "an operator's words are the provider's");
    assert_eq!(verb("uncordon", reason.clone()).await.expect(200)["intent"], "open");
    assert_eq!(verb("drain", reason.clone()).await.expect(200)["intent"], "draining");
    let refused = verb("reclaim", reason.clone()).await;
    assert_eq!(refused.expect(409)["code"], "precondition_failed", "a standard node stays");
    for (bad, field) in [(json!({}), "reason"), (json!({"reason": "x", "force": true}), "force")] {
        let refused = verb("cordon", bad).await.expect(400);
        assert_eq!(refused["field"], field);
        assert!(refused["accepted"].is_string(), "{refused}");
    }
    let nowhere = scheduler.post("/api/v1/nodes/x/cordon", "provider-operator", &reason).await;
    nowhere.expect(404);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_spot_node_is_reclaimed_with_a_countdown() {
    let scheduler = Scheduler::start("reclaim").await;
    let _node = scheduler.node("spot-1", "spot").await;
    let body = json!({"reason": "needed elsewhere", "leaves": "replicas"});
    let path = "/api/v1/nodes/spot-1/reclaim";
    let row = scheduler.post(path, "provider-operator", &body).await.expect(200);
    assert_eq!(row["departure"], "noticed");
    assert_eq!(row["notice"]["leaves"], "replicas");
    let left = row["notice"]["seconds_left"].as_u64().expect("a countdown");
    assert!((400..=420).contains(&left), "{left}");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_preemption_that_only_the_provider_s_events_tell_reaches_its_node_once() {
    let scheduler = Scheduler::start("announced").await;
    let _node = scheduler.node("spot-1", "spot").await;
    let path = "/api/v1/notices/oci";
    let event = json!({
        "eventType": "com.oraclecloud.computeapi.instancepreemptionaction",
        "eventID": "e1/a", "cloudEventsVersion": "0.1",
        "data": {"resourceId": "spot-1", "additionalDetails": {"preemptionAction": "TERMINATE"}},
    });
    let row = scheduler.post(path, "provider-operator", &event).await.expect(200);
    assert_eq!(
        (&row["departure"], &row["notice"]["source"]),
        (&json!("noticed"), &json!("provider"))
    );
    assert_eq!(row["notice"]["id"], "oci-e1a");
    let ends = &row["notice"]["gone_at"];
    assert!(row["notice"]["seconds_left"].as_u64().is_some_and(|left| left <= 120), "{row}");
    let again = format!("{path}?in_seconds=600");
    let again = scheduler.post(&again, "provider-operator", &event).await.expect(200);
    assert_eq!(&again["notice"]["gone_at"], ends, "delivered twice, it is one notice");
    let mut other = event.clone();
    other["eventType"] = json!("com.oraclecloud.computeapi.launchinstance.end");
    let ignored = scheduler.post(path, "provider-operator", &other).await.expect(200);
    assert!(ignored["ignored"].as_str().is_some_and(|why| why.contains("launchinstance")));
    for (body, status) in [
        (json!({"eventType": event["eventType"], "data": {"resourceId": "ocid1.x"}}), 404),
        (json!({"eventType": event["eventType"], "data": {}}), 400),
        (json!({}), 400),
    ] {
        scheduler.post(path, "provider-operator", &body).await.expect(status);
    }
    let said = json!({"id": "a b", "kind": "reclaim"});
    let refused = scheduler.post("/api/v1/notices", "provider-operator", &said).await;
    let refused = refused.expect(400)["violations"].to_string();
    for field in ["id", "node", "kind", "in_seconds"] {
        assert!(refused.contains(&format!("\"field\":\"{field}\"")), "{field}: {refused}");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_replica_shows_where_it_is_how_far_and_why() {
    let scheduler = Scheduler::start("replicas").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    for (name, cost, lines) in [("chat", "49.24", 1), ("more", "0.00", 0)] {
        let made = scheduler.post("/api/v1/deployments", "acme-operator", &deployment(name)).await;
        let made = made.expect(201);
        assert_eq!((&made["costPerHour"], &made["currency"]), (&json!(cost), &json!("USD")));
        assert_eq!(made["costs"].as_array().map(Vec::len), Some(lines), "{made}");
    }
    node.next().await;
    node.say(ReportedPhase::Loading, 250);
    node.next().await;
    let rows = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let rows = rows["replicas"].as_array().expect("a list").clone();
    let of = |deployment: &str| {
        rows.iter().find(|row| row["deployment"] == deployment).expect("a replica").clone()
    };
    let loading = of("d-chat");
    assert_eq!((&loading["phase"], &loading["node"]), (&json!("loading"), &json!("node-1")));
    assert_eq!(
        (&loading["progress"], loading["gpus"].as_array().map(Vec::len)),
        (&json!(0.25), Some(8))
    );
    assert!(loading["expected_ready_at"].is_string() && loading["since"].is_string());
    let pending = of("d-more");
    assert_eq!((&pending["phase"], &pending["node"]), (&json!("pending"), &Value::Null));
    let because = pending["because"].as_str().unwrap_or_default();
    assert!(!because.is_empty(), "a pending replica says why");
    let id = pending["id"].as_str().expect("an id");
    let why = scheduler.get(&format!("/api/v1/replicas/{id}/explain"), "acme-viewer").await;
    let why = why.expect(200);
    assert_eq!(why["candidates"][0]["node"], "node-1", "{why}");
    assert!(why["candidates"][0]["sentence"].as_str().is_some_and(|s| s.contains("GPUs")), "{why}");
    let why = scheduler.get("/api/v1/deployments/d-more/explain", "acme-viewer").await.expect(200);
    assert_eq!(why["replicas"].as_array().map(Vec::len), Some(1));
    let told = loading["id"].as_str().expect("an id");
    scheduler.telemetry.output(told.parse().expect("an id"), ["loading weights".to_owned()]);
    let logs = scheduler.get("/api/v1/deployments/d-chat/logs", "acme-viewer").await.expect(200);
    assert_eq!(logs["logs"], json!([{"replica": told, "lines": ["loading weights"]}]));
    scheduler.get("/api/v1/replicas/r-999", "acme-viewer").await.expect(404);
    scheduler.get("/api/v1/replicas/nonsense", "acme-viewer").await.expect(404);
    scheduler.stop().await;
}

#[tokio::test]
async fn our_own_patch_changes_what_it_names() {
    let scheduler = Scheduler::start("merge").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let path = "/api/v1/deployments/d-chat";
    scheduler.post("/api/v1/deployments", "acme-operator", &deployment("chat")).await.expect(201);
    let patch = json!({"autoscaling": {"max": 5}, "wharfage": {"labels": {"team": "search"}}});
    let row = scheduler.patch(path, "acme-operator", &patch).await.expect(200);
    assert_eq!(row["spec"]["autoscaling"]["max"], 5);
    assert_eq!(row["spec"]["autoscaling"]["priority"], 500);
    assert_eq!(row["spec"]["wharfage"]["labels"]["team"], "search");
    let patch = json!({"wharfage": null, "colour": "red"});
    let refused = scheduler.patch(path, "acme-operator", &patch).await.expect(400);
    assert_eq!(refused["field"], "colour");
    let patch = json!({"wharfage": null});
    let row = scheduler.patch(path, "acme-operator", &patch).await.expect(200);
    assert!(row["spec"]["wharfage"].is_null());
    for name in ["<img src=x onerror=alert(1)>", "a b", "\u{202e}x"] {
        let mut body = deployment("x");
        body["name"] = json!(name);
        let refused = scheduler.post("/api/v1/deployments", "acme-operator", &body).await;
        assert_eq!(refused.expect(400)["field"], "name");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_to_a_repeated_request_the_same() {
    let scheduler = Scheduler::start("secrets").await;
    let send = |path: &'static str, key: &'static str, body: Value| {
        let request = client().post(format!("{}{path}", scheduler.url));
        let request = request.header("authorization", "Bearer provider-admin");
        read(request.header("idempotency-key", key).json(&body))
    };
    let body = json!({"organization": "acme", "roles": ["viewer"], "name": "ci"});
    let first = send("/api/v1/tokens", "t-1", body.clone()).await.expect(201);
    let again = send("/api/v1/tokens", "t-1", body.clone()).await.expect(201);
    assert_eq!(first, again);
    let secret = first["token"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whf_") && secret.len() == 68, "{secret}");
    scheduler.get("/api/v1/nodes", &secret).await.expect(200);
    scheduler
        .post(
            "/api/v1/nodepools",
            "provider-admin",
            &json!({
                "id": "pool-a", "zone": ZONE, "sku": SKU,
            }),
        )
        .await
        .expect(201);
    let join = json!({"pool": "pool-a", "uses": 2});
    let made = send("/api/v1/joins", "j-1", join.clone()).await.expect(201);
    assert_eq!(made, send("/api/v1/joins", "j-1", join).await.expect(201));
    let text = made["join"].as_str().expect("a join string");
    let parsed: wharfage_shared::enroll::JoinString = text.parse().expect("a join string");
    let hash = wharfage_scheduler::secrets::sha256_hex(&parsed.secret);
    assert!(scheduler.driver.handle.view().fleet().join_by_sha256(&hash).is_some());
    let log = scheduler.driver.handle.log().after(0, 1000).await.expect("records");
    assert!(log.iter().all(|record| !record.payload.contains(&secret)), "a secret is in the log");
    assert!(log.iter().all(|record| !record.payload.contains(&parsed.secret)));
    let id = first["id"].as_str().expect("an id");
    scheduler.delete(&format!("/api/v1/tokens/{id}"), "acme-admin").await.expect(200);
    scheduler.get("/api/v1/nodes", &secret).await.expect(401);
    let listed = scheduler.get("/api/v1/tokens", "acme-admin").await;
    assert!(!listed.text.contains("sha256") && !listed.text.contains("rival"));
    scheduler.stop().await;
}

#[tokio::test]
async fn the_audit_names_who_asked_and_tells_each_organization_its_own() {
    let scheduler = Scheduler::start("audit").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    scheduler.post("/api/v1/deployments", "acme-operator", &deployment("chat")).await.expect(201);
    let acme = scheduler.get("/api/v1/audit", "acme-admin").await;
    let rows = acme.expect(200);
    let rows = rows["audit"].as_array().expect("rows").clone();
    assert!(rows.iter().all(|row| row["organization"] == "acme"), "{rows:?}");
    let made = rows.iter().find(|row| row["action"] == "deployment.create").expect("the create");
    assert_eq!(made["token"], "tok-acme-operator");
    let twice = scheduler.post("/api/v1/deployments", "acme-operator", &deployment("chat")).await;
    twice.expect(409);
    let pool = json!({"id": "p", "zone": ZONE, "sku": SKU});
    scheduler.post("/api/v1/nodepools", "acme-operator", &pool).await.expect(403);
    scheduler.get("/api/v1/joins", "acme-operator").await.expect(403);
    let refused = &scheduler.get("/api/v1/audit", "acme-admin").await.expect(200)["refused"];
    let told = |row: &Value| (row["path"].clone(), row["code"].clone(), row["token"].clone());
    let told: Vec<_> = refused.as_array().expect("rows").iter().map(told).collect();
    let row = |path, code| (json!(path), json!(code), json!("tok-acme-operator"));
    let expected =
        [row("/api/v1/deployments", "name_taken"), row("/api/v1/nodepools", "forbidden")];
    assert_eq!(told, expected, "writes that were refused, reads are not kept");
    let theirs = &scheduler.get("/api/v1/audit", "rival-admin").await.expect(200)["refused"];
    assert_eq!(*theirs, json!([]), "each organization its own");
    let all = scheduler.get("/api/v1/audit?limit=3", "provider-admin").await.expect(200);
    assert_eq!(all["audit"].as_array().map(Vec::len), Some(3));
    assert!(all["next_after"].is_u64());
    scheduler.stop().await;
}

#[tokio::test]
async fn probes_metrics_and_the_document_answer() {
    let scheduler = Scheduler::start("probes").await;
    let _node = scheduler.node("node-1", "standard").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(scheduler.ask("GET", path, None, None).await.status, 200);
    }
    let metrics = scheduler.get("/metrics", "provider-viewer").await;
    assert!(metrics.status == 200 && metrics.text.contains("wharfage"), "{}", metrics.text);
    let nodes = scheduler.get("/metrics/nodes", "provider-viewer").await;
    assert!(nodes.status == 200 && nodes.text.contains("node-1"), "{}", nodes.text);
    let document = scheduler.get("/openapi.json", "acme-viewer").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/v1/nodes/{id}/drain"]["post"].is_object());
    let capacity = scheduler.get("/api/v1/capacity", "acme-viewer").await.expect(200);
    assert_eq!(capacity["capacity"][0]["sku"], SKU, "{capacity}");
    scheduler.stop().await;
}

#[tokio::test]
async fn whoever_is_starved_is_said_to_be_by_a_condition_and_by_a_number() {
    let scheduler = Scheduler::start("starved").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let number = async |wanted: &str| {
        let metrics = scheduler.get("/metrics", "provider-viewer").await;
        assert!(metrics.text.lines().any(|line| line == wanted), "{}", metrics.text);
    };
    let verb = async |verb: &str| {
        let path = format!("/api/v1/nodes/node-1/{verb}");
        scheduler.post(&path, "provider-operator", &json!({"reason": "a test"})).await.expect(200)
    };
    verb("cordon").await;
    for (name, priority) in [("low", 1), ("high", 2)] {
        let mut body = deployment(name);
        body["autoscaling"]["priority"] = json!(priority);
        scheduler.post("/api/v1/deployments", "acme-operator", &body).await.expect(201);
    }
    let conditions = async || {
        let row = scheduler.get("/api/v1/deployments/d-low", "acme-viewer").await.expect(200);
        row["status"]["conditions"].as_array().expect("conditions").clone()
    };
    assert_eq!(conditions().await.len(), 2);
    number("wharfage_replicas_starved 0").await;
    verb("uncordon").await;
    node.next().await;
    let starved = conditions().await.pop().expect("the last");
    assert_eq!((&starved["type"], &starved["status"]), (&json!("Starved"), &json!("True")));
    let message = starved["message"].as_str().expect("a message");
    assert!(
        message.starts_with("1 replica waits while replicas of a priority above 1"),
        "{message}"
    );
    number("wharfage_replicas_starved 1").await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_pools_size_a_search_for_capacity_and_an_amendment() {
    let scheduler = Scheduler::start("capacity").await;
    let _node = scheduler.node("node-1", "standard").await;
    let pools = scheduler.get("/api/v1/nodepools", "provider-admin").await.expect(200);
    let pool = pools["nodepools"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(pools["nodepools"][0]["queued_nodes"], json!(null));
    let path = format!("/api/v1/nodepools/{pool}");
    let sized = json!({"target_nodes": 3, "min_nodes": 1, "max_nodes": 4});
    let sized = scheduler.patch(&path, "provider-admin", &sized).await.expect(200);
    assert_eq!((&sized["current_nodes"], &sized["queued_nodes"]), (&json!(1), &json!(2)));
    let more = json!({"target_nodes": 5});
    let refused = scheduler.patch(&path, "provider-admin", &more).await.expect(400);
    assert_eq!(refused["field"], "target_nodes", "{refused}");
    scheduler.patch(&path, "provider-admin", &json!({})).await.expect(400);
    scheduler.patch(&path, "acme-admin", &sized).await.expect(403);
    let found = format!("/api/v1/capacity/find?sku={SKU}&count=2&class=on_demand");
    let found = scheduler.get(&found, "acme-viewer").await.expect(200);
    assert_eq!(found["zones"][0]["zone"], ZONE);
    assert_eq!(
        (&found["zones"][0]["available"], &found["zones"][0]["chance_percent"]),
        (&json!(1), &json!(50))
    );
    for (query, field) in [
        ("count=1", "sku"),
        ("sku=h9000", "sku"),
        (&*format!("sku={SKU}&count=0"), "count"),
        (&*format!("sku={SKU}&class=free"), "class"),
    ] {
        let refused = scheduler.get(&format!("/api/v1/capacity/find?{query}"), "acme-viewer").await;
        assert_eq!(refused.expect(400)["field"], field);
    }
    let flex = json!({
        "id": "f-1", "organization": "acme", "plan": "flex", "sku": SKU, "region": "US-EAST-04",
        "gpus": 8, "start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z",
        "holding_rate": "12.31", "usage_rate": "24.62",
    });
    scheduler.post("/api/v1/contracts", "provider-admin", &flex).await.expect(201);
    let path = "/api/v1/contracts/f-1/amend";
    let bad = json!({"id": "r-1", "rate": "a lot"});
    let refused = scheduler.post(path, "provider-admin", &bad).await.expect(400);
    assert_eq!(refused["field"], "rate", "{refused}");
    let good = json!({"id": "r-1", "rate": "30.00", "from": "2098-01-01T00:00:00Z"});
    let amended = scheduler.post(path, "provider-admin", &good).await.expect(201);
    assert_eq!((&amended["plan"], &amended["amends"]), (&json!("reserved"), &json!("f-1")));
    let all = scheduler.get("/api/v1/contracts", "acme-billing").await.expect(200);
    assert_eq!(all["contracts"][0]["end"], "2098-01-01T00:00:00Z", "{all}");
    assert_eq!(all["contracts"][0]["amended_by"], "r-1");
    scheduler.stop().await;
}
