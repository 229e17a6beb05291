//! Seed 003's call, byte for byte as its cURL sends it, and the words that name a deployment.

use serde_json::{Value, json};
use wharfage_scheduler_core::routes;
use wharfage_shared::version::Term;

use crate::support::{Answer, Scheduler, client, deployment, read};

/// What `--data` sends.
const BODY: &str = "{
  \"min_replica\": 0,
  \"max_replica\": 7,
  \"autoscaling_window\": 600,
  \"scale_down_delay\": 120,
  \"concurrency_target\": 2,
  \"target_utilization_percentage\": 70,
  \"target_in_flight_tokens\": 40000
}";

/// As cURL sends it: its form content type and the old scheme of authorization.
async fn curl(scheduler: &Scheduler, path: &str, body: &str) -> Answer {
    let request = client().patch(format!("{}{path}", scheduler.url));
    let request = request
        .header("authorization", "Api-Key acme-operator")
        .header("content-type", "application/x-www-form-urlencoded");
    read(request.body(body.to_owned())).await
}

fn path(model: &str, deployment: &str) -> String {
    format!("/v1/models/{model}/deployments/{deployment}/autoscaling_settings")
}

#[tokio::test]
async fn the_seeds_call_changes_a_deployment_that_coreweaves_api_made() {
    let scheduler = Scheduler::start("seed").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let made = "/v1alpha1/inference/deployments";
    scheduler.post(made, "acme-operator", &deployment("chat")).await.expect(200);
    let path = path("chat-model", "development");
    let first = curl(&scheduler, &path, BODY).await.expect(200);
    assert_eq!(first["status"], "ACCEPTED");
    let message = first["message"].as_str().expect("a message");
    assert!(message.contains('1'), "min 0 is kept as 1, and the message says so: {message}");
    let again = curl(&scheduler, &path, BODY).await.expect(200);
    assert_eq!(again["status"], "UNCHANGED");
    assert_ne!(again["message"], "");
    let scaling = scheduler.get("/api/v1/deployments/d-chat/scaling", "acme-viewer").await;
    assert_eq!(
        scaling.expect(200)["settings"],
        json!({
            "min_replica": 1, "max_replica": 7, "autoscaling_window": 600,
            "scale_down_delay": 120, "concurrency_target": 2,
            "target_utilization_percentage": 70, "target_in_flight_tokens": 40000,
            "max_scale_down_rate": 50,
        })
    );
    scheduler.stop().await;
}

#[tokio::test]
async fn bad_settings_are_refused_by_name_and_null_is_not_passed() {
    let scheduler = Scheduler::start("settings").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let made = "/v1alpha1/inference/deployments";
    scheduler.post(made, "acme-operator", &deployment("chat")).await.expect(200);
    let path = path("chat-model", "production");
    let cases = [
        (json!({"min_replica": -1}), "min_replica"),
        (json!({"max_replica": 0}), "max_replica"),
        (json!({"autoscaling_window": 3601}), "autoscaling_window"),
        (json!({"scale_down_delay": 3601}), "scale_down_delay"),
        (json!({"concurrency_target": 0}), "concurrency_target"),
        (json!({"target_utilization_percentage": 0}), "target_utilization_percentage"),
        (json!({"target_in_flight_tokens": "many"}), "target_in_flight_tokens"),
        (json!({"max_scale_down_rate": 51}), "max_scale_down_rate"),
        (json!({"min_replica": 5, "max_replica": 4}), "max_replica"),
        (json!({"min_replica": 50}), "min_replica"),
        (json!({"min_replcia": 1}), "min_replcia"),
    ];
    for (body, field) in cases {
        let refused = curl(&scheduler, &path, &body.to_string()).await;
        let error = refused.expect(400);
        assert_eq!(error["code"], "VALIDATION_ERROR");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(field), "{body}: {message}");
    }
    for nothing in ["{}", "{\"min_replica\": null, \"max_replica\": null}"] {
        let kept = curl(&scheduler, &path, nothing).await.expect(200);
        assert_eq!(kept["status"], "UNCHANGED");
    }
    assert_eq!(curl(&scheduler, &path, "min_replica=0").await.status, 400);
    scheduler.stop().await;
}

#[tokio::test]
async fn production_is_the_oldest_development_the_youngest_and_ids_name_themselves() {
    let scheduler = Scheduler::start("names").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    for name in ["one", "two", "three"] {
        let mut body = deployment(name);
        body["model"]["name"] = json!("chat-model");
        let made = "/v1alpha1/inference/deployments";
        scheduler.post(made, "acme-operator", &body).await.expect(200);
        // Ages are in milliseconds of the scheduler's clock: the next one is younger.
        let made_at = scheduler.driver.handle.now();
        scheduler
            .until("the clock moves", || async {
                (scheduler.driver.handle.now() > made_at).then_some(())
            })
            .await;
    }
    let mut max = 10;
    let mut changes = async |model: &str, deployment: &str| -> Option<String> {
        max += 1;
        let body = json!({"max_replica": max}).to_string();
        let answer = curl(&scheduler, &path(model, deployment), &body).await;
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.expect(200)["status"], "ACCEPTED");
        let all = scheduler.get("/api/v1/deployments", "acme-viewer").await.expect(200);
        let changed = all["deployments"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["spec"]["autoscaling"]["max"] == max);
        changed.and_then(|row| row["name"].as_str()).map(str::to_owned)
    };
    assert_eq!(changes("chat-model", "production").await.as_deref(), Some("one"));
    assert_eq!(changes("chat-model", "development").await.as_deref(), Some("three"));
    assert_eq!(changes("chat-model", "d-two").await.as_deref(), Some("two"));
    assert_eq!(changes("d-two", "production").await.as_deref(), Some("two"));
    assert_eq!(told(&scheduler), ["d-one: production", "d-three: development"]);
    assert_eq!(changes("chat-model", "d-four").await, None);
    assert_eq!(changes("other-model", "production").await, None);
    let named: Value = json!({"wharfage": {"environment": "development"}});
    scheduler.patch("/api/v1/deployments/d-two", "acme-operator", &named).await.expect(200);
    assert_eq!(changes("chat-model", "development").await.as_deref(), Some("two"));
    assert_eq!(told(&scheduler), ["d-one: production", "d-two: development"]);
    scheduler.stop().await;
}

/// The words that gateways are told, so that requests go where settings go.
fn told(scheduler: &Scheduler) -> Vec<String> {
    let view = scheduler.driver.handle.view();
    let table = routes::table(view.fleet(), Term(1));
    let told = table
        .deployments
        .iter()
        .flat_map(|row| row.environments.iter().map(|word| format!("{}: {word}", row.id)));
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

#[tokio::test]
async fn our_own_api_makes_deployments_that_may_scale_to_zero() {
    let scheduler = Scheduler::start("zero").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let mut body = deployment("sleepy");
    body["dialect"] = json!("baseten");
    body["autoscaling"] = json!({"min_replica": 0, "max_replica": 3});
    let made = scheduler.post("/api/v1/deployments", "acme-operator", &body).await.expect(201);
    assert_eq!((&made["dialect"], &made["desired"]), (&json!("baseten"), &json!(0)));
    assert_eq!(made["spec"]["autoscaling"]["scale_down_delay"], 900);
    assert_eq!(made["status"]["status"], "STATUS_READY");
    let patch = json!({"min_replica": 1});
    let path = path("sleepy-model", "production");
    let changed = scheduler.patch(&path, "acme-operator", &patch).await.expect(200);
    assert_eq!(changed["status"], "ACCEPTED");
    let zero = json!({"min_replica": 0});
    let back = scheduler.patch(&path, "acme-operator", &zero).await.expect(200);
    assert_eq!(back["status"], "ACCEPTED");
    let row = scheduler.get("/api/v1/deployments/d-sleepy", "acme-viewer").await.expect(200);
    assert_eq!(row["spec"]["autoscaling"]["min_replica"], 0);
    scheduler.stop().await;
}

#[tokio::test]
async fn strictness_follows_the_foreign_apis_to_the_letter() {
    let scheduler = Scheduler::start_with("strict", "[compat]\nstrict = true\n").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let made = "/v1alpha1/inference/deployments";
    let mut spot = deployment("spot");
    spot["autoscaling"]["capacityClasses"] = json!(["CAPACITY_CLASS_SPOT"]);
    scheduler.post(made, "acme-operator", &spot).await.expect(400);
    scheduler.post(made, "acme-operator", &deployment("chat")).await.expect(200);
    let development = path("chat-model", "development");
    let refused = curl(&scheduler, &development, BODY).await.expect(400);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.contains("min_replica"), "{message}");
    let timing = json!({"scale_down_delay": 60}).to_string();
    let accepted = curl(&scheduler, &development, &timing).await.expect(200);
    assert_eq!(accepted["status"], "ACCEPTED");
    scheduler.stop().await;
}
