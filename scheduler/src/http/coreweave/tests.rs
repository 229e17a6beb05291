//! Bodies of the CoreWeave API, good and bad: each rule of its reference once.

use serde_json::{Value, json};
use wharfage_scheduler_core::words::deployment::{Dialect, Spec};
use wharfage_shared::capacity::{CapacityClass, Sku, Zone};
use wharfage_shared::ids::GatewayId;
use wharfage_shared::telemetry::EngineOffer;

use super::deployment::{self, Context};
use super::offer::Offer;
use super::resource::Draft;
use super::{extension, gateway};
use crate::http::fields::Wrong;

fn offer() -> Offer {
    let mut offer = Offer::default();
    offer.zones.insert(Zone::new("US-EAST-04A"));
    offer.instance_types.insert(Sku::new("gd-8xh100ib-i128"));
    offer.gateways.insert(GatewayId::from("front"));
    offer.add_engine(&EngineOffer {
        name: "vllm".into(),
        versions: vec!["0.22.0".into(), "0.22.0+crwv.2".into()],
        flags: vec!["max-model-len".into()],
        env: vec!["VLLM_LOGGING_LEVEL".into()],
        gangs: Vec::new(),
    });
    offer
}

fn body() -> Value {
    json!({
        "name": "chat",
        "gatewayIds": ["front"],
        "runtime": {"engine": "vllm", "version": "0.22.0+crwv.2",
                    "engineConfig": {"max-model-len": "8192"}},
        "resources": {"instanceType": "GD-8xH100ib-i128", "gpuCount": 8},
        "model": {"name": "llama-chat", "bucket": "models", "path": "llama/8b"},
        "autoscaling": {"min": 1, "max": 2, "priority": 500,
                        "capacityClasses": ["CAPACITY_CLASS_ON_DEMAND"]},
        "traffic": {},
    })
}

/// The body with one value set, by JSON pointer; absent = taken out.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut body = body();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.remove(key),
    };
    body
}

fn read(body: &Value, context: &Context<'_>) -> Result<Draft<Spec>, Vec<Wrong>> {
    deployment::read(body.as_object().expect("an object"), context)
}

fn wrong(body: &Value, own: bool, strict: bool) -> Vec<String> {
    let offer = offer();
    let context = Context { offer: &offer, strict, current: None, own };
    let wrongs = read(body, &context).err().unwrap_or_default();
    wrongs.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.sentence())).collect()
}

fn spec(body: &Value, own: bool) -> Spec {
    let offer = offer();
    let context = Context { offer: &offer, strict: false, current: None, own };
    read(body, &context).expect("a good body").spec
}

#[test]
fn a_good_body_becomes_the_checked_words() {
    let spec = spec(&body(), false);
    assert_eq!(spec.sku, Sku::new("gd-8xh100ib-i128"));
    assert_eq!(spec.classes, [CapacityClass::OnDemand]);
    assert_eq!((spec.priority.get(), spec.weight), (500, 0));
    assert_eq!((spec.scaling.bounds.min(), spec.scaling.bounds.max()), (1, 2));
    assert_eq!((spec.scaling.concurrency, spec.scaling.window_seconds), (8, 60));
}

#[test]
fn each_rule_names_its_field_and_what_is_accepted() {
    let cases = [
        ("/name", None, "name: it is missing; accepted: a hostname label"),
        ("/name", Some(json!("-x")), "name: it is no hostname label"),
        ("/name", Some(json!("<img src=x onerror=alert(1)>")), "name: it is no hostname label"),
        ("/name", Some(json!("a".repeat(64))), "name: it is no hostname label"),
        ("/name", Some(json!(7)), "name: it is a number; accepted: a text"),
        ("/gatewayIds", None, "gatewayIds: it is missing"),
        ("/gatewayIds", Some(json!([])), "gatewayIds: it is empty"),
        ("/gatewayIds", Some(json!(["other"])), "gatewayIds[0]: there is no gateway `other`"),
        ("/runtime", None, "runtime: it is missing"),
        ("/runtime/engine", Some(json!("tgi")), "runtime.engine: no node offers the engine"),
        ("/runtime/version", Some(json!("v1.2.3")), "runtime.version: `v1.2.3` is no version"),
        ("/runtime/version", Some(json!("0.23.0")), "runtime.version: no node offers version"),
        (
            "/runtime/engineConfig",
            Some(json!({"--max-model-len": "1"})),
            "runtime.engineConfig.--max-model-len: names are given without leading dashes",
        ),
        (
            "/runtime/engineConfig",
            Some(json!({"trust-remote-code": "true"})),
            "runtime.engineConfig.trust-remote-code: the nodes' owners do not allow it; \
             accepted: max-model-len",
        ),
        (
            "/runtime/engineConfig",
            Some(json!({"max-model-len": "--port=1"})),
            "runtime.engineConfig.max-model-len: the value could pass for something else",
        ),
        (
            "/runtime/engineEnv",
            Some(json!({"LD_PRELOAD": "/x.so"})),
            "runtime.engineEnv.LD_PRELOAD: the nodes' owners do not allow it",
        ),
        ("/resources/gpuCount", Some(json!(3)), "resources.gpuCount: it is 3; accepted: 1, 2, 4"),
        ("/resources/gpuCount", Some(json!("8")), "resources.gpuCount: it is a text"),
        ("/resources/instanceType", Some(json!("x")), "resources.instanceType: no pool has `x`"),
        ("/model/name", Some(json!("abc")), "model.name: it has 3 characters; accepted: 4 to 63"),
        ("/model/bucket", Some(json!("a_b")), "model.bucket: it is no hostname label"),
        ("/model/path", Some(json!("a/../../etc")), "model.path: it is no folder in the bucket"),
        ("/autoscaling", None, "autoscaling: it is missing"),
        ("/autoscaling/min", Some(json!(0)), "autoscaling.min: it is 0; accepted: a whole number"),
        ("/autoscaling/min", Some(json!(3)), "autoscaling.max: it is 2, below the minimum"),
        ("/autoscaling/max", None, "autoscaling.max: it is missing"),
        ("/autoscaling/priority", Some(json!(1001)), "autoscaling.priority: it is 1001"),
        ("/autoscaling/priority", Some(json!(-1)), "autoscaling.priority: it is -1"),
        ("/autoscaling/priority", Some(json!(1.5)), "autoscaling.priority: it is 1.5"),
        (
            "/autoscaling/capacityClasses",
            Some(json!(["CAPACITY_CLASS_UNSPECIFIED"])),
            "autoscaling.capacityClasses[0]: it is `CAPACITY_CLASS_UNSPECIFIED`; accepted: \
             CAPACITY_CLASS_RESERVED, CAPACITY_CLASS_ON_DEMAND, CAPACITY_CLASS_SPOT",
        ),
        ("/autoscaling/capacityClasses", Some(json!([0])), "autoscaling.capacityClasses[0]: it is"),
        ("/autoscaling/replicas", Some(json!(2)), "autoscaling.replicas: no such field"),
        ("/traffic/weight", Some(json!(1001)), "traffic.weight: it is 1001"),
        ("/updateMask", Some(json!("autoscaling")), "updateMask: no such field"),
        ("/dialect", Some(json!("baseten")), "dialect: no such field"),
        ("/hotLoad", Some(json!({"bucket": "b"})), "hotLoad"),
        ("/wharfage", Some(json!({"gracefully": 1})), "wharfage.gracefully: no such field"),
        ("/wharfage", Some(json!({"hooks": {"drain": "../x"}})), "wharfage.hooks.drain: it is no"),
        ("/id", Some(json!("parameters")), "id: `parameters` has a meaning of its own"),
    ];
    for (pointer, value, expected) in cases {
        let found = wrong(&with(pointer, value.clone()), false, false);
        assert!(
            found.iter().any(|sentence| sentence.starts_with(expected)),
            "{pointer} = {value:?} says {found:#?}, not {expected:?}"
        );
    }
}

#[test]
fn every_mistake_of_a_body_is_named_at_once() {
    let found = wrong(&json!({"autoscaling": {"min": 0, "max": 0}, "colour": "red"}), false, false);
    let fields: Vec<&str> = found.iter().filter_map(|s| s.split(':').next()).collect();
    let expected = [
        "name",
        "model",
        "runtime",
        "resources",
        "gatewayIds",
        "autoscaling.min",
        "autoscaling.max",
        "colour",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn unknown_keys_without_a_value_are_ignored_and_numbers_stand_for_words() {
    let mut body = with("/autoscaling/capacityClasses", Some(json!([2, 1, 3])));
    body["futureField"] = json!("");
    body["hotLoad"] = Value::Null;
    body["autoscaling"]["panic"] = json!(false);
    let spec = spec(&body, false);
    let expected = [CapacityClass::OnDemand, CapacityClass::Reserved, CapacityClass::Spot];
    assert_eq!(spec.classes, expected);
}

#[test]
fn spot_is_refused_and_zero_concurrency_is_named_under_strictness() {
    let spot = with("/autoscaling/capacityClasses", Some(json!(["CAPACITY_CLASS_SPOT"])));
    assert_eq!(wrong(&spot, false, false), Vec::<String>::new());
    assert_eq!(wrong(&spot, false, true).len(), 1);
    let extra = with("/wharfage", Some(json!({"capacity_classes_extra": ["SPOT"]})));
    assert_eq!(wrong(&extra, false, true).len(), 1);
    let zero = with("/autoscaling/concurrency", Some(json!(0)));
    assert_eq!(wrong(&zero, false, false), Vec::<String>::new());
    assert_eq!(wrong(&zero, false, true).len(), 1);
}

#[test]
fn extra_classes_are_appended_and_unset_means_claims_then_on_demand() {
    let mut body = with("/wharfage", Some(json!({"capacity_classes_extra": ["SPOT"]})));
    let on_demand = [CapacityClass::OnDemand, CapacityClass::Spot];
    assert_eq!(spec(&body, false).classes, on_demand);
    body["autoscaling"]["capacityClasses"] = json!([]);
    let all = [CapacityClass::Reserved, CapacityClass::OnDemand, CapacityClass::Spot];
    assert_eq!(spec(&body, false).classes, all);
}

#[test]
fn a_deployment_may_keep_its_replicas_where_they_are() {
    assert!(spec(&body(), false).extension.consolidation);
    let kept = spec(&with("/wharfage", Some(json!({"consolidation": false}))), false).extension;
    assert!(!kept.consolidation);
    assert_eq!(extension::show(&kept), Some(json!({"consolidation": false})));
    let found = wrong(&with("/wharfage", Some(json!({"consolidation": "no"}))), false, false);
    assert!(found.iter().any(|s| s.starts_with("wharfage.consolidation: ")), "{found:?}");
}

#[test]
fn our_own_api_takes_either_dialect() {
    let mut body = with("/dialect", Some(json!("baseten")));
    body["autoscaling"] = json!({"min_replica": 0, "max_replica": 3, "priority": 7});
    let spec = spec(&body, true);
    assert_eq!(spec.scaling.dialect, Dialect::Baseten);
    assert_eq!((spec.scaling.bounds.min(), spec.scaling.bounds.max()), (0, 3));
    assert_eq!((spec.scaling.scale_down_delay_seconds, spec.priority.get()), (900, 7));
    body["autoscaling"] = json!({"min": 1, "max": 1});
    let found = wrong(&body, true, false);
    assert!(found.iter().any(|s| s.starts_with("autoscaling.min: no such field")), "{found:?}");
}

#[test]
fn a_replacement_keeps_what_the_foreign_api_cannot_say_and_never_the_name() {
    let offer = offer();
    let mut current = spec(&body(), false);
    current.scaling.window_seconds = 600;
    current.scaling.utilization_percent = 70;
    let context = Context { offer: &offer, strict: false, current: Some(&current), own: false };
    let changed = with("/autoscaling/max", Some(json!(5)));
    let new = read(&changed, &context).expect("a good body").spec;
    assert_eq!((new.scaling.bounds.max(), new.scaling.window_seconds), (5, 600));
    assert_eq!(new.scaling.utilization_percent, 70);
    let renamed = read(&with("/name", Some(json!("other"))), &context);
    let wrongs = renamed.err().unwrap_or_default();
    assert!(wrongs.iter().any(|wrong| wrong.field == "name"), "{wrongs:?}");
    assert!(read(&json!({"autoscaling": {"min": 1, "max": 2}}), &context).is_err());
}

#[test]
fn a_gateway_has_exactly_one_kind_of_each() {
    let good = json!({
        "name": "front", "zones": ["US-EAST-04A"], "coreWeaveAuth": {},
        "bodyBasedRouting": {"apiType": "API_TYPE_OPENAI"},
    });
    let read = |body: &Value| {
        let read = gateway::read(body.as_object().expect("an object"), &offer(), None);
        let wrongs = read.err().unwrap_or_default();
        let sentences: Vec<String> =
            wrongs.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.sentence())).collect();
        sentences.join("\n")
    };
    assert_eq!(read(&good), "");
    let change = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        read(&body)
    };
    assert!(change("pathBasedRouting", json!({})).contains("2 kinds are given"));
    assert!(change("bodyBasedRouting", Value::Null).contains("no kind of routing"));
    assert!(change("coreWeaveAuth", Value::Null).contains("no kind of authentication"));
    assert!(change("weightsAndBiasesAuth", json!({})).contains("two kinds are given"));
    assert!(change("zones", json!([])).contains("zones: it is empty"));
    assert!(change("zones", json!(["MOON-01A"])).contains("zones[0]: the fleet has no zone"));
    assert!(change("name", json!("")).contains("name: it is empty"));
    assert!(
        change("bodyBasedRouting", json!({"apiType": 9})).contains("accepted: API_TYPE_OPENAI")
    );
    let bad_dns = json!({"additionalDns": ["no dns"]});
    assert!(change("endpointConfiguration", bad_dns).contains("additionalDns[0]"));
}
