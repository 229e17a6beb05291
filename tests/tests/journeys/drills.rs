//! A drill with real processes: a node is told to leave, leaves by its own plan, is open again, and
//! the report says how it went.

use serde_json::{Value, json};
use tokio::process::Command;
use wharfage_tests::{Dev, program, until};

/// `wharfage` with these words, as the provider: its exit code and what it printed.
pub async fn wharfage(dev: &Dev, words: &[&str]) -> (i32, String) {
    let run = Command::new(program("wharfage"))
        .args(words)
        .env("WHARFAGE_URL", dev.text("scheduler_url"))
        .env("WHARFAGE_TOKEN", dev.text("admin_token"))
        .kill_on_drop(true)
        .output();
    let output = run.await.expect("wharfage runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

/// The id of the drill that `--wait` prints first.
pub fn id_of(said: &str) -> &str {
    let line = said.lines().find_map(|line| line.strip_prefix("drill "));
    line.unwrap_or_else(|| panic!("no drill is named: {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_gone_through_and_its_report_is_read_back() {
    let dev = Dev::start().await;
    let classes = ["CAPACITY_CLASS_SPOT", "CAPACITY_CLASS_ON_DEMAND"];
    let hooks =
        json!({ "wharfage": { "hooks": { "checkpoint": "checkpoint", "drain": "drain" } } });
    let id = dev.deploy("batch", 4, &classes, hooks).await;
    let old = dev.ready(&id, 1).await.remove(0);
    assert_eq!(old["node"], "node-3", "spot is asked for first");

    let asked = ["drill", "run", "--node", "node-3", "--profile", "custom", "--window", "30"];
    let targets = ["--first-action", "15", "--checkpoints", "100", "--capacity-back", "60"];
    let words = [&asked[..], &targets, &["--name", "weekly", "--wait"]].concat();
    let (code, said) = wharfage(&dev, &words).await;
    assert_eq!(code, 0, "{said}");
    for step in ["the node heard it", "checkpoint hook", "drain hook", "the capacity was back"] {
        assert!(said.contains(step), "`{step}` is on the timeline: {said}");
    }
    assert!(said.contains("passed: every node and every target passed"), "{said}");

    let drill = id_of(&said);
    let (code, report) = wharfage(&dev, &["drill", "show", drill, "-o", "json"]).await;
    assert_eq!(code, 0, "{report}");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let node = &report["nodes"][0];
    assert_eq!(node["checkpoints"], json!({"completed": 1, "of": 1}), "{node}");
    assert!(node["first_action_seconds"].is_number(), "{node}");
    assert!(node["capacity_back_seconds"].is_number(), "{node}");
    let hooks = node["hooks"].as_array().expect("hooks");
    for hook in hooks {
        assert_eq!(hook["outcome"], "done", "{node}");
        assert!(hook["started_at"].is_string() && hook["ended_at"].is_string(), "{node}");
    }
    let (_, list) = wharfage(&dev, &["drill", "list"]).await;
    assert!(list.contains(drill) && list.contains("passed"), "{list}");

    let new = dev.ready(&id, 1).await.remove(0);
    assert_ne!(new["node"], "node-3");
    until("the node is open again", async || {
        let (_, row) = dev.admin("GET", "/api/v1/nodes/node-3", None).await;
        (row["departure"] == "none" && row["intent"] == "open").then_some(())
    })
    .await;
    let (status, answer) = dev.chat("batch-model").await;
    assert_eq!(status, 200, "{answer}");

    // The whole window cannot be used where the replica moves as soon as another one serves.
    let node = new["node"].as_str().expect("a node");
    let asked = ["drill", "run", "--node", node, "--profile", "custom", "--window", "30"];
    let words = [&asked[..], &["--window-used", "100", "--wait"]].concat();
    let (code, said) = wharfage(&dev, &words).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("of the window used, wanted 100 %"), "{said}");
    dev.stop().await;
}
