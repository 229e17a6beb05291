//! One replica on two hosts: it is ready when all of it is, and ends when any part of it does.

use serde_json::{Value, json};
use wharfage_tests::{Dev, signal, until};

/// Who holds memory of the node's GPUs.
fn engine_on(dev: &Dev, node: &str) -> Option<i32> {
    let claims = format!("{}/claims", dev.node(node)["fake_dir"].as_str()?);
    let mut folders = std::fs::read_dir(claims).ok()?;
    folders.find_map(|folder| {
        let mut claims = std::fs::read_dir(folder.ok()?.path()).ok()?;
        claims.find_map(|claim| claim.ok()?.file_name().to_str()?.parse().ok())
    })
}

fn nodes(row: &Value) -> Vec<&str> {
    let members = row["members"].as_array().unwrap();
    members.iter().map(|member| member["node"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_gpus_are_one_replica_on_two_hosts() {
    let dev = Dev::start().await;
    let id = dev.deploy("large", 16, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    let row = dev.ready(&id, 1).await.remove(0);
    assert_eq!(nodes(&row), ["node-1", "node-2"]);
    assert_eq!(row["node"], "node-1", "the leader serves");
    assert_eq!(row["gpus"].as_array().unwrap().len(), 16);
    assert_eq!(row["members"][1]["rank"], 1);
    let (status, answer) = dev.chat("large-model").await;
    assert_eq!(status, 200, "{answer}");

    let follower = engine_on(&dev, "node-2").expect("its engine holds memory");
    signal(follower, rustix::process::Signal::KILL);
    let again = until("another one serves in its stead", async || {
        let ready = dev.replicas(&id).await.into_iter().find(|row| row["phase"] == "ready")?;
        (ready["id"] != row["id"]).then_some(ready)
    })
    .await;
    assert_eq!(nodes(&again), ["node-1", "node-2"], "all of the first one is gone");
    dev.stop().await;
}
