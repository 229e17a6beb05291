//! The owner's own tool hears how many nodes are wanted, whatever happens to it meanwhile.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wharfage_scheduler::config::Webhook;
use wharfage_scheduler::webhooks::{self, signature};

use crate::support::{PATIENCE, SKU, Scheduler, ZONE};

const SECRET: &str = "a secret of the owner's tool";

/// What a receiver was sent: the signature, the delivery's name, the body.
type Heard = Arc<Mutex<Vec<(String, String, String)>>>;

/// A real HTTP server that refuses the first `failures` messages.
async fn receiver(failures: usize) -> (String, Heard) {
    let heard = Heard::default();
    let kept = Arc::clone(&heard);
    let take = move |headers: HeaderMap, body: String| {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let mut kept = kept.lock().expect("nobody panics with it");
        kept.push((text("wharfage-signature"), text("wharfage-delivery"), body));
        let refuses = kept.len() <= failures;
        async move { if refuses { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK } }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/wanted", listener.local_addr().expect("bound"));
    let router = Router::new().route("/wanted", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

/// Waits until the receiver has heard so many messages.
async fn until(heard: &Heard, count: usize) -> Vec<(String, String, Value)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = heard.lock().expect("nobody panics with it").clone();
        if now.len() >= count {
            let read = |body: &str| serde_json::from_str(body).expect("JSON");
            return now.iter().map(|(s, id, body)| (s.clone(), id.clone(), read(body))).collect();
        }
        assert!(Instant::now() < deadline, "only {now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn webhook(url: &str) -> Webhook {
    Webhook { url: url.parse().expect("a URL"), secret: Some(SECRET.to_owned()) }
}

async fn pool(scheduler: &Scheduler, target: u32) {
    let body = json!({
        "id": "spots", "zone": ZONE, "sku": SKU, "compute_class": "spot",
        "target_nodes": target, "min_nodes": 0, "max_nodes": 9,
    });
    scheduler.post("/api/v1/nodepools", "provider-admin", &body).await.expect(201);
}

#[tokio::test]
async fn wanted_nodes_are_told_signed_and_again_until_they_were_taken() {
    let scheduler = Scheduler::start("webhook").await;
    let (url, heard) = receiver(1).await;
    let ends = CancellationToken::new();
    let senders = webhooks::start(&[webhook(&url)], &scheduler.driver.handle, &ends);
    let senders = senders.expect("a client");
    pool(&scheduler, 2).await;
    let told = until(&heard, 2).await;
    assert_eq!(told[0].1, told[1].1, "the same message again");
    let body = &told[1].2;
    assert_eq!((&body["event"], &body["pool"]), (&json!("nodes.wanted"), &json!("spots")));
    let counts = ["target_nodes", "current_nodes", "queued_nodes"].map(|key| body[key].clone());
    assert_eq!(counts, [json!(2), json!(0), json!(2)]);
    assert_eq!((&body["zone"], &body["compute_class"]), (&json!(ZONE), &json!("spot")));
    let raw = heard.lock().expect("nobody panics with it")[1].clone();
    let at = raw.0.strip_prefix("t=").and_then(|text| text.split(',').next());
    let at: i64 = at.and_then(|text| text.parse().ok()).expect("when it was signed");
    assert_eq!(raw.0, signature(SECRET, at, &raw.2), "whoever has the secret can tell");
    let patch = json!({"target_nodes": 5});
    scheduler.patch("/api/v1/nodepools/spots", "provider-admin", &patch).await.expect(200);
    let told = until(&heard, 3).await;
    assert_eq!(told[2].2["queued_nodes"], 5, "what changes is told at once");
    let metrics = scheduler.get("/metrics", "provider-viewer").await.text;
    let line = format!(
        "wharfage_pool_nodes{{pool=\"spots\",zone=\"{ZONE}\",sku=\"{SKU}\",compute_class=\"spot\",\
         nodes=\"queued\"}} 5"
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("wharfage_webhook_deliveries_total{outcome=\"failed\"} 1"));
    ends.cancel();
    for sender in senders {
        sender.await.expect("it ends");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_receiver_that_was_not_there_hears_the_newest_counts_and_holds_nobody_up() {
    let scheduler = Scheduler::start("webhook-late").await;
    // A port that nobody listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nowhere = format!("http://{}/wanted", gone.local_addr().expect("bound"));
    drop(gone);
    let ends = CancellationToken::new();
    let none = webhooks::start(&[webhook(&nowhere)], &scheduler.driver.handle, &ends);
    none.expect("a client");
    pool(&scheduler, 1).await;
    for target in 2..5 {
        let patch = json!({"target_nodes": target});
        let answer = scheduler.patch("/api/v1/nodepools/spots", "provider-admin", &patch).await;
        assert_eq!(answer.expect(200)["queued_nodes"], target);
    }
    let (url, heard) = receiver(0).await;
    let late = webhooks::start(&[webhook(&url)], &scheduler.driver.handle, &ends);
    late.expect("a client");
    let told = until(&heard, 1).await;
    assert_eq!(told[0].2["queued_nodes"], 4, "one message, the newest");
    ends.cancel();
    scheduler.stop().await;
}
