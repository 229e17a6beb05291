//! Contracts, prices, invoices and their proof.

use serde_json::json;

use crate::support::{SKU, Scheduler};

fn flex(id: &str) -> serde_json::Value {
    json!({
        "id": id, "organization": "acme", "plan": "flex", "sku": SKU, "region": "US-EAST-04",
        "gpus": 8, "start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z",
        "holding_rate": "12.00", "usage_rate": "30.00",
    })
}

#[tokio::test]
async fn an_invoice_is_recomputed_from_the_log_to_the_same_bytes() {
    let scheduler = Scheduler::start("invoice").await;
    let _node = scheduler.node("node-1", "standard").await;
    let path = "/api/v1/contracts";
    let signed = scheduler.post(path, "provider-admin", &flex("c-1")).await.expect(201);
    assert_eq!((&signed["instances"], &signed["plan"]), (&json!(1), &json!("flex")));
    let seen = scheduler.get(path, "acme-billing").await.expect(200);
    assert_eq!(seen["contracts"][0]["id"], "c-1");
    assert_eq!(scheduler.get(path, "rival-billing").await.expect(200), json!({"contracts": []}));
    let draft = scheduler.post("/api/v1/invoices", "acme-billing", &json!({})).await.expect(201);
    let id = draft["id"].as_str().expect("an id");
    let got = scheduler.get(&format!("/api/v1/invoices/{id}"), "acme-billing").await.expect(200);
    assert_eq!(got, draft);
    assert_eq!(draft["currency"], "USD");
    let proof = scheduler.get(&format!("/api/v1/invoices/{id}/verify"), "acme-billing").await;
    let proof = proof.expect(200);
    assert_eq!((&proof["verified"], &proof["sha256"]), (&json!(true), &draft["sha256"]), "{proof}");
    assert!(proof["first_difference"].is_null());
    let path = format!("/api/v1/invoices/{id}/verify");
    let again = scheduler.post(&path, "acme-billing", &json!({})).await.expect(200);
    assert_eq!(again, proof, "verify is the same however it is called");
    let usage = scheduler.get("/api/v1/usage", "acme-billing").await.expect(200);
    assert_eq!(usage["organization"], "acme");
    assert!(usage["usage"].is_array());
    scheduler.stop().await;
}

#[tokio::test]
async fn terms_that_cannot_be_taken_are_named() {
    let scheduler = Scheduler::start("terms").await;
    let _node = scheduler.node("node-1", "standard").await;
    let cases = [
        ("end", json!("2019-01-01T00:00:00Z"), "end"),
        ("start", json!("soon"), "start"),
        ("plan", json!("gold"), "plan"),
        ("holding_rate", json!("12.0000001"), "holding_rate"),
        ("holding_rate", json!(12), "holding_rate"),
        ("usage_rate", serde_json::Value::Null, "usage_rate"),
        ("gpus", json!(12), "gpus"),
        ("instances", json!(1), "gpus"),
        ("rate", json!("1.00"), "rate"),
        ("organization", json!("no one"), "organization"),
    ];
    for (key, value, field) in cases {
        let mut body = flex("c-2");
        body[key] = value;
        let refused = scheduler.post("/api/v1/contracts", "provider-admin", &body).await;
        assert_eq!(refused.expect(400)["field"], field, "{}", refused.text);
    }
    let price = json!({"sku": SKU, "region": "US-EAST-04", "on_demand": 5});
    let refused = scheduler.post("/api/v1/prices", "provider-admin", &price).await.expect(400);
    assert_eq!(refused["field"], "on_demand");
    let period = json!({"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
    let refused = scheduler.post("/api/v1/invoices", "acme-billing", &period).await.expect(400);
    assert_eq!(refused["field"], "to");
    let foreign = json!({"organization": "rival"});
    scheduler.post("/api/v1/invoices", "acme-billing", &foreign).await.expect(404);
    scheduler.stop().await;
}
