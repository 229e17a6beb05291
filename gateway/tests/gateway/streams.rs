//! Streams: nothing is held back, nothing is cut by a removal, every end is told.

use bytes::Bytes;
use serde_json::{Value, json};
use wharfage_shared::ids::ReplicaId;

use crate::engine::Producer;
use crate::installation::{ACME, Installation, deployment, soon};

fn event(text: &str) -> Bytes {
    Bytes::from(format!("data: {{\"text\":\"{text}\"}}\n\n"))
}

async fn produce(producer: &Producer, chunk: Bytes) {
    soon("room for a chunk", producer.send(Ok(chunk))).await.expect("the engine reads it");
}

/// Opens a stream whose first chunk the engine has yet to produce.
async fn open(all: &Installation, producer: &Producer, first: Bytes) -> reqwest::Response {
    let request = all.request("/v1/chat/completions", ACME);
    let request = request.body(r#"{"model":"chat","stream":true}"#);
    produce(producer, first.clone()).await;
    let mut response = soon("the head", request.send()).await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(next(&mut response).await, Some(first));
    response
}

async fn next(response: &mut reqwest::Response) -> Option<Bytes> {
    soon("the next chunk", response.chunk()).await.expect("a whole stream")
}

#[tokio::test]
async fn each_chunk_arrives_before_the_next_is_produced() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let producer = engine.next_streams();
    let mut response = open(&all, &producer, event("0")).await;
    for number in 1..50 {
        let chunk = event(&number.to_string());
        produce(&producer, chunk.clone()).await;
        assert_eq!(next(&mut response).await, Some(chunk));
    }
    produce(&producer, Bytes::from_static(b"data: {\"usage\":{\"total_tokens\":77}}\n\n")).await;
    drop(producer);
    while next(&mut response).await.is_some() {}
    all.reported("the stream's tokens", |report| report.tokens.values().any(|sum| *sum == 77))
        .await;
}

#[tokio::test]
async fn a_removal_is_acknowledged_while_a_stream_goes_on_to_its_end() {
    let all = Installation::start().await;
    let (old, new) = (all.engine("node-1").await, all.engine("node-2").await);
    all.publish(vec![deployment("chat", &[(1, &old)])]).await;
    let producer = old.next_streams();
    let mut response = open(&all, &producer, event("before")).await;

    all.publish(vec![deployment("chat", &[(2, &new)])]).await;
    all.reported("the removal's acknowledgement", |report| {
        report.routes.number == 2 && report.in_flight.get(&ReplicaId(1)) == Some(&1)
    })
    .await;
    assert_eq!(all.chat("chat").await.1["by"], "node-2", "nothing new goes to the old one");

    produce(&producer, event("after")).await;
    assert_eq!(next(&mut response).await, Some(event("after")));
    assert_eq!(all.last_report().in_flight.get(&ReplicaId(1)), Some(&1));
    drop(producer);
    assert_eq!(next(&mut response).await, None);
    all.reported("the old replica's emptiness", |report| report.in_flight.is_empty()).await;
    assert_eq!(old.seen().len(), 1);
}

#[tokio::test]
async fn a_replica_that_dies_in_the_middle_leaves_an_error_event() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let producer = engine.next_streams();
    // The engine dies in the middle of an event.
    let mut response = open(&all, &producer, Bytes::from_static(b"data: {\"te")).await;
    let death = Err(std::io::Error::other("killed"));
    soon("room", producer.send(death)).await.expect("the engine reads it");
    let mut rest = Vec::new();
    while let Some(chunk) = next(&mut response).await {
        rest.extend_from_slice(&chunk);
    }
    let rest = String::from_utf8(rest).expect("text");
    let event = rest.strip_prefix("\n\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
    let event: Value = serde_json::from_str(event.expect("an event of its own")).expect("JSON");
    assert_eq!(event["error"]["code"], json!("replica_lost"));
    assert_eq!(event["error"]["type"], json!("server_error"));
    assert_eq!(all.gateway.gateway.metrics.lost(), 1);
    all.reported("the end of the request", |report| report.in_flight.is_empty()).await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_engine() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let producer = engine.next_streams();
    let response = open(&all, &producer, event("hello")).await;
    all.reported("the request in flight", |report| !report.in_flight.is_empty()).await;
    drop(response);
    soon("the engine's cancellation", producer.closed()).await;
    all.reported("nothing in flight", |report| report.in_flight.is_empty()).await;
    assert_eq!(all.gateway.gateway.metrics.left(), 1);
}
