//! The dashboard in a real Chromium.

use std::process::Command;

use serde_json::json;
use wharfage_tests::Dev;

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_nodes_and_replicas_to_a_browser() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 2, &[], json!({})).await;
    let replica = dev.ready(&id, 1).await.remove(0);
    let profile = std::env::temp_dir().join(format!("wharfage-browser-{}", std::process::id()));
    let page = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("{}/?token={}", dev.text("scheduler_url"), dev.text("token")))
        .output()
        .expect("chromium runs: tests/prerequisites.sh browser installs it");
    let dom = String::from_utf8_lossy(&page.stdout).into_owned();
    // A missing profile is as good as a removed one.
    let _ = std::fs::remove_dir_all(&profile);
    for word in ["node-1", "node-2", "node-3", "chat", replica["id"].as_str().unwrap()] {
        assert!(dom.contains(word), "`{word}` is on the page: {dom}");
    }
    dev.stop().await;
}
