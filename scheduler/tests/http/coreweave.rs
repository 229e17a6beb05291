//! The CoreWeave API: the same story over REST and over Connect.

use serde_json::{Value, json};

use crate::support::{SKU, Scheduler, ZONE, client, deployment, gateway, read};

const DEPLOYMENTS: &str = "/v1alpha1/inference/deployments";

#[tokio::test]
async fn a_deployment_is_created_served_changed_and_deleted() {
    let scheduler = Scheduler::start("life").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let parameters = format!("{DEPLOYMENTS}/parameters");
    let offered = scheduler.get(&parameters, "acme-viewer").await.expect(200);
    assert_eq!(
        offered,
        json!({
            "gatewayIds": ["front"],
            "runtimeParameters": {
                "runtimeVersions": {"vllm": {"versions": ["0.22.0+crwv.2", "0.22.0"]}},
                "runtimeConfigOptions": {"vllm": {"allowedKeys": ["max-model-len"]}},
                "engineEnvOptions": {"vllm": {"allowedNames": []}},
            },
            "resourceParameters": {"instanceTypes": [SKU]},
        })
    );
    let body = deployment("chat");
    let made = scheduler.post(DEPLOYMENTS, "acme-operator", &body).await.expect(200);
    let made = &made["deployment"];
    assert_eq!(made["spec"]["id"], "d-chat");
    assert_eq!(made["spec"]["organizationId"], "acme");
    assert_eq!(made["spec"]["runtime"]["engineConfig"]["max-model-len"], "8192");
    assert_eq!(made["status"]["status"], "STATUS_CREATING");
    node.next().await;
    node.next().await;
    let one = format!("{DEPLOYMENTS}/d-chat");
    let row = scheduler.get(&one, "acme-viewer").await.expect(200);
    assert_eq!(row["deployment"]["status"]["status"], "STATUS_READY", "{row}");
    let ready = &row["deployment"]["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));
    assert_eq!(ready["zone"], ZONE);
    let again = scheduler.post(DEPLOYMENTS, "acme-operator", &body).await.expect(409);
    assert_eq!(again["status"], "ALREADY_EXISTS");
    let partial = json!({"autoscaling": {"min": 1, "max": 3}});
    let partial = scheduler.patch(&one, "acme-operator", &partial).await.expect(400);
    assert_eq!(partial["status"], "INVALID_ARGUMENT");
    let violations = partial["details"][0]["fieldViolations"].as_array().expect("violations");
    assert!(violations.iter().any(|row| row["field"] == "runtime"), "{violations:?}");
    let mut whole = row["deployment"]["spec"].clone();
    whole["autoscaling"]["max"] = json!(4);
    let changed = scheduler.patch(&one, "acme-operator", &whole).await.expect(200);
    assert_eq!(changed["deployment"]["spec"]["autoscaling"]["max"], 4);
    let deleted = scheduler.delete(&one, "acme-operator").await.expect(200);
    assert_eq!(deleted["deployment"]["status"]["status"], "STATUS_DELETING");
    scheduler.get(&one, "acme-viewer").await.expect(404);
    scheduler.stop().await;
}

#[tokio::test]
async fn lists_are_narrowed_by_updated_after_and_dry_runs_change_nothing() {
    let scheduler = Scheduler::start("lists").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let before = scheduler.driver.handle.view().position();
    let path = format!("{DEPLOYMENTS}?dryrun=true");
    let slip = scheduler.post(&path, "acme-operator", &deployment("chat")).await.expect(400);
    assert_eq!(slip["details"][0]["fieldViolations"][0]["field"], "dryrun", "{slip}");
    let path = format!("{DEPLOYMENTS}?dryRun=true");
    let dry = scheduler.post(&path, "acme-operator", &deployment("chat")).await.expect(200);
    assert_eq!(dry["dryRun"], true);
    assert_eq!(dry["placements"][0]["node"], "node-1", "{dry}");
    assert_eq!(dry["costPerHour"], "49.24", "{dry}");
    assert_eq!((&dry["costPerHourMicros"], &dry["currency"]), (&json!(49_240_000), &json!("USD")));
    let line = json!({
        "organization": "acme", "line": "on_demand", "region": "US-EAST-04", "sku": SKU,
        "instances": 1, "rate": "49.24",
    });
    assert_eq!(dry["costs"], json!([line]));
    assert_eq!((&dry["preempted"], &dry["reclaims"]), (&json!([]), &json!([])));
    assert_eq!(scheduler.driver.handle.view().position(), before);
    let made = scheduler.post(DEPLOYMENTS, "acme-operator", &deployment("chat")).await.expect(200);
    let price = ["costPerHour", "costPerHourMicros", "currency", "costs", "tenancy", "billing"];
    for name in price {
        let told = &made["deployment"]["status"]["wharfage"][name];
        assert_eq!(*told, dry[name], "{name}: {made}");
    }
    let all = scheduler.get(DEPLOYMENTS, "acme-viewer").await.expect(200);
    let updated = all["deployments"][0]["status"]["updatedAt"].as_str().expect("an instant");
    let path = format!("{DEPLOYMENTS}?updatedAfter={updated}");
    assert_eq!(scheduler.get(&path, "acme-viewer").await.expect(200), json!({"deployments": []}));
    let path = format!("{DEPLOYMENTS}?updatedAfter=2020-01-01T00:00:00Z");
    assert_eq!(scheduler.get(&path, "acme-viewer").await.expect(200), all);
    let path = format!("{DEPLOYMENTS}?updatedAfter=yesterday");
    let refused = scheduler.get(&path, "acme-viewer").await.expect(400);
    assert_eq!(refused["details"][0]["fieldViolations"][0]["field"], "updatedAfter");
    scheduler.stop().await;
}

#[tokio::test]
async fn connect_says_the_same() {
    let scheduler = Scheduler::start("connect").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let call = |method: &'static str, token: &'static str, body: Value| {
        let scheduler = &scheduler;
        async move {
            let path = format!("/coreweave.inference.v1alpha1.DeploymentService/{method}");
            scheduler.post(&path, token, &body).await
        }
    };
    let made = call("CreateDeployment", "acme-operator", deployment("chat")).await.expect(200);
    let rest = scheduler.get(&format!("{DEPLOYMENTS}/d-chat"), "acme-viewer").await.expect(200);
    let id = json!({"id": "d-chat"});
    let got = call("GetDeployment", "acme-viewer", id.clone()).await.expect(200);
    assert_eq!(got["deployment"]["spec"], rest["deployment"]["spec"]);
    assert_eq!(made["deployment"]["spec"], rest["deployment"]["spec"]);
    let listed = call("ListDeployments", "acme-viewer", json!({})).await.expect(200);
    assert_eq!(listed["deployments"][0]["spec"], rest["deployment"]["spec"]);
    call("GetDeploymentParameters", "acme-viewer", json!({})).await.expect(200);
    let mut body = rest["deployment"]["spec"].clone();
    body["autoscaling"]["max"] = json!(9);
    let updated = call("UpdateDeployment", "acme-operator", body).await.expect(200);
    assert_eq!(updated["deployment"]["spec"]["autoscaling"]["max"], 9);
    let mut bad = deployment("other");
    bad["autoscaling"]["min"] = json!(0);
    let refused = call("CreateDeployment", "acme-operator", bad).await.expect(400);
    assert_eq!(refused["code"], "invalid_argument");
    assert_eq!(refused["details"][0]["type"], "google.rpc.BadRequest");
    call("DeleteDeployment", "acme-operator", id.clone()).await.expect(200);
    let gone = call("GetDeployment", "acme-viewer", id).await.expect(404);
    assert_eq!(gone["code"], "not_found");
    let missing = call("GetDeployment", "acme-viewer", json!({})).await.expect(400);
    assert_eq!(missing["code"], "invalid_argument");
    scheduler.stop().await;
}

#[tokio::test]
async fn connect_is_spoken_in_json_and_every_other_encoding_is_told_so() {
    let scheduler = Scheduler::start("encodings").await;
    let send = |method: &str, name: &'static str, value: &str, body: Vec<u8>| {
        let path = format!("/coreweave.inference.v1alpha1.DeploymentService/{method}");
        let request = client().post(format!("{}{path}", scheduler.url));
        let request = request.header("authorization", "Bearer acme-operator");
        read(request.header(name, value).body(body))
    };
    let kinds = ["application/proto", "application/connect+json", "application/grpc", "text/json"];
    for kind in kinds {
        // An empty message is an empty body, and asks for an answer in its own encoding too.
        let methods = ["CreateDeployment", "ListDeployments", "GetDeploymentParameters"];
        for (method, body) in methods.into_iter().zip([b"\n\x01a".to_vec(), Vec::new(), Vec::new()])
        {
            let refused = send(method, "content-type", kind, body).await.expect(415);
            let message = refused["message"].as_str().expect("a sentence");
            assert!(
                message.contains(&format!("`{kind}`; accepted: application/json")),
                "{message}"
            );
            assert!(message.contains("spoken in JSON"), "{message}");
        }
    }
    let packed = send("ListDeployments", "content-encoding", "gzip", vec![31, 139]).await;
    let message = packed.expect(415)["message"].to_string();
    assert!(message.contains("`gzip`; accepted: bodies without compression"), "{message}");
    let kind = "application/json; charset=utf-8";
    send("ListDeployments", "content-type", kind, b"{}".to_vec()).await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_gateway_is_created_changed_and_kept_while_it_is_named() {
    let scheduler = Scheduler::start("gateways").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let all = "/v1alpha1/inference/gateways";
    let one = "/v1alpha1/inference/gateways/front";
    let parameters = scheduler.get(&format!("{all}/parameters"), "acme-viewer").await.expect(200);
    assert_eq!(parameters, json!({"zones": [ZONE]}));
    let row = scheduler.get(one, "acme-viewer").await.expect(200);
    assert_eq!(row["gateway"]["status"]["status"], "STATUS_READY", "{row}");
    let mut body = gateway("front");
    body["endpointConfiguration"] = json!({"additionalDns": ["models.example.org"]});
    let changed = scheduler.patch(one, "acme-operator", &body).await.expect(200);
    assert_eq!(
        changed["gateway"]["status"]["endpoints"],
        json!(["https://gw.example.org", "https://models.example.org"])
    );
    let merged = scheduler.patch(one, "acme-operator", &gateway("front")).await.expect(200);
    let far = json!({"id": "p-far", "zone": "RNO2A", "sku": SKU, "owner": "rival"});
    scheduler.post("/api/v1/nodepools", "provider-admin", &far).await.expect(201);
    let mut wide = gateway("front");
    wide["zones"] = json!([ZONE, "RNO2A"]);
    scheduler.patch(one, "acme-operator", &wide).await.expect(400);
    scheduler.patch(one, "provider-operator", &wide).await.expect(200);
    let kept = scheduler.patch(one, "acme-operator", &wide).await.expect(200);
    assert_eq!(kept["gateway"]["spec"]["zones"], json!([ZONE, "RNO2A"]), "given once, it stays");
    let dns = &merged["gateway"]["spec"]["endpointConfiguration"]["additionalDns"];
    assert_eq!(*dns, json!(["models.example.org"]), "names are merged, not replaced");
    scheduler.post(DEPLOYMENTS, "acme-operator", &deployment("chat")).await.expect(200);
    let kept = scheduler.delete(one, "acme-operator").await.expect(400);
    assert_eq!(kept["status"], "FAILED_PRECONDITION");
    assert_eq!(kept["details"][0]["@type"], "type.googleapis.com/google.rpc.PreconditionFailure");
    scheduler.delete(&format!("{DEPLOYMENTS}/d-chat"), "acme-operator").await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_key_makes_a_write_happen_once() {
    let scheduler = Scheduler::start("once").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let send = |body: Value| {
        let url = format!("{}{DEPLOYMENTS}", scheduler.url);
        let request = client().post(url).header("authorization", "Bearer acme-operator");
        let request = request.header("idempotency-key", "k-1");
        read(request.header("content-type", "application/json").body(body.to_string()))
    };
    let mut body = deployment("chat");
    body.as_object_mut().and_then(|body| body.remove("id"));
    let first = send(body.clone()).await;
    let again = send(body.clone()).await;
    assert_eq!(first.expect(200), again.expect(200));
    assert!(again.headers.contains_key("idempotency-replayed"));
    body["autoscaling"]["max"] = json!(7);
    assert_eq!(send(body).await.status, 422);
    let all = scheduler.get(DEPLOYMENTS, "acme-viewer").await.expect(200);
    assert_eq!(all["deployments"].as_array().map(Vec::len), Some(1));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_flood_of_mistakes_is_answered_shortly_and_no_name_passes_for_a_flag() {
    let scheduler = Scheduler::start("mistakes").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let mut flood = deployment("chat");
    for number in 0..5000 {
        flood[format!("key-{number}")] = json!(number);
    }
    let refused = scheduler.post(DEPLOYMENTS, "acme-operator", &flood).await.expect(400);
    assert!(refused.to_string().len() < 64 * 1024, "{} bytes", refused.to_string().len());
    let mut flag = deployment("chat");
    flag["model"]["name"] = json!("--host");
    let refused = scheduler.post(DEPLOYMENTS, "acme-operator", &flag).await.expect(400);
    let violation = &refused["details"][0]["fieldViolations"][0];
    assert_eq!(violation["field"], "model.name", "{refused}");
    scheduler.stop().await;
}
