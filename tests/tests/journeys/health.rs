//! A GPU breaks: the node says so, nothing new goes there, what ran there moves.

use serde_json::{Value, json};
use wharfage_tests::{Dev, program, until};

/// `wharfage-agent` beside the agent of this node.
fn tell_agent(dev: &Dev, node: &str, arguments: &[&str]) {
    let config = format!("{}/etc/{node}.toml", dev.text("state_dir"));
    let mut command = std::process::Command::new(program("wharfage-agent"));
    let done = command.args(["--config", &config]).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn row(dev: &Dev, node: &str) -> Value {
    dev.admin("GET", &format!("/api/v1/nodes/{node}"), None).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_xid_79_closes_the_node_and_moves_what_runs_there() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 4, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    let old = dev.ready(&id, 1).await.remove(0);
    let at = old["node"].as_str().unwrap().to_owned();

    tell_agent(&dev, &at, &["inject", "xid", "79", "--gpu", "0"]);
    let closed = until("the node is closed", async || {
        let row = row(&dev, &at).await;
        (row["health"] == "unfit").then_some(row)
    })
    .await;
    let because = closed["health_because"].as_str().unwrap();
    assert!(because.starts_with("cordoned by XID 79 (injected)"), "{because}");
    let asks = &closed["health_report"]["asks"];
    assert!(asks.as_array().unwrap().iter().all(|ask| ask["injected"] == true), "{asks}");
    let moved = until("it serves elsewhere", async || {
        let ready = dev.ready(&id, 1).await.remove(0);
        (ready["node"] != at.as_str()).then_some(ready)
    })
    .await;
    assert_ne!(moved["id"], old["id"]);
    let (_, explained) = dev.admin("GET", &format!("/api/v1/deployments/{id}/explain"), None).await;
    assert!(explained.to_string().contains("cordoned by XID 79"), "{explained}");
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_needs_a_reset_closes_its_slot_and_the_others_take_what_is_new() {
    let dev = Dev::start().await;
    for node in ["node-2", "node-3"] {
        let path = format!("/api/v1/nodes/{node}/cordon");
        dev.admin("POST", &path, Some(&json!({"reason": "only one is left"}))).await;
    }
    tell_agent(&dev, "node-1", &["inject", "xid", "119", "--gpu", "7"]);
    until("the slot is closed", async || {
        let row = row(&dev, "node-1").await;
        row["gpus"][7]["unfit"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(row(&dev, "node-1").await["health"], "fit", "the node is not");
    let id = dev.deploy("chat", 4, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    assert_eq!(dev.ready(&id, 1).await[0]["node"], "node-1");
    let gates = row(&dev, "node-1").await["health_report"]["gates"].clone();
    let of = |id: &str| {
        let mut all = gates.as_array().unwrap().iter();
        all.find(|gate| gate["id"] == id).unwrap_or_else(|| panic!("{id} is shown: {gates}"))
    };
    assert_eq!(of("G16")["state"], "off", "the disk of a development host is whatever it is");
    assert_eq!(of("G2")["state"], "pass");
    dev.stop().await;
}
