//! Server-sent events: filtered by organization, resumable, nothing twice and nothing missed.

use std::collections::VecDeque;

use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Scheduler, client, deployment};

/// A stream that is read event by event.
struct Told {
    bytes: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
    ready: VecDeque<(u64, Value)>,
}

impl Told {
    async fn open(scheduler: &Scheduler, token: &str, after: Option<u64>) -> Self {
        let request = client().get(format!("{}/api/v1/events", scheduler.url));
        let mut request = request.header("authorization", format!("Bearer {token}"));
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let bytes = Box::pin(answer.bytes_stream());
        Self { bytes, text: String::new(), ready: VecDeque::new() }
    }

    /// The next event: its id and its content.
    async fn next(&mut self) -> (u64, Value) {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return next;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.bytes.next()).await;
            let chunk = chunk.expect("something in time").expect("the stream goes on");
            self.text.push_str(&String::from_utf8_lossy(&chunk.expect("bytes")));
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                };
                if let (Some(id), Some(body)) = (field("id:"), field("data:")) {
                    let id = id.parse().expect("a position");
                    self.ready.push_back((id, serde_json::from_str(body).expect("JSON")));
                }
            }
        }
    }

    /// Reads until a fact of this kind; everything up to it.
    async fn until(&mut self, entity: &str, kind: &str) -> Vec<(u64, Value)> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await;
            let found = event.1["facts"]
                .as_array()
                .is_some_and(|facts| facts.iter().any(|fact| fact[entity][kind].is_object()));
            seen.push(event);
            if found {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let scheduler = Scheduler::start("resume").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let mut live = Told::open(&scheduler, "provider-viewer", None).await;
    let path = "/api/v1/deployments";
    scheduler.post(path, "acme-operator", &deployment("one")).await.expect(201);
    scheduler.post(path, "acme-operator", &deployment("two")).await.expect(201);
    let first = live.until("deployment", "created").await;
    let second = live.until("deployment", "created").await;
    let last = first.last().expect("an event").0;
    let mut resumed = Told::open(&scheduler, "provider-viewer", Some(last)).await;
    let again = resumed.until("deployment", "created").await;
    assert_eq!(again, second);
    scheduler.post(path, "acme-operator", &deployment("three")).await.expect(201);
    let third = live.until("deployment", "created").await;
    assert_eq!(resumed.until("deployment", "created").await, third);
    let mut whole = Told::open(&scheduler, "provider-viewer", Some(0)).await;
    let mut positions = Vec::new();
    while positions.last() != third.last().map(|event| &event.0) {
        positions.push(whole.next().await.0);
    }
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{positions:?}");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_tenant_is_told_its_own_facts_and_no_secret() {
    let scheduler = Scheduler::start("told").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let path = "/api/v1/deployments";
    scheduler.post(path, "acme-operator", &deployment("hidden")).await.expect(201);
    let reason = json!({"reason": "secret-reason"});
    scheduler.post("/api/v1/nodes/node-1/cordon", "provider-operator", &reason).await.expect(200);
    let mut mine = deployment("mine");
    mine["gatewayIds"] = json!(["gate"]);
    scheduler.post(path, "rival-operator", &mine).await.expect(201);
    let mut told = Told::open(&scheduler, "rival-viewer", Some(0)).await;
    let seen = told.until("deployment", "created").await;
    let text = serde_json::to_string(&seen.iter().map(|(_, body)| body).collect::<Vec<_>>());
    let text = text.expect("JSON");
    for secret in ["hidden", "acme", "sha256", "secret-reason", "tok-acme"] {
        assert!(!text.contains(secret), "rival is told `{secret}`: {text}");
    }
    assert!(text.contains("mine") && text.contains("node-1"));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_revoked_token_ends_its_stream() {
    let scheduler = Scheduler::start("revoked").await;
    let mut told = Told::open(&scheduler, "acme-viewer", None).await;
    scheduler.delete("/api/v1/tokens/tok-acme-viewer", "acme-admin").await.expect(200);
    let end = tokio::time::timeout(PATIENCE, told.bytes.next()).await.expect("in time");
    assert!(end.is_none(), "{end:?}");
    let bad = client().get(format!("{}/api/v1/events", scheduler.url));
    let bad = bad.header("authorization", "Bearer acme-operator").header("last-event-id", "x");
    assert_eq!(bad.send().await.expect("answered").status(), 400);
    scheduler.stop().await;
}
