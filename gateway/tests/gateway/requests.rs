//! Where a request goes: models, weights, loads, front doors, retries, waiting.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use wharfage_shared::gateway::Routing;
use wharfage_shared::ids::{DeploymentId, GatewayId, OrganizationId, ReplicaId};

use crate::engine::Act;
use crate::installation::{ACME, Installation, RIVAL, bounds, deployment, front_door, soon};

#[tokio::test]
async fn a_request_reaches_the_engine_as_it_was_sent_without_the_callers_token() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "n": 1});
    let (status, answer) = all.ask("/v1/chat/completions", ACME, body.clone()).await;
    assert_eq!((status, &answer["by"]), (200, &json!("node-1")));
    let seen = engine.seen().remove(0);
    assert_eq!((seen.path.as_str(), seen.body), ("/v1/chat/completions", body));
    assert!(!seen.headers.contains_key("authorization"), "{:?}", seen.headers);
    all.reported("tokens by key", |report| {
        report.tokens.values().copied().collect::<Vec<_>>() == [10]
            && report.finished.get(&DeploymentId::from("d-chat")) == Some(&1)
            && report.in_flight.is_empty()
    })
    .await;
    for path in ["/v1/completions", "/v1/embeddings"] {
        assert_eq!(all.ask(path, ACME, json!({"model": "chat"})).await.0, 200);
        assert_eq!(engine.seen().last().expect("seen").path, path);
    }
}

#[tokio::test]
async fn a_replicas_connection_carries_one_request_after_the_other() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    for _ in 0..5 {
        assert_eq!(all.chat("chat").await.0, 200);
    }
    assert_eq!(engine.connections(), 1, "a handshake for each request would cost milliseconds");
}

#[tokio::test]
async fn the_least_loaded_replica_takes_the_next_request() {
    let all = Installation::start().await;
    let (one, two) = (all.engine("node-1").await, all.engine("node-2").await);
    all.publish(vec![deployment("chat", &[(1, &one), (2, &two)])]).await;
    let go = Arc::new(Notify::new());
    one.next(Act::After(go.clone()));
    let busy = async {
        let answered = all.chat("chat").await;
        assert_eq!(answered.1["by"], "node-1");
    };
    let meanwhile = async {
        one.arrived().await;
        assert_eq!(all.chat("chat").await.1["by"], "node-2");
        all.reported("the held request", |report| {
            report.in_flight.get(&ReplicaId(1)) == Some(&1)
                && !report.in_flight.contains_key(&ReplicaId(2))
        })
        .await;
        go.notify_one();
    };
    tokio::join!(busy, meanwhile);
    assert_eq!(all.chat("chat").await.1["by"], "node-1", "idle again, and the first");
}

#[tokio::test]
async fn deployments_of_one_model_name_share_by_weight() {
    let all = Installation::start().await;
    let (old, new) = (all.engine("node-1").await, all.engine("node-2").await);
    let mut canary = deployment("chat", &[(2, &new)]);
    (canary.id, canary.weight) = (DeploymentId::from("d-canary"), 25);
    let mut stable = deployment("chat", &[(1, &old)]);
    stable.weight = 75;
    all.publish(vec![stable, canary]).await;
    for _ in 0..20 {
        assert_eq!(all.chat("chat").await.0, 200);
    }
    let (stable, canary) = (old.seen().len(), new.seen().len());
    assert!((14..=16).contains(&stable), "{stable} and {canary}");
    assert_eq!(stable + canary, 20);
}

#[tokio::test]
async fn a_replica_that_is_gone_or_refuses_is_passed_over() {
    let all = Installation::start().await;
    let (gone, good) = (all.engine("node-1").await, all.engine("node-2").await);
    let mut chat = deployment("chat", &[(1, &gone), (2, &good)]);
    // Nobody listens on port 1 of loopback.
    chat.replicas[0].address = "127.0.0.1:1".into();
    all.publish(vec![chat.clone()]).await;
    assert_eq!(all.chat("chat").await, (200, good_answer()));

    // The guard of another node than the routes say answers at that address.
    chat.replicas[0].address = good.address.clone();
    all.publish(vec![chat.clone()]).await;
    assert_eq!(all.chat("chat").await, (200, good_answer()));
    assert_eq!(good.seen().len(), 2, "the wrong name heard nothing");

    chat.replicas[0].address = gone.address.clone();
    all.publish(vec![chat.clone()]).await;
    for status in [502, 503, 504] {
        gone.next(Act::Status(status));
        assert_eq!(all.chat("chat").await, (200, good_answer()));
    }
    // When everybody refuses, the client gets the last refusal as it is.
    gone.next(Act::Status(503));
    good.next(Act::Status(503));
    assert_eq!(all.chat("chat").await, (503, json!({"by": "node-2"})));
    // Another failure of the engine is its answer.
    gone.next(Act::Status(500));
    assert_eq!(all.chat("chat").await, (500, json!({"by": "node-1"})));
}

fn good_answer() -> serde_json::Value {
    json!({"by": "node-2", "usage": {"prompt_tokens": 3, "total_tokens": 10}})
}

#[tokio::test]
async fn a_parked_request_is_told_at_once_and_served_when_a_replica_appears() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[])]).await;
    let chat = DeploymentId::from("d-chat");
    let scheduler = async {
        all.reported("the parked request", |report| report.parked.get(&chat) == Some(&1)).await;
        all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    };
    let (answered, ()) = tokio::join!(all.chat("chat"), scheduler);
    assert_eq!(answered.0, 200);
    all.reported("an empty queue", |report| report.parked.is_empty()).await;
}

#[tokio::test]
async fn who_cannot_wait_longer_or_finds_the_queue_full_is_told_when_to_try_again() {
    let short = Duration::from_millis(50);
    let all = Installation::bounded(wharfage_gateway::gateway::Bounds {
        queue_timeout: short,
        queue_limit: 0,
        ..bounds()
    })
    .await;
    all.publish(vec![deployment("chat", &[])]).await;
    let request = || all.request("/v1/chat/completions", ACME).body(r#"{"model":"chat"}"#).send();
    let full = soon("a refusal", request()).await.expect("an answer");
    assert_eq!(full.status(), 503);
    assert!(full.headers().contains_key("retry-after"));
    assert!(full.text().await.expect("whole").contains("queue_full"));

    let all = Installation::bounded(wharfage_gateway::gateway::Bounds {
        queue_timeout: short,
        ..bounds()
    })
    .await;
    all.publish(vec![deployment("chat", &[])]).await;
    let (status, answer) = all.chat("chat").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("no_ready_replica")));
}

#[tokio::test]
async fn a_model_that_goes_while_requests_wait_for_it_is_not_found() {
    let all = Installation::start().await;
    all.publish(vec![deployment("chat", &[])]).await;
    let removal = async {
        all.reported("the parked request", |report| !report.parked.is_empty()).await;
        all.publish(Vec::new()).await;
    };
    let (answered, ()) = tokio::join!(all.chat("chat"), removal);
    assert_eq!((answered.0, &answered.1["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn front_doors_look_where_their_routing_says() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    let at = |id: &str| {
        let mut chat = deployment(id, &[(1, &engine)]);
        chat.gateways = vec![GatewayId::from(id)];
        chat
    };
    let doors = vec![
        front_door("header", Routing::Header { name: "X-Model".into() }),
        front_door("path", Routing::Path),
        front_door("body", Routing::Body),
    ];
    all.publish_with(vec![at("header"), at("path"), at("body")], doors).await;

    let by_header = |model: &str| {
        all.request("/v1/completions", ACME).header("x-model", model).body("{\"prompt\":\"hi\"}")
    };
    assert_eq!(by_header("header").send().await.expect("an answer").status(), 200);
    assert_eq!(by_header("body").send().await.expect("an answer").status(), 404);
    let by_path = async |model: &str| {
        all.ask(&format!("/{model}/v1/completions"), ACME, json!({"prompt": "hi"})).await.0
    };
    assert_eq!(by_path("path").await, 200);
    assert_eq!(engine.seen().last().expect("seen").path, "/v1/completions");
    assert_eq!(by_path("body").await, 404);
    assert_eq!(all.chat("body").await.0, 200);
    assert_eq!(all.chat("header").await.0, 404, "its front door looks in a header");
}

#[tokio::test]
async fn basetens_paths_predict_and_wake() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    let mut rival = deployment("chat", &[]);
    rival.organization = OrganizationId::from("rival");
    rival.id = DeploymentId::from("d-rival");
    all.publish(vec![deployment("chat", &[]), rival]).await;
    let wake = |path: &'static str| all.ask(path, ACME, json!({}));
    assert_eq!(wake("/models/chat/production/wake").await, (202, json!("")));
    let chat = DeploymentId::from("d-chat");
    all.reported("the wish", |report| report.parked.get(&chat) == Some(&1)).await;
    assert_eq!(wake("/models/d-chat/deployment/d-chat/wake").await.0, 202);
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    all.reported("the wish granted", |report| report.parked.is_empty()).await;

    let predict = |path: &'static str, body| all.ask(path, ACME, body);
    let messages = json!({"messages": []});
    for path in
        ["/models/chat/production/predict", "/models/d-chat/environments/production/predict"]
    {
        assert_eq!(predict(path, messages.clone()).await.0, 200, "{path}");
        assert_eq!(engine.seen().last().expect("seen").path, "/v1/chat/completions");
    }
    assert_eq!(
        predict("/models/chat/deployment/d-chat/predict", json!({"prompt": ""})).await.0,
        200
    );
    for path in [
        "/models/chat/development/predict",
        "/models/other/production/predict",
        "/models/chat/deployment/d-rival/predict",
        "/models/chat/sideways/predict",
        "/models/chat/production/unpredict",
    ] {
        assert_eq!(predict(path, messages.clone()).await.0, 404, "{path}");
    }
    assert_eq!(all.ask("/models/chat/production/wake", RIVAL, json!({})).await.0, 404);
}
