//! Spot capacity goes; nobody's request does.

use serde_json::json;
use wharfage_tests::{Dev, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_moves_a_replica_inside_its_window_with_its_checkpoint() {
    let dev = Dev::start().await;
    let classes = ["CAPACITY_CLASS_SPOT", "CAPACITY_CLASS_ON_DEMAND"];
    let hooks =
        json!({ "wharfage": { "hooks": { "checkpoint": "checkpoint", "drain": "drain" } } });
    let id = dev.deploy("batch", 4, &classes, hooks).await;
    let old = dev.ready(&id, 1).await.remove(0);
    assert_eq!(old["node"], "node-3", "spot is asked for first");

    dev.notice("node-3", 40, "node");
    until("the node is noticed", async || {
        let (_, row) = dev.admin("GET", "/api/v1/nodes/node-3", None).await;
        (row["departure"] == "noticed").then_some(())
    })
    .await;
    let evacuation = until("the evacuation ended", async || {
        let evacuation = dev.status("node-3").await["evacuation"].clone();
        evacuation["ended_at"].is_number().then_some(evacuation)
    })
    .await;
    assert!(
        evacuation["ended_at"].as_u64() < evacuation["gone_at"].as_u64(),
        "gone before the deadline: {evacuation}"
    );
    let said = evacuation["timeline"].to_string();
    for step in ["checkpoint", "drain", "gone"] {
        assert!(said.contains(step), "`{step}` is on the timeline: {said}");
    }
    let new = dev.ready(&id, 1).await.remove(0);
    assert_ne!(new["node"], "node-3");
    let (status, answer) = dev.chat("batch-model").await;
    assert_eq!(status, 200, "{answer}");
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_notice_gives_the_node_back() {
    let dev = Dev::start().await;
    dev.notice("node-3", 300, "node");
    let departure = async || {
        let (_, row) = dev.admin("GET", "/api/v1/nodes/node-3", None).await;
        row["departure"].as_str().unwrap_or_default().to_owned()
    };
    until("noticed", async || (departure().await == "noticed").then_some(())).await;
    std::fs::remove_file(dev.node("node-3")["notice_file"].as_str().unwrap()).unwrap();
    until("taken back", async || (departure().await == "none").then_some(())).await;
    let id = dev.deploy("batch", 4, &["CAPACITY_CLASS_SPOT"], json!({})).await;
    assert_eq!(dev.ready(&id, 1).await[0]["node"], "node-3");
    dev.stop().await;
}
