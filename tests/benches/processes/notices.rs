//! From a notice file's appearance to the execution of the first hook.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use wharfage_tests::{Dev, until};

use crate::opened::Opened;
use crate::report;

const ROUNDS: u64 = 25;

/// Notices that are withdrawn once their checkpoint is complete.
pub async fn measure(dev: &Dev) {
    let hooks = json!({ "wharfage": { "hooks": { "checkpoint": "checkpoint" } } });
    let id = dev.deploy("noticed", 1, &[], hooks).await;
    dev.ready(&id, 1).await;
    let script = Path::new(dev.text("state_dir")).join("bin/checkpoint");
    let mut hook = Opened::watch(&script);
    let file = PathBuf::from(dev.node("node-1")["notice_file"].as_str().expect("a path"));
    let (mut took, mut heard_last) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        // At no fixed distance from the agent's own steps.
        tokio::time::sleep(Duration::from_millis(round * 73 % 200)).await;
        let begun = Instant::now();
        dev.notice("node-1", 300, "node");
        let noticed = Instant::now();
        took.push(hook.first_since(begun).await.saturating_duration_since(noticed));
        heard_last = until("the checkpoint is complete", async || {
            let evacuation = dev.status("node-1").await["evacuation"].clone();
            let heard = evacuation["heard_at"].as_u64().filter(|heard| *heard > heard_last)?;
            evacuation["timeline"].to_string().contains("` done after").then_some(heard)
        })
        .await;
        std::fs::remove_file(&file).expect("the notice is there");
        until("the notice is taken back", async || {
            let (_, row) = dev.admin("GET", "/api/v1/nodes/node-1", None).await;
            (row["departure"] == "none").then_some(())
        })
        .await;
    }
    println!("a notice, withdrawn after its checkpoint (the kernel tells of the file):");
    report("notice file -> first hook executed", &mut took);
    let path = format!("/v1alpha1/inference/deployments/{id}");
    let (status, answer) = dev.call("DELETE", &path, None).await;
    assert_eq!(status, 200, "{answer}");
    until("its slot is free", async || dev.replicas(&id).await.is_empty().then_some(())).await;
}
