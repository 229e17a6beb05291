//! Lines 42 to 46 and 48: what a deployment may say.

use serde_json::{Value, json};
use wharfage_scheduler_core::routes;
use wharfage_shared::gateway::Routes;

use super::{DEPLOYMENTS, deploy, fields, places};
use crate::support::{Scheduler, deployment};

async fn started(name: &str) -> Scheduler {
    let scheduler = Scheduler::start(name).await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    scheduler
}

/// `chat` with one value set is refused for this field.
async fn refused(scheduler: &Scheduler, pointer: &str, value: Value, field: &str) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let answer = deploy(scheduler, "chat", |body| {
        body.pointer_mut(parent).expect("there")[key] = value.clone();
    });
    let refused = answer.await.expect(400);
    assert_eq!(fields(&refused), [field], "{pointer} = {value}: {refused}");
}

/// `<name>` with one value set is taken.
async fn taken(scheduler: &Scheduler, name: &str, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let made = deploy(scheduler, name, |body| {
        body.pointer_mut(parent).expect("there")[key] = value.clone();
    });
    let made = made.await.expect(200);
    assert_eq!(made["deployment"]["spec"].pointer(pointer), Some(&value), "{made}");
}

fn table(scheduler: &Scheduler) -> Routes {
    let view = scheduler.driver.handle.view();
    routes::table(view.fleet(), view.term())
}

#[tokio::test]
async fn line_42_names_are_hostname_labels_and_model_names_have_4_to_63_characters() {
    let scheduler = started("line-42").await;
    for bad in ["", "-a", "a-", "a.b", "a_b", "a b", &"a".repeat(64)] {
        refused(&scheduler, "/name", json!(bad), "name").await;
    }
    for bad in ["", "abc", &"m".repeat(64)] {
        refused(&scheduler, "/model/name", json!(bad), "model.name").await;
    }
    taken(&scheduler, "a", "/name", json!("A")).await;
    taken(&scheduler, "b", "/name", json!("9".repeat(63))).await;
    taken(&scheduler, "c", "/model/name", json!("abcd")).await;
    taken(&scheduler, "d", "/model/name", json!("meta/Llama 3.1 ".repeat(4) + "8B")).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn line_43_gpu_counts_are_1_2_4_8_and_16() {
    let scheduler = started("line-43").await;
    for bad in [json!(0), json!(3), json!(7), json!(32), json!(-1), json!("8"), Value::Null] {
        refused(&scheduler, "/resources/gpuCount", bad, "resources.gpuCount").await;
    }
    for good in [1, 2, 4, 8, 16] {
        taken(&scheduler, &format!("gpus-{good}"), "/resources/gpuCount", json!(good)).await;
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_44_a_version_is_a_full_semver_and_none_is_the_newest() {
    let scheduler = Scheduler::start("line-44").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    for bad in ["v1.2.3", "01.2.3", "1.2", "1.2.3.4", "latest", "0.99.0"] {
        refused(&scheduler, "/runtime/version", json!(bad), "runtime.version").await;
    }
    let offered = scheduler.get(&format!("{DEPLOYMENTS}/parameters"), "acme-viewer").await;
    let versions = &offered.expect(200)["runtimeParameters"]["runtimeVersions"]["vllm"];
    assert_eq!(*versions, json!({"versions": ["0.22.0+crwv.2", "0.22.0"]}), "newest first");
    taken(&scheduler, "none", "/runtime/version", json!("")).await;
    node.next().await;
    let rows = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    assert_eq!(rows["replicas"][0]["engine_version"], "0.22.0+crwv.2");
    taken(&scheduler, "old", "/runtime/version", json!("0.22.0")).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn line_45_engines_flags_and_environment_are_those_of_the_parameters() {
    let scheduler = started("line-45").await;
    let offered = scheduler.get(&format!("{DEPLOYMENTS}/parameters"), "acme-viewer").await;
    let offered = &offered.expect(200)["runtimeParameters"];
    let flags = &offered["runtimeConfigOptions"]["vllm"]["allowedKeys"];
    assert_eq!(
        (flags, &offered["engineEnvOptions"]["vllm"]["allowedNames"]),
        (&json!(["max-model-len"]), &json!([]))
    );
    refused(&scheduler, "/runtime/engine", json!("tgi"), "runtime.engine").await;
    refused(&scheduler, "/runtime/engine", json!(""), "runtime.engine").await;
    for (key, name) in [("engineConfig", "trust-remote-code"), ("engineEnv", "LD_PRELOAD")] {
        let (pointer, field) = (format!("/runtime/{key}"), format!("runtime.{key}.{name}"));
        refused(&scheduler, &pointer, json!({name: "1"}), &field).await;
    }
    let dashes = "runtime.engineConfig.--max-model-len";
    refused(&scheduler, "/runtime/engineConfig", json!({"--max-model-len": "1"}), dashes).await;
    taken(&scheduler, "good", "/runtime/engineConfig", json!({"max-model-len": "4096"})).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn line_46_weights_are_0_to_1000_and_shared_by_model_name() {
    let scheduler = started("line-46").await;
    for bad in [json!(1001), json!(-1), json!("all")] {
        refused(&scheduler, "/traffic/weight", bad, "traffic.weight").await;
    }
    for (name, weight) in [("blue", 900), ("green", 100)] {
        let made = deploy(&scheduler, name, |body| {
            body["model"]["name"] = json!("shared-model");
            body["traffic"] = json!({"weight": weight});
        });
        assert_eq!(made.await.expect(200)["deployment"]["spec"]["traffic"]["weight"], weight);
    }
    let made = deploy(&scheduler, "alone", |body| body["traffic"] = json!({})).await.expect(200);
    assert_eq!(made["deployment"]["spec"]["traffic"], json!({"weight": 0}));
    let table = table(&scheduler);
    let mut told: Vec<(&str, &str, u32)> = table
        .deployments
        .iter()
        .map(|of| (of.model.as_str(), of.name.as_str(), of.weight))
        .collect();
    told.sort_unstable();
    // Gateways make shares of them, and give all to the one that is alone with 0.
    let expected = [
        ("alone-model", "alone", 0),
        ("shared-model", "blue", 900),
        ("shared-model", "green", 100),
    ];
    assert_eq!(told, expected);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_48_disabled_stops_traffic_and_keeps_the_configuration() {
    let scheduler = Scheduler::start("line-48").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    deploy(&scheduler, "chat", |_| {}).await.expect(200);
    node.next().await;
    node.next().await;
    assert_eq!(table(&scheduler).deployments.len(), 1);
    let path = format!("{DEPLOYMENTS}/d-chat");
    let before = scheduler.get(&path, "acme-viewer").await.expect(200);
    let mut body = deployment("chat");
    body["disabled"] = json!(true);
    let off = scheduler.patch(&path, "acme-operator", &body).await.expect(200);
    assert_eq!(off["deployment"]["spec"]["disabled"], true);
    assert_eq!(table(&scheduler).deployments.len(), 0, "out of the routes");
    assert_eq!(places(&scheduler, "chat").await, [("node-1".into(), "draining".into())]);
    for key in ["runtime", "resources", "model", "autoscaling", "traffic", "gatewayIds"] {
        assert_eq!(off["deployment"]["spec"][key], before["deployment"]["spec"][key], "{key}");
    }
    body["disabled"] = json!(false);
    let on = scheduler.patch(&path, "acme-operator", &body).await.expect(200);
    assert_eq!(on["deployment"]["spec"], before["deployment"]["spec"]);
    assert_eq!(table(&scheduler).deployments.len(), 1);
    scheduler.stop().await;
}
