//! A model owner deploys, a client asks, finance looks.

use serde_json::json;
use wharfage_tests::{Dev, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_placed_proven_served_and_billed() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 2, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    let ready = dev.ready(&id, 1).await;
    let node = ready[0]["node"].as_str().unwrap();
    assert_ne!(node, "node-3", "on-demand never stands on a spot node");

    let (status, answer) = dev.chat("chat-model").await;
    assert_eq!(status, 200, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains(ready[0]["id"].as_str().unwrap()), "{text} names its replica");

    let (status, why) = dev
        .call(
            "GET",
            &format!("/api/v1/replicas/{}/explain", ready[0]["id"].as_str().unwrap()),
            None,
        )
        .await;
    assert_eq!(status, 200);
    let candidates = why["candidates"].as_array().expect("candidates");
    assert_eq!(candidates.len(), 3, "every node is named: {why}");

    until("memory of the engine in the scheduler's readings", async || {
        let (_, row) = dev.admin("GET", &format!("/api/v1/nodes/{node}"), None).await;
        let gpus = row["gpus"].as_array()?.clone();
        let busy = gpus.iter().filter(|gpu| gpu["memory_used_mib"].as_u64() > Some(10_000));
        (busy.count() == 2).then_some(())
    })
    .await;

    let invoice = until("an on-demand line", async || {
        let body = json!({ "organization": dev.text("organization") });
        let (status, draft) = dev.admin("POST", "/api/v1/invoices", Some(&body)).await;
        assert!(status < 300, "{draft}");
        let lines = draft["lines"].as_array()?;
        lines.iter().any(|line| line["line"] == "on_demand").then(|| draft.clone())
    })
    .await;
    let path = format!("/api/v1/invoices/{}/verify", invoice["id"].as_str().unwrap());
    let (status, proof) = dev.call("GET", &path, None).await;
    assert_eq!((status, &proof["verified"]), (200, &json!(true)), "{proof}");
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_placed_says_why_and_is_placed_when_it_can_be() {
    let dev = Dev::start().await;
    let classes = ["CAPACITY_CLASS_ON_DEMAND"];
    let first = dev.deploy("one", 8, &classes, json!({})).await;
    let second = dev.deploy("two", 8, &classes, json!({})).await;
    dev.ready(&first, 1).await;
    dev.ready(&second, 1).await;
    let third = dev.deploy("three", 8, &classes, json!({})).await;
    let pending = until("a pending replica with its reason", async || {
        let rows = dev.replicas(&third).await;
        let row = rows.first()?;
        (row["phase"] == "pending" && row["because"].is_string()).then(|| row.clone())
    })
    .await;
    assert!(pending["node"].is_null(), "{pending}");
    let path = format!("/v1alpha1/inference/deployments/{first}");
    let (status, gone) = dev.call("DELETE", &path, None).await;
    assert_eq!(status, 200, "{gone}");
    dev.ready(&third, 1).await;
    until("the deleted deployment is 404", async || {
        let (status, _) = dev.call("GET", &path, None).await;
        (status == 404).then_some(())
    })
    .await;
    dev.stop().await;
}
