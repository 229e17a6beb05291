//! A deployment that sleeps without requests: the first one is parked, wakes it and is served.

use serde_json::json;
use wharfage_tests::{Dev, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_wakes_what_sleeps_and_without_requests_it_sleeps_again() {
    let dev = Dev::start().await;
    let body = json!({
        "name": "nap", "gatewayIds": [dev.text("gateway_id")], "dialect": "baseten",
        "runtime": { "engine": "vllm" },
        "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": 1 },
        "model": { "name": "nap-model", "bucket": "models", "path": "nap" },
        "autoscaling": {
            "min_replica": 0, "max_replica": 2, "concurrency_target": 5,
            "autoscaling_window": 10, "scale_down_delay": 5,
        },
        "traffic": { "weight": 100 },
    });
    let (status, made) = dev.call("POST", "/api/v1/deployments", Some(&body)).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    assert!(dev.replicas(&id).await.is_empty(), "nobody asks for it");
    // Until the gateway has heard of the model it answers 404.
    let (status, answer) = until("the gateway knows the model", async || {
        let (status, answer) = dev.chat("nap-model").await;
        (status != 404).then_some((status, answer))
    })
    .await;
    assert_eq!(status, 200, "parked, and served: {answer}");
    let path = format!("/api/v1/deployments/{id}/scaling");
    let (status, told) = dev.call("GET", &path, None).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["last_change"]["because"], "woken", "{told}");
    assert_eq!(told["last_change"]["requests"]["parked"], 1, "{told}");
    assert_eq!(told["now"]["is_fresh"], true, "{told}");

    until("it sleeps again", async || dev.replicas(&id).await.is_empty().then_some(())).await;
    let (_, told) = dev.call("GET", &path, None).await;
    assert_eq!((&told["desired"], &told["now"]["in_flight"]), (&json!(0), &json!(0)), "{told}");
    assert_eq!(told["last_change"]["because"], "demand_below_target", "{told}");
    dev.stop().await;
}
