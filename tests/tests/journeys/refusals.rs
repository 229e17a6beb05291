//! Bad input: the field is named, nothing changes, nothing is lost.

use serde_json::{Value, json};
use wharfage_tests::Dev;

fn body(dev: &Dev) -> Value {
    json!({
        "name": "chat", "gatewayIds": [dev.text("gateway_id")],
        "runtime": { "engine": "vllm" },
        "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": 1 },
        "model": { "name": "chat-model", "bucket": "models", "path": "chat" },
        "autoscaling": { "min": 1, "max": 1 },
        "traffic": { "weight": 100 },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_taken_names_the_field_and_changes_nothing() {
    let dev = Dev::start().await;
    let cases = [
        ("/autoscaling/min", json!(0), "autoscaling.min"),
        ("/autoscaling/max", json!(0), "autoscaling.max"),
        ("/autoscaling/priority", json!(1001), "autoscaling.priority"),
        ("/autoscaling/colour", json!("red"), "colour"),
        ("/autoscaling/capacityClasses", json!(["CAPACITY_CLASS_UNSPECIFIED"]), "capacityClasses"),
        ("/resources/gpuCount", json!(3), "resources.gpuCount"),
        ("/resources/instanceType", json!("no-such"), "resources.instanceType"),
        ("/runtime/engine", json!("no-such"), "runtime.engine"),
        ("/runtime/version", json!("v1.2.3"), "runtime.version"),
        ("/model/name", json!("abc"), "model.name"),
        ("/name", json!("-chat"), "name"),
        ("/gatewayIds", json!([]), "gatewayIds"),
        ("/traffic/weight", json!(1001), "traffic.weight"),
    ];
    for (pointer, value, field) in cases {
        let mut body = body(&dev);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        let (status, answer) =
            dev.call("POST", "/v1alpha1/inference/deployments", Some(&body)).await;
        assert_eq!(status, 400, "{pointer}: {answer}");
        assert!(answer.to_string().contains(field), "{pointer}: {answer}");
    }
    assert!(dev.rows("/api/v1/deployments", "deployments").await.is_empty());

    let (status, _) = dev.call_as("nobody", "GET", "/api/v1/nodes", None).await;
    assert_eq!(status, 401);
    let (status, _) =
        dev.call("POST", "/api/v1/nodes/node-1/cordon", Some(&json!({"reason": "x"}))).await;
    assert_eq!(status, 403, "verbs on nodes are the provider's");
    let (status, _) = dev.call("GET", "/api/v1/replicas/r-99", None).await;
    assert_eq!(status, 404);
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organizations_things_do_not_exist() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 1, &[], json!({})).await;
    dev.ready(&id, 1).await;
    let organization = json!({ "id": "other", "currency": "USD" });
    dev.admin("POST", "/api/v1/organizations", Some(&organization)).await;
    let token = json!({ "organization": "other", "name": "t", "roles": ["admin"] });
    let (_, made) = dev.admin("POST", "/api/v1/tokens", Some(&token)).await;
    let other = made["token"].as_str().expect("a token");
    for path in [
        format!("/v1alpha1/inference/deployments/{id}"),
        format!("/api/v1/deployments/{id}"),
        format!("/api/v1/deployments/{id}/explain"),
        "/api/v1/replicas/r-1".to_owned(),
    ] {
        let (status, answer) = dev.call_as(other, "GET", &path, None).await;
        assert_eq!(status, 404, "{path}: {answer}");
    }
    let (_, nodes) = dev.call_as(other, "GET", "/api/v1/nodes", None).await;
    assert!(!nodes.to_string().contains("\"r-1\""), "whose replica it is stays hidden: {nodes}");
    let (status, _) = dev.chat("other-model").await;
    assert_eq!(status, 404);
    dev.stop().await;
}
