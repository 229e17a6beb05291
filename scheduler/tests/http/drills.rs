//! Drills over HTTP: begun, shown, given up, reported; the provider's alone.

use serde_json::json;

use crate::support::Scheduler;

const PATH: &str = "/api/v1/drills";

#[tokio::test]
async fn a_drill_is_begun_shown_given_up_and_reported() {
    let scheduler = Scheduler::start("drills").await;
    let _node = scheduler.node("node-1", "standard").await;
    let body = json!({
        "name": "weekly",
        "scope": {"node": "node-1"},
        "profile": "aws-120",
        "targets": {"capacity_back_seconds": 60},
    });
    let dry = format!("{PATH}?dryRun=true");
    scheduler.post(&dry, "provider-admin", &body).await.expect(200);
    let none = scheduler.get(PATH, "provider-admin").await.expect(200);
    assert_eq!(none, json!({"drills": []}), "a dry run begins nothing");

    let made = scheduler.post(PATH, "provider-admin", &body).await.expect(201);
    let one = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
    let row = scheduler.get(&one, "provider-admin").await.expect(200);
    assert_eq!(row["scope"], json!({"node": "node-1"}));
    assert_eq!((&row["window_seconds"], &row["verdict"]), (&json!(120), &json!("running")));
    assert_eq!(row["nodes"][0]["state"], "told");
    assert_eq!(row["abort"]["below_min_ready"], true);
    scheduler.get(&one, "acme-viewer").await.expect(404);
    let theirs = scheduler.get(PATH, "acme-viewer").await.expect(200);
    assert_eq!(theirs, json!({"drills": []}), "only the provider sees drills");
    scheduler.post(PATH, "acme-admin", &body).await.expect(403);
    scheduler.post(PATH, "provider-admin", &body).await.expect(409);

    scheduler.delete(&one, "provider-admin").await.expect(200);
    let report = scheduler.get(&format!("{one}/report"), "provider-admin").await.expect(200);
    assert_eq!(report["verdict"], "aborted");
    let sentence = report["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("the drill was given up: an operator gave it up"), "{sentence}");
    assert_eq!(report["nodes"][0]["requests"]["cut"], "not measured");
    assert_eq!(report["nodes"][0]["timeline"][0]["what"], "told to leave");
    scheduler.delete(&one, "provider-admin").await.expect(409);
    scheduler.get(&format!("{PATH}/none/report"), "provider-admin").await.expect(404);
}
