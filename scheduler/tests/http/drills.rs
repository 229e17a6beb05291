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
        "abort": {"more_requests_cut_than": 5},
        "targets": {"capacity_back_seconds": 60},
    });
    let dry = format!("{PATH}?dryRun=true");
    let told = scheduler.post(&dry, "provider-admin", &body).await.expect(200);
    let node = json!({"node": "node-1", "waits": null, "replicas": []});
    assert_eq!(told["drilled"], json!([node]), "it tells which nodes would be taken");
    let none = scheduler.get(PATH, "provider-admin").await.expect(200);
    assert_eq!(none, json!({"drills": []}), "a dry run begins nothing");

    let made = scheduler.post(PATH, "provider-admin", &body).await.expect(201);
    let one = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
    let row = scheduler.get(&one, "provider-admin").await.expect(200);
    assert_eq!(row["scope"], json!({"node": "node-1"}));
    assert_eq!((&row["window_seconds"], &row["verdict"]), (&json!(120), &json!("running")));
    assert_eq!(row["nodes"][0]["state"], "told");
    let abort = json!({
        "below_min_ready": true, "fewer_than_ready": null, "more_requests_cut_than": 5,
    });
    assert_eq!(row["abort"], abort);
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
    let junit = scheduler.get(&format!("{one}/report?format=junit"), "provider-admin").await;
    assert_eq!(junit.headers["content-type"], "application/xml; charset=utf-8");
    let case = "<testcase classname=\"wharfage.drill.weekly\" name=\"verdict\"><failure message=";
    assert!(junit.text.contains(case), "{}", junit.text);
    let page = scheduler.get(&format!("{one}/report?format=html"), "provider-admin").await;
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(page.text.contains("<svg class=\"timeline\"") && !page.text.contains("<script"));
    let bad = scheduler.get(&format!("{one}/report?format=pdf"), "provider-admin").await;
    assert!(bad.expect(400)["detail"].as_str().is_some_and(|text| text.contains("junit")));
    scheduler.delete(&one, "provider-admin").await.expect(409);
    scheduler.get(&format!("{PATH}/none/report"), "provider-admin").await.expect(404);
}

#[tokio::test]
async fn a_drill_is_scheduled_shown_with_its_next_time_and_ended() {
    let scheduler = Scheduler::start("drill-times").await;
    let _node = scheduler.node("node-1", "standard").await;
    let mut body = json!({
        "name": "<b>weekly</b>",
        "scope": {"node": "node-1"},
        "profile": "gcp-30",
        "schedule": {"cron": "30 3 29 FEB *"},
    });
    let made = scheduler.post(PATH, "provider-admin", &body).await.expect(201);
    let one = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
    assert_eq!(
        (&made["verdict"], &made["schedule"]["time_zone"]),
        (&json!("scheduled"), &json!("UTC"))
    );
    let next = made["schedule"]["next_at"].as_str().expect("an instant");
    assert!(next.contains("-02-29T03:30:00"), "{next}");
    let listed = scheduler.get(PATH, "provider-admin").await.expect(200);
    assert_eq!(listed["drills"][0]["id"], made["id"]);
    assert_eq!(listed["drills"].as_array().map(Vec::len), Some(1), "nothing has begun");

    body["schedule"] = json!({"cron": "61 * * * *", "time_zone": "Atlantis/Poseidonis"});
    let refused = scheduler.post(PATH, "provider-admin", &body).await;
    let text = refused.text.clone();
    refused.expect(400);
    assert!(text.contains("the field minute has `61`, accepted are 0 to 59"), "{text}");
    assert!(text.contains("schedule.time_zone"), "both are told: {text}");

    let ended = scheduler.delete(&one, "provider-admin").await.expect(200);
    assert_eq!((&ended["verdict"], &ended["schedule"]["next_at"]), (&json!("ended"), &json!(null)));
    let listed = scheduler.get(PATH, "provider-admin").await.expect(200);
    assert_eq!(listed, json!({"drills": []}));
}
