//! Lines 16 to 34: capacity that is set aside, and what may stand on it.

use serde_json::{Value, json};

use super::{CLAIMS, claim, deploy, fields, node_of, places};
use crate::support::{Answer, SKU, Scheduler, ZONE};

const OWN: &str = "acme-operator";

/// A deployment whose replicas may run on these classes.
async fn on(scheduler: &Scheduler, name: &str, classes: &[&str]) {
    let classes: Vec<String> = classes.iter().map(|it| format!("CAPACITY_CLASS_{it}")).collect();
    let made = deploy(scheduler, name, |body| {
        body["autoscaling"]["capacityClasses"] = json!(classes);
    });
    made.await.expect(200);
}

async fn make(scheduler: &Scheduler, name: &str, kind: &str, count: u32) -> Answer {
    scheduler.post(CLAIMS, OWN, &claim(name, kind, count)).await
}

async fn resize(scheduler: &Scheduler, name: &str, kind: &str, count: u32) -> Answer {
    let path = format!("{CLAIMS}/c-{name}");
    scheduler.patch(&path, OWN, &claim(name, kind, count)).await
}

async fn quota(scheduler: &Scheduler, instances: u32) {
    let body = json!({"organization": "acme", "zone": ZONE, "sku": SKU, "instances": instances});
    scheduler.post("/api/v1/quotas", "provider-admin", &body).await.expect(201);
}

/// Allocated and pending instances.
fn counts(answer: &Value) -> (u64, u64) {
    let status = &answer["capacityClaim"]["status"];
    let count = |key: &str| status[key].as_u64().unwrap_or_else(|| panic!("no {key}: {answer}"));
    (count("allocatedInstances"), count("pendingInstances"))
}

/// Two nodes, the first of them claimed.
async fn one_of_two_claimed(name: &str) -> Scheduler {
    let scheduler = Scheduler::start(name).await;
    let _first = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    make(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    let _second = scheduler.node("node-2", "standard").await;
    scheduler
}

#[tokio::test]
async fn line_16_on_demand_alone_never_stands_on_an_idle_claim() {
    let scheduler = one_of_two_claimed("line-16").await;
    on(&scheduler, "chat", &["ON_DEMAND"]).await;
    on(&scheduler, "more", &["ON_DEMAND"]).await;
    assert_eq!(node_of(&scheduler, "chat").await, "node-2");
    assert_eq!(node_of(&scheduler, "more").await, "~", "the claim is idle, and not its");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_17_reserved_alone_stands_on_claims_of_both_types_and_nowhere_else() {
    let scheduler = one_of_two_claimed("line-17").await;
    on(&scheduler, "chat", &["RESERVED"]).await;
    on(&scheduler, "more", &["RESERVED"]).await;
    assert_eq!(node_of(&scheduler, "chat").await, "node-1");
    assert_eq!(node_of(&scheduler, "more").await, "~", "node-2 is free, and nobody's claim");
    quota(&scheduler, 1).await;
    make(&scheduler, "own", "CUSTOMER", 1).await.expect(200);
    assert_eq!(node_of(&scheduler, "more").await, "node-2");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_18_unset_stands_on_all_capacity() {
    let scheduler = one_of_two_claimed("line-18").await;
    let _third = scheduler.node("node-3", "standard").await;
    quota(&scheduler, 1).await;
    make(&scheduler, "own", "CUSTOMER", 1).await.expect(200);
    for name in ["chat", "more", "last"] {
        on(&scheduler, name, &[]).await;
        assert_ne!(node_of(&scheduler, name).await, "~", "{name}");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_19_the_first_class_of_the_list_that_can_be_had_wins() {
    for (name, classes, first, second) in [
        ("line-19", ["RESERVED", "ON_DEMAND"], "node-1", "node-2"),
        ("line-19-reversed", ["ON_DEMAND", "RESERVED"], "node-2", "node-1"),
    ] {
        let scheduler = one_of_two_claimed(name).await;
        on(&scheduler, "chat", &classes).await;
        on(&scheduler, "more", &classes).await;
        assert_eq!(node_of(&scheduler, "chat").await, first);
        assert_eq!(node_of(&scheduler, "more").await, second);
        scheduler.stop().await;
    }
}

#[tokio::test]
async fn line_20_a_claim_alone_schedules_nothing_onto_it() {
    let scheduler = Scheduler::start("line-20").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    on(&scheduler, "chat", &["ON_DEMAND"]).await;
    node.next().await;
    let _second = scheduler.node("node-2", "standard").await;
    on(&scheduler, "more", &["ON_DEMAND"]).await;
    let before = places(&scheduler, "chat").await;
    let _third = scheduler.node("node-3", "standard").await;
    make(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    assert_eq!(places(&scheduler, "chat").await, before);
    let row = scheduler.get("/api/v1/nodes/node-3", "provider-viewer").await.expect(200);
    let gpus = row["gpus"].as_array().expect("GPUs").clone();
    assert!(gpus.iter().all(|gpu| gpu["replica"].is_null()), "{row}");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_21_an_instance_id_is_known_whatever_its_case_and_only_in_its_zone() {
    let scheduler = Scheduler::start("line-21").await;
    let _node = scheduler.node("node-1", "standard").await;
    let pool = json!({"id": "far", "zone": "RNO2A", "sku": "gb200-4x"});
    scheduler.post("/api/v1/nodepools", "provider-admin", &pool).await.expect(201);
    let with = |sku: &str| {
        let mut body = claim("hold", "SERVERLESS", 1);
        body["resources"]["instanceId"] = json!(sku);
        body
    };
    for sku in ["gb200-4x", "b200-8x", ""] {
        let refused = scheduler.post(CLAIMS, OWN, &with(sku)).await.expect(400);
        assert_eq!(fields(&refused), ["resources.instanceId"], "{sku} is not in the zone");
    }
    let made = scheduler.post(CLAIMS, OWN, &with(&SKU.to_uppercase())).await.expect(200);
    assert_eq!(made["capacityClaim"]["spec"]["resources"]["instanceId"], SKU);
    scheduler.stop().await;
}

/// Every claim whose `key` is one of these is refused with this field.
async fn refuses(scheduler: &Scheduler, key: &str, values: &[Value], field: &str) {
    for value in values {
        let mut body = claim("hold", "SERVERLESS", 1);
        body["resources"][key] = value.clone();
        let refused = scheduler.post(CLAIMS, OWN, &body).await.expect(400);
        assert_eq!(refused["status"], "INVALID_ARGUMENT");
        assert_eq!(fields(&refused), [field], "{value}: {refused}");
    }
}

#[tokio::test]
async fn line_22_an_instance_count_is_needed_and_at_least_1() {
    let scheduler = Scheduler::start("line-22").await;
    let _node = scheduler.node("node-1", "standard").await;
    let bad = [json!(0), json!(-1), json!(100_001), json!("1"), json!(1.5), Value::Null];
    refuses(&scheduler, "instanceCount", &bad, "resources.instanceCount").await;
    scheduler.stop().await;
}

#[tokio::test]
async fn line_23_a_claim_names_exactly_one_zone() {
    let scheduler = Scheduler::start("line-23").await;
    let _node = scheduler.node("node-1", "standard").await;
    let bad = [json!([]), json!([ZONE, "US-EAST-04B"]), json!([ZONE, ZONE]), Value::Null];
    refuses(&scheduler, "zones", &bad, "resources.zones").await;
    refuses(&scheduler, "zones", &[json!(["RNO2A"])], "resources.zones[0]").await;
    scheduler.stop().await;
}

#[tokio::test]
async fn line_24_a_capacity_type_is_needed_and_managed_is_the_later_name_of_serverless() {
    let scheduler = Scheduler::start("line-24").await;
    let _node = scheduler.node("node-1", "standard").await;
    let bad = [json!("CAPACITY_TYPE_UNSPECIFIED"), json!("SERVERLESS"), json!(0), Value::Null];
    refuses(&scheduler, "capacityType", &bad, "resources.capacityType").await;
    let made = make(&scheduler, "hold", "MANAGED", 1).await.expect(200);
    let kind =
        |answer: &Value| answer["capacityClaim"]["spec"]["resources"]["capacityType"].clone();
    assert_eq!(kind(&made), "CAPACITY_TYPE_MANAGED", "its own word comes back");
    let same = resize(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    assert_eq!(kind(&same), "CAPACITY_TYPE_MANAGED", "the two are one type");
    scheduler.stop().await;
    let strict = Scheduler::start_with("line-24-strict", "[compat]\nstrict = true\n").await;
    let _node = strict.node("node-1", "standard").await;
    for old in ["SERVERLESS", "CUSTOMER"] {
        let refused = make(&strict, "hold", old, 1).await.expect(400);
        assert_eq!(fields(&refused), ["resources.capacityType"], "the August revision: {old}");
    }
    let made = make(&strict, "hold", "MANAGED", 1).await.expect(200);
    let status = &made["capacityClaim"]["status"];
    assert!(status.get("wharfage").is_none(), "what an hour costs is a word of our own: {made}");
    strict.stop().await;
}

#[tokio::test]
async fn line_25_a_customer_claim_over_its_quota_is_refused_until_quota_frees() {
    let scheduler = Scheduler::start("line-25").await;
    let _node = scheduler.node("node-1", "standard").await;
    quota(&scheduler, 1).await;
    make(&scheduler, "own", "CUSTOMER", 1).await.expect(200);
    let refused = make(&scheduler, "more", "CUSTOMER", 1).await.expect(429);
    assert_eq!((&refused["code"], &refused["status"]), (&json!(8), &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(refused["details"][0]["@type"], "type.googleapis.com/google.rpc.QuotaFailure");
    let violation = &refused["details"][0]["violations"][0];
    assert_eq!(violation["subject"], format!("instances:{ZONE}/{SKU}"));
    assert!(violation["description"].as_str().is_some_and(|text| text.contains("quota")));
    let refused = resize(&scheduler, "own", "CUSTOMER", 2).await;
    assert_eq!(refused.expect(429)["status"], "RESOURCE_EXHAUSTED");
    quota(&scheduler, 2).await;
    make(&scheduler, "more", "CUSTOMER", 1).await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_26_allocated_and_pending_add_up_while_nodes_join() {
    let scheduler = Scheduler::start("line-26").await;
    let _first = scheduler.node("node-1", "standard").await;
    quota(&scheduler, 2).await;
    let made = make(&scheduler, "own", "CUSTOMER", 2).await.expect(200);
    assert_eq!(made["capacityClaim"]["status"]["status"], "STATUS_CREATING");
    assert_eq!(counts(&made), (1, 1));
    let ledger = scheduler.get("/api/v1/capacity", "acme-viewer").await.expect(200);
    let zone = &ledger["capacity"][0]["zones"][ZONE];
    let figures = ["usable", "claimed", "free"].map(|key| zone[key].as_u64());
    assert_eq!(figures, [Some(1), Some(1), Some(0)], "{ledger}");
    assert_eq!(ledger["capacity"][0]["organizations"]["acme"]["claimed_customer"], 1);
    let _second = scheduler.node("node-2", "standard").await;
    let row = scheduler.get(&format!("{CLAIMS}/c-own"), "acme-viewer").await.expect(200);
    assert_eq!(row["capacityClaim"]["status"]["status"], "STATUS_READY");
    assert_eq!(counts(&row), (2, 0));
    scheduler.stop().await;
}

#[tokio::test]
async fn line_29_the_instance_count_can_be_changed() {
    let scheduler = Scheduler::start("line-29").await;
    let _first = scheduler.node("node-1", "standard").await;
    let _second = scheduler.node("node-2", "standard").await;
    make(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    let more = resize(&scheduler, "hold", "SERVERLESS", 2).await.expect(200);
    assert_eq!(counts(&more), (2, 0));
    let refused = resize(&scheduler, "hold", "SERVERLESS", 3).await.expect(429);
    let subject = &refused["details"][0]["violations"][0]["subject"];
    assert_eq!(*subject, format!("capacity:{ZONE}/{SKU}"));
    let row = scheduler.get(&format!("{CLAIMS}/c-hold"), "acme-viewer").await.expect(200);
    assert_eq!(row["capacityClaim"]["spec"]["resources"]["instanceCount"], 2, "nothing changed");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_30_a_decrease_that_waits_is_readable_with_target_and_time() {
    let scheduler = Scheduler::start("line-30").await;
    for node in ["node-1", "node-2", "node-3"] {
        let _node = scheduler.node(node, "standard").await;
    }
    make(&scheduler, "hold", "SERVERLESS", 3).await.expect(200);
    let first = resize(&scheduler, "hold", "SERVERLESS", 2).await.expect(200);
    assert_eq!(counts(&first), (2, 0), "the first one at once");
    let second = resize(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    assert_eq!(counts(&second), (2, 0));
    let conditions = second["capacityClaim"]["status"]["conditions"].as_array().expect("some");
    let waits = conditions.iter().find(|it| it["type"] == "ScaleDownPending");
    let says = waits.map(|it| [&it["status"], &it["reason"]]);
    assert_eq!(says, Some([&json!("True"), &json!("DecreaseRateLimited")]), "{conditions:?}");
    let message = waits.and_then(|it| it["message"].as_str()).expect("a condition that says so");
    assert!(message.starts_with("target 1 instances from 2"), "{message}");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_31_the_end_of_a_claim_evicts_and_reschedules() {
    let scheduler = one_of_two_claimed("line-31").await;
    on(&scheduler, "chat", &["RESERVED", "ON_DEMAND"]).await;
    on(&scheduler, "only", &["RESERVED"]).await;
    assert_eq!(node_of(&scheduler, "chat").await, "node-1");
    scheduler.delete(&format!("{CLAIMS}/c-hold"), OWN).await.expect(200);
    let chat = places(&scheduler, "chat").await;
    assert_eq!(chat[0], ("node-1".into(), "draining".into()), "with its grace: {chat:?}");
    assert_eq!(chat[1].0, "node-2", "elsewhere, as its classes allow: {chat:?}");
    assert_eq!(node_of(&scheduler, "only").await, "~");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_32_a_deleted_customer_claim_is_back_in_the_quota_at_once() {
    let scheduler = Scheduler::start("line-32").await;
    let _node = scheduler.node("node-1", "standard").await;
    quota(&scheduler, 1).await;
    let left = async || {
        let rows = scheduler.get("/api/v1/quotas", "acme-viewer").await.expect(200);
        rows["quotas"][0]["left"].clone()
    };
    make(&scheduler, "own", "CUSTOMER", 1).await.expect(200);
    assert_eq!(left().await, 0);
    scheduler.delete(&format!("{CLAIMS}/c-own"), OWN).await.expect(200);
    assert_eq!(left().await, 1);
    make(&scheduler, "next", "CUSTOMER", 1).await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_33_everything_but_the_count_is_fixed_for_life() {
    let scheduler = Scheduler::start("line-33").await;
    let _node = scheduler.node("node-1", "standard").await;
    for (id, zone, sku) in [("a", ZONE, "gb200-4x"), ("b", "US-EAST-04B", SKU)] {
        let pool = json!({"id": id, "zone": zone, "sku": sku});
        scheduler.post("/api/v1/nodepools", "provider-admin", &pool).await.expect(201);
    }
    make(&scheduler, "hold", "SERVERLESS", 1).await.expect(200);
    let path = format!("{CLAIMS}/c-hold");
    let before = scheduler.get(&path, "acme-viewer").await.expect(200);
    for (pointer, value, field) in [
        ("/name", json!("held"), "name"),
        ("/resources/instanceId", json!("gb200-4x"), "resources.instanceId"),
        ("/resources/capacityType", json!("CAPACITY_TYPE_CUSTOMER"), "resources.capacityType"),
        ("/resources/zones", json!(["US-EAST-04B"]), "resources.zones"),
        ("/id", json!("c-other"), "id"),
    ] {
        let mut body = claim("hold", "SERVERLESS", 1);
        *body.pointer_mut(pointer).expect("there") = value;
        let refused = scheduler.patch(&path, OWN, &body).await.expect(400);
        assert_eq!(fields(&refused), [field], "{refused}");
    }
    let mut nameless = claim("hold", "SERVERLESS", 1);
    nameless.as_object_mut().and_then(|body| body.remove("name"));
    scheduler.patch(&path, OWN, &nameless).await.expect(200);
    assert_eq!(scheduler.get(&path, "acme-viewer").await.expect(200), before);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_34_parameters_map_each_zone_to_its_instance_ids() {
    let scheduler = Scheduler::start("line-34").await;
    let _node = scheduler.node("node-1", "standard").await;
    for (id, zone, sku) in [("a", ZONE, "gb200-4x"), ("b", "RNO2A", "b200-8x")] {
        let pool = json!({"id": id, "zone": zone, "sku": sku});
        scheduler.post("/api/v1/nodepools", "provider-admin", &pool).await.expect(201);
    }
    let rivals = json!({"id": "c", "zone": "RNO2A", "sku": "gd-1xgh200", "owner": "rival"});
    scheduler.post("/api/v1/nodepools", "provider-admin", &rivals).await.expect(201);
    let spot = json!({"id": "d", "zone": "RNO2A", "sku": SKU, "compute_class": "spot"});
    scheduler.post("/api/v1/nodepools", "provider-admin", &spot).await.expect(201);
    let expected = json!({"zoneInstanceTypes": {
        ZONE: {"instanceIds": ["gb200-4x", SKU]},
        "RNO2A": {"instanceIds": ["b200-8x"]},
    }});
    let path = format!("{CLAIMS}/parameters");
    assert_eq!(scheduler.get(&path, "acme-viewer").await.expect(200), expected);
    let connect = super::KINDS[0].connect("Parameters");
    let same = scheduler.post(&connect, "acme-viewer", &json!({})).await.expect(200);
    assert_eq!(same, expected);
    scheduler.stop().await;
}
