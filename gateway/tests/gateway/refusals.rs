//! What is refused, in the shape that OpenAI's clients read.

use serde_json::{Value, json};
use wharfage_shared::ids::{DeploymentId, OrganizationId};

use crate::installation::{ACME, Installation, RIVAL, client, deployment};

fn code(answer: &(u16, Value)) -> (u16, &str) {
    let error = &answer.1["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{answer:?}");
    assert!(error.get("param").is_some(), "{error}");
    (answer.0, error["code"].as_str().expect("a code"))
}

#[tokio::test]
async fn every_refusal_names_what_was_wrong() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let ask = |token: &'static str, body: Value| all.ask("/v1/chat/completions", token, body);
    let good = || json!({"model": "chat"});

    assert_eq!(code(&ask("guessed", good()).await), (401, "invalid_api_key"));
    assert_eq!(code(&ask(ACME, json!({"model": "nope"})).await), (404, "model_not_found"));
    assert_eq!(code(&ask(RIVAL, good()).await), (404, "model_not_found"));
    assert_eq!(code(&ask(ACME, json!({})).await), (400, "missing_model"));
    assert_eq!(code(&ask(ACME, json!({"model": 4})).await), (400, "invalid_model"));
    assert_eq!(code(&ask(ACME, json!(["chat"])).await), (400, "invalid_json"));
    assert_eq!(code(&all.ask("/v1/images", ACME, good()).await), (404, "unknown_url"));
    assert_eq!(code(&all.ask("/v1/models", ACME, good()).await), (405, "method_not_allowed"));

    let limit = 16 << 20;
    let sized = |size: usize| {
        let frame = r#"{"model":"chat","x":""}"#;
        format!(r#"{{"model":"chat","x":"{}"}}"#, "y".repeat(size - frame.len()))
    };
    for (size, status) in [(limit, 200), (limit + 1, 413), (2 * limit, 413)] {
        let sent = all.request("/v1/chat/completions", ACME).body(sized(size)).send().await;
        assert_eq!(sent.expect("an answer, not a closed connection").status(), status, "{size}");
    }
    assert_eq!(engine.seen().len(), 1, "only what was good reached the engine");
}

#[tokio::test]
async fn both_kinds_of_authorization_are_read() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let url = format!("{}/v1/completions", all.gateway.url);
    let ask = async |value: &str| {
        let request = client().post(&url).header("authorization", value);
        request.body(r#"{"model":"chat"}"#).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask(&format!("Bearer {ACME}")).await, 200);
    assert_eq!(ask(&format!("bearer {ACME}")).await, 200);
    assert_eq!(ask(&format!("Api-Key {ACME}")).await, 200);
    assert_eq!(ask(&format!("Basic {ACME}")).await, 401);
    assert_eq!(ask(ACME).await, 401);
    assert_eq!(ask("Bearer ").await, 401);
    let nobody = client().post(&url).body("{}").send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
    assert_eq!(nobody.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn an_organization_sees_its_own_models_and_no_other() {
    let all = Installation::start().await;
    let mut rival = deployment("secret-project", &[]);
    rival.organization = OrganizationId::from("rival");
    let mut twin = deployment("chat", &[]);
    twin.id = DeploymentId::from("d-twin");
    all.publish(vec![deployment("chat", &[]), twin, deployment("embed", &[]), rival]).await;
    let ids = async |token: &'static str| {
        let (status, text) = all.get("/v1/models", Some(token)).await;
        assert_eq!(status, 200);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(list["object"], "list");
        let ids = list["data"].as_array().expect("a list").iter().map(|m| m["id"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(ACME).await, ["chat", "embed"]);
    assert_eq!(ids(RIVAL).await, ["secret-project"]);
    assert_eq!(all.get("/v1/models", None).await.0, 401);
    assert_eq!(all.get("/v1/models/chat", Some(ACME)).await.0, 200);
    assert_eq!(all.get("/v1/models/chat", Some(RIVAL)).await.0, 404);

    let (status, metrics) = all.get("/metrics", None).await;
    assert_eq!(status, 200);
    assert!(metrics.contains("wharfage_gateway_requests_total{code=\"200\"}"), "{metrics}");
    for secret in ["secret-project", "rival", "acme", "d-chat"] {
        assert!(!metrics.contains(secret), "anybody may read the metrics: {secret}");
    }
}

#[tokio::test]
async fn before_the_first_routes_the_gateway_says_that_it_is_not_ready() {
    let all = Installation::start().await;
    let (status, health) = all.get("/healthz", None).await;
    assert_eq!(status, 503, "{health}");
    assert_eq!(code(&all.chat("chat").await), (503, "no_routes"));
    all.publish(Vec::new()).await;
    let (status, health) = all.get("/healthz", None).await;
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert_eq!(health["routes"], json!({"term": 7, "number": 1}));
}
