//! A fleet with everything in it comes back byte for byte, from the log and from a snapshot.

use wharfage_scheduler_core::words::command::access::Admits;
use wharfage_scheduler_core::words::command::{Action, deployments, money, nodes};
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms, Price};
use wharfage_scheduler_core::words::replica::PhaseWord;
use wharfage_scheduler_core::{Fleet, invariants};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::segment::{SegmentBatch, SegmentsAcknowledged};
use wharfage_shared::time::Millis;

use crate::machine::{PATIENCE, Scheduler, boottime};
use crate::node;
use crate::support::bytes;

/// Replaying the log and reading a snapshot both give `live`, and no rule is broken in it.
async fn assert_comes_back(scheduler: &Scheduler, step: &str) {
    let view = scheduler.handle().view();
    let live = bytes(view.fleet());
    let replayed = scheduler.handle().fleet_at(view.position()).await.expect("replays");
    assert_eq!(bytes(&replayed), live, "{step}: replay equals live");
    let snapshot = serde_json::to_string(view.fleet()).expect("a snapshot");
    let read: Fleet = serde_json::from_str(&snapshot).expect("reads back");
    assert_eq!(bytes(&read), live, "{step}: a snapshot equals live");
    let broken = invariants::check(view.fleet());
    assert!(broken.is_empty(), "{step}: {broken:?}");
}

#[tokio::test]
async fn nodes_replicas_segments_and_money_come_back() {
    let scheduler = Scheduler::start("everything").await;
    node::tenant(&scheduler).await;
    let machine = scheduler.node("node-1").await;
    let mut beat = node::introduce(&machine).await;
    assert_comes_back(&scheduler, "introduced").await;
    let now = scheduler.handle().now();
    let (sku, region) = (Sku::new("gd-8xh100ib-i128"), Region::new("US-EAST-04"));
    let price = Price {
        sku: sku.clone(),
        region: region.clone(),
        from: now,
        on_demand: "49.24".to_owned(),
        spot: None,
        gpus: Some(8),
        gpu_hour: None,
    };
    scheduler.provider(Action::Money(money::Action::Price(price))).await;
    let contract = Contract {
        id: "contract-1".into(),
        organization: "acme".into(),
        region,
        sku,
        instances: 1,
        start: now + Millis::from_seconds(60),
        end: now + Millis::from_seconds(3600),
        terms: ContractTerms::Reserved { rate: "30.00".to_owned() },
    };
    scheduler.provider(Action::Money(money::Action::Sign(contract))).await;
    scheduler.provider(node::deployment("chat", 2)).await;
    node::settle(&machine, &mut beat).await;
    let view = scheduler.handle().view();
    let chat = "chat".into();
    let ready = view.fleet().replicas_of(&chat).map(|row| view.fleet().phase_word(row));
    assert_eq!(ready.collect::<Vec<_>>(), [PhaseWord::Ready, PhaseWord::Ready]);
    assert_comes_back(&scheduler, "ready").await;
    let open = node::open_segment(&beat, 1);
    beat.open_segment = Some(open.clone());
    machine.next(&mut beat).await;
    let batch = SegmentBatch {
        epoch: beat.epoch.expect("an epoch"),
        segments: vec![node::closed(&open, &beat)],
    };
    for _ in 0..2 {
        let path = "/agent/v1/segments";
        let told = machine.client.post_json::<_, SegmentsAcknowledged>(path, &batch, PATIENCE);
        assert_eq!(told.await.expect("acknowledged").up_to, 1, "the same twice is the same");
    }
    beat.open_segment = Some(node::open_segment(&beat, 2));
    beat.last_segment = 1;
    machine.next(&mut beat).await;
    assert_comes_back(&scheduler, "metered").await;
    let doors = scheduler.join("doors", Admits::Gateways, 1, Millis::from_seconds(600)).await;
    let door = scheduler.enrol("door-1", &doors, "/gateway/v1/enroll", None).await.expect("let in");
    let report = GatewayReport { number: 1, ..GatewayReport::default() };
    door.client.post_json::<_, ()>("/gateway/v1/report", &report, PATIENCE).await.expect("taken");
    let drain = nodes::Action::Drain { node: machine.name.clone(), reason: "a test".to_owned() };
    scheduler.provider(Action::Node(drain)).await;
    let delete = deployments::Action::Delete { id: "chat".into() };
    scheduler.provider(Action::Deployment(delete)).await;
    beat.sent_at = boottime();
    node::settle(&machine, &mut beat).await;
    assert_comes_back(&scheduler, "draining").await;
    scheduler.stop().await;
}
