//! Lines 1 to 15: how many replicas, and whose come first.

use serde_json::{Value, json};
use wharfage_scheduler_core::{Heard, routes};
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::replica::ReportedPhase;

use super::{DEPLOYMENTS, deploy, fields, node_of, places};
use crate::support::{Scheduler, deployment};

/// The fields that are named when `chat`'s autoscaling block says this.
async fn wrong(scheduler: &Scheduler, key: &str, value: Value) -> Vec<String> {
    let answer = deploy(scheduler, "chat", |body| body["autoscaling"][key] = value).await;
    let refused = answer.expect(400);
    assert_eq!(refused["status"], "INVALID_ARGUMENT", "{refused}");
    fields(&refused).into_iter().map(str::to_owned).collect()
}

async fn started(name: &str, lines: &str) -> Scheduler {
    let scheduler = Scheduler::start_with(name, lines).await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    scheduler
}

#[tokio::test]
async fn line_01_a_min_below_1_is_refused() {
    let scheduler = started("line-01", "").await;
    for bad in [json!(0), json!(-1), json!(null), json!(0.5)] {
        assert_eq!(wrong(&scheduler, "min", bad).await, ["autoscaling.min"]);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_02_a_max_below_min_is_refused_and_max_equal_to_min_is_a_fixed_number() {
    let scheduler = started("line-02", "").await;
    assert_eq!(wrong(&scheduler, "min", json!(3)).await, ["autoscaling.max"]);
    deploy(&scheduler, "chat", |body| body["autoscaling"]["max"] = json!(1)).await.expect(200);
    let row = scheduler.get("/api/v1/deployments/d-chat/scaling", "acme-viewer").await.expect(200);
    assert_eq!((&row["settings"]["min_replica"], &row["desired"]), (&json!(1), &json!(1)));
    assert_eq!(row["settings"]["max_replica"], 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_03_priority_is_0_to_1000() {
    let scheduler = started("line-03", "").await;
    for bad in [json!(1001), json!(-1), json!("high"), json!(1.5)] {
        assert_eq!(wrong(&scheduler, "priority", bad).await, ["autoscaling.priority"]);
    }
    for (name, good) in [("none", 0), ("most", 1000)] {
        let made = deploy(&scheduler, name, |body| body["autoscaling"]["priority"] = json!(good));
        let made = made.await.expect(200);
        assert_eq!(made["deployment"]["spec"]["autoscaling"]["priority"], good);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_04_concurrency_0_is_unset_and_named_where_strictness_is_on() {
    let scheduler = started("line-04", "").await;
    for (name, given) in [("zero", json!(0)), ("none", Value::Null)] {
        let made = deploy(&scheduler, name, |body| body["autoscaling"]["concurrency"] = given);
        let spec = &made.await.expect(200)["deployment"]["spec"];
        assert!(spec["autoscaling"]["concurrency"].is_null(), "unset stays unset: {spec}");
        let path = format!("/api/v1/deployments/d-{name}/scaling");
        let row = scheduler.get(&path, "acme-viewer").await.expect(200);
        assert_eq!(row["settings"]["concurrency_target"], 8, "the platform's default");
    }
    let made = deploy(&scheduler, "own", |body| body["autoscaling"]["concurrency"] = json!(8));
    let spec = &made.await.expect(200)["deployment"]["spec"];
    assert_eq!(spec["autoscaling"]["concurrency"], 8, "what was asked for is shown");
    assert_eq!(wrong(&scheduler, "concurrency", json!(-1)).await, ["autoscaling.concurrency"]);
    scheduler.stop().await;
    let strict = started("line-04-strict", "[compat]\nstrict = true\n").await;
    assert_eq!(wrong(&strict, "concurrency", json!(0)).await, ["autoscaling.concurrency"]);
    deploy(&strict, "chat", |_| {}).await.expect(200);
    strict.stop().await;
}

#[tokio::test]
async fn line_05_capacity_classes_are_two_and_our_third_and_never_unspecified() {
    let scheduler = started("line-05", "").await;
    let field = ["autoscaling.capacityClasses[0]"];
    for bad in [json!("CAPACITY_CLASS_UNSPECIFIED"), json!(0), json!("RESERVED"), json!(9)] {
        assert_eq!(wrong(&scheduler, "capacityClasses", json!([bad])).await, field);
    }
    let twice = json!(["CAPACITY_CLASS_RESERVED", 1]);
    let second = ["autoscaling.capacityClasses[1]"];
    assert_eq!(wrong(&scheduler, "capacityClasses", twice).await, second);
    let all = json!(["CAPACITY_CLASS_SPOT", "CAPACITY_CLASS_RESERVED", "CAPACITY_CLASS_ON_DEMAND"]);
    for (name, given) in [("words", all.clone()), ("numbers", json!([3, 1, 2]))] {
        let made = deploy(&scheduler, name, |body| body["autoscaling"]["capacityClasses"] = given);
        let spec = &made.await.expect(200)["deployment"]["spec"];
        assert_eq!(spec["autoscaling"]["capacityClasses"], all, "in their order");
    }
    scheduler.stop().await;
    let strict = started("line-05-strict", "[compat]\nstrict = true\n").await;
    let spot = json!(["CAPACITY_CLASS_SPOT"]);
    assert_eq!(wrong(&strict, "capacityClasses", spot).await, field);
    strict.stop().await;
}

#[tokio::test]
async fn line_06_there_are_never_fewer_replicas_than_min_nor_more_than_max() {
    let scheduler = started("line-06", "").await;
    let mut more = [scheduler.node("node-2", "standard").await];
    deploy(&scheduler, "chat", |body| {
        body["autoscaling"]["min"] = json!(2);
        body["autoscaling"]["max"] = json!(2);
    })
    .await
    .expect(200);
    more[0].next().await;
    let nodes = places(&scheduler, "chat").await.into_iter().map(|(node, _)| node);
    assert_eq!(nodes.collect::<Vec<_>>(), ["node-1", "node-2"]);
    deploy(&scheduler, "more", |body| {
        body["autoscaling"]["min"] = json!(3);
        body["autoscaling"]["max"] = json!(4);
    })
    .await
    .expect(200);
    assert_eq!(places(&scheduler, "more").await.len(), 3, "min, even where no node is free");
    let mut whole = deployment("more");
    (whole["autoscaling"]["min"], whole["autoscaling"]["max"]) = (json!(1), json!(1));
    let path = format!("{DEPLOYMENTS}/d-more");
    scheduler.patch(&path, "acme-operator", &whole).await.expect(200);
    assert_eq!(places(&scheduler, "more").await.len(), 1, "max");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_07_load_is_what_waits_and_what_runs_and_busy_gpus_add_no_replica() {
    let scheduler = Scheduler::start("line-07").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    deploy(&scheduler, "chat", |_| {}).await.expect(200);
    node.next().await;
    node.next().await;
    let row = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let replica = row["replicas"][0]["id"].as_str().expect("an id").parse().expect("an id");
    let report = GatewayReport {
        gateway: Some("gw".into()),
        number: 2,
        in_flight: [(replica, 5)].into(),
        queued: [("d-chat".into(), 3)].into(),
        ..GatewayReport::default()
    };
    scheduler.telemetry.gateway(scheduler.driver.handle.now(), "gw".into(), report.clone());
    scheduler.driver.handle.observe(Heard::Gateway(report)).await.expect("heard");
    let path = "/api/v1/deployments/d-chat/scaling";
    let row = scheduler.get(path, "acme-viewer").await.expect(200);
    assert_eq!(row["load"], json!({"in_flight": 5, "queued": 3, "parked": 0}));
    // The readings of every heartbeat say that most GPUs are busy.
    for _ in 0..3 {
        node.next().await;
    }
    assert_eq!(places(&scheduler, "chat").await.len(), 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_10_priority_1000_goes_before_100_whoever_came_first() {
    let scheduler = started("line-10", "").await;
    for (name, priority) in [("first", 0), ("low", 100), ("high", 1000)] {
        let made = deploy(&scheduler, name, |body| {
            body["autoscaling"]["priority"] = json!(priority);
        });
        made.await.expect(200);
    }
    assert_eq!(node_of(&scheduler, "high").await, "~", "nobody's minimum is taken");
    let _second = scheduler.node("node-2", "standard").await;
    assert_eq!(node_of(&scheduler, "high").await, "node-2");
    assert_eq!(node_of(&scheduler, "low").await, "~");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_11_among_equals_the_oldest_goes_first() {
    let scheduler = started("line-11", "").await;
    for name in ["first", "zebra", "apple"] {
        deploy(&scheduler, name, |_| {}).await.expect(200);
    }
    let _second = scheduler.node("node-2", "standard").await;
    assert_eq!(node_of(&scheduler, "zebra").await, "node-2");
    assert_eq!(node_of(&scheduler, "apple").await, "~");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_12_no_priority_is_priority_0() {
    let scheduler = started("line-12", "").await;
    deploy(&scheduler, "first", |_| {}).await.expect(200);
    let made = deploy(&scheduler, "none", |body| body["autoscaling"]["priority"] = Value::Null);
    let spec = &made.await.expect(200)["deployment"]["spec"];
    assert_eq!(spec["autoscaling"]["priority"], 0);
    deploy(&scheduler, "one", |body| body["autoscaling"]["priority"] = json!(1)).await.expect(200);
    let _second = scheduler.node("node-2", "standard").await;
    assert_eq!(node_of(&scheduler, "one").await, "node-2", "1 is more than none");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_13_replicas_above_min_stay_for_300_seconds_by_default() {
    let scheduler = started("line-13", "").await;
    deploy(&scheduler, "chat", |_| {}).await.expect(200);
    let path = "/api/v1/deployments/d-chat/scaling";
    let row = scheduler.get(path, "acme-viewer").await.expect(200);
    assert_eq!(row["settings"]["scale_down_delay"], 300);
    let path = "/v1/models/chat-model/deployments/d-chat/autoscaling_settings";
    let body = json!({"scale_down_delay": 60});
    scheduler.patch(path, "acme-operator", &body).await.expect(200);
    let row = scheduler.get("/api/v1/deployments/d-chat/scaling", "acme-viewer").await.expect(200);
    assert_eq!(row["settings"]["scale_down_delay"], 60, "configurable");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_14_traffic_begins_when_the_weights_are_loaded_and_the_load_is_visible() {
    let scheduler = Scheduler::start("line-14").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    deploy(&scheduler, "chat", |_| {}).await.expect(200);
    let routed = || {
        let view = scheduler.driver.handle.view();
        let table = routes::table(view.fleet(), view.term());
        table.deployments.iter().map(|of| of.replicas.len()).sum::<usize>()
    };
    node.next().await;
    node.say(ReportedPhase::Loading, 400);
    node.next().await;
    let row = &scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200)["replicas"][0];
    assert_eq!((&row["phase"], &row["progress"]), (&json!("loading"), &json!(0.4)));
    assert!(row["expected_ready_at"].is_string() && row["since"].is_string(), "{row}");
    assert_eq!(routed(), 0);
    node.say(ReportedPhase::Ready, 1000);
    node.next().await;
    assert_eq!(routed(), 1);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_15_a_patch_needs_the_whole_specification() {
    let scheduler = started("line-15", "").await;
    deploy(&scheduler, "chat", |_| {}).await.expect(200);
    let path = format!("{DEPLOYMENTS}/d-chat");
    let block = json!({"autoscaling": {"min": 1, "max": 3}});
    let refused = scheduler.patch(&path, "acme-operator", &block).await.expect(400);
    assert_eq!(fields(&refused), ["model", "runtime", "resources", "gatewayIds"]);
    let row = scheduler.get(&path, "acme-viewer").await.expect(200);
    assert_eq!(row["deployment"]["spec"]["autoscaling"]["max"], 2, "nothing changed");
    let mut whole = deployment("chat");
    whole["autoscaling"] = json!({"min": 1, "max": 3});
    let row = scheduler.patch(&path, "acme-operator", &whole).await.expect(200);
    let block = json!({"min": 1, "max": 3, "priority": 0, "capacityClasses": []});
    assert_eq!(row["deployment"]["spec"]["autoscaling"], block, "the rest is as if unset");
    scheduler.stop().await;
}
