//! The gateway without its scheduler: it serves, forgets nothing, and goes back in time for nobody.

use wharfage_shared::gateway::{RouteGateway, Routes, RoutesVersion, Routing};
use wharfage_shared::version::Term;

use crate::installation::{Installation, deployment};

#[tokio::test]
async fn requests_go_on_through_an_outage_of_the_scheduler() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    assert_eq!(all.chat("chat").await.0, 200);
    all.reported("a first report", |report| report.number > 0).await;
    all.scheduler.stop();
    // One request after the gateway has noticed.
    crate::installation::soon("the loss to be noticed", async {
        while all.gateway.gateway.is_connected() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(all.chat("chat").await.0, 200);
    assert!(all.get("/healthz", None).await.1.contains("unreachable"));
}

#[tokio::test]
async fn a_restarted_gateway_serves_from_its_kept_routes_without_the_scheduler() {
    let mut all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let kept = all.folder.join("gateway/routes.json");
    crate::installation::soon("the routes on disk", async {
        while !kept.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    all.scheduler.stop();
    all.restart_gateway().await;
    assert_eq!(all.chat("chat").await.0, 200);
    assert_eq!(engine.seen().len(), 1);
}

#[tokio::test]
async fn an_older_term_or_number_never_undoes_a_newer_one() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let gateway = &all.gateway.gateway;
    for (term, number) in [(7, 1), (7, 0), (6, 99)] {
        let version = RoutesVersion { term: Term(term), number };
        assert!(!gateway.adopt(&Routes { version, ..Routes::default() }), "{term}/{number}");
    }
    assert_eq!(all.chat("chat").await.0, 200);
    let version = RoutesVersion { term: Term(8), number: 0 };
    assert!(gateway.adopt(&Routes { version, ..Routes::default() }));
}

#[tokio::test]
async fn what_a_newer_scheduler_says_is_understood_and_what_is_new_is_counted() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    let counted = async || {
        let text = all.get("/metrics", None).await.1;
        let lines = text.lines().filter(|line| line.starts_with("wharfage_unknown_fields_total{"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let door = || RouteGateway {
        id: "front".into(),
        organization: "acme".into(),
        zones: Vec::new(),
        routing: Routing::Body,
    };
    all.publish_with(vec![deployment("chat", &[(1, &engine)])], vec![door()]).await;
    assert!(counted().await.is_empty(), "{:?}", counted().await);
    all.scheduler.speak_newer();
    all.publish_with(vec![deployment("talk", &[(1, &engine)])], vec![door()]).await;
    assert_eq!(all.chat("talk").await.0, 200);
    assert_eq!(counted().await, ["wharfage_unknown_fields_total{kind=\"routes_answer\"} 2"]);
}
