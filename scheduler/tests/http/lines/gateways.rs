//! Line 47: the front doors.

use serde_json::{Value, json};

use super::{GATEWAYS, fields};
use crate::support::{Scheduler, gateway};

#[tokio::test]
async fn line_47_a_gateway_has_exactly_one_kind_of_authentication_and_of_routing() {
    let scheduler = Scheduler::start("line-47").await;
    let _node = scheduler.node("node-1", "standard").await;
    let with = |changes: &[(&str, Value)]| {
        let mut body = gateway("door");
        for (key, value) in changes {
            body[*key] = value.clone();
        }
        body
    };
    let (none, empty) = (Value::Null, json!({}));
    let bad: &[(&[(&str, Value)], &str)] = &[
        (&[("coreWeaveAuth", none.clone())], "coreWeaveAuth"),
        (&[("weightsAndBiasesAuth", empty.clone())], "weightsAndBiasesAuth"),
        (
            &[("coreWeaveAuth", none.clone()), ("weightsAndBiasesAuth", empty.clone())],
            "weightsAndBiasesAuth",
        ),
        (&[("bodyBasedRouting", none.clone())], "bodyBasedRouting"),
        (&[("pathBasedRouting", empty.clone())], "bodyBasedRouting"),
        (&[("headerBasedRouting", json!({"headerName": "x-model"}))], "bodyBasedRouting"),
        (
            &[("bodyBasedRouting", json!({"apiType": "API_TYPE_UNSPECIFIED"}))],
            "bodyBasedRouting.apiType",
        ),
        (
            &[("bodyBasedRouting", none.clone()), ("headerBasedRouting", empty.clone())],
            "headerBasedRouting.headerName",
        ),
        (
            &[
                ("bodyBasedRouting", none.clone()),
                ("headerBasedRouting", json!({"headerName": "x".repeat(101)})),
            ],
            "headerBasedRouting.headerName",
        ),
    ];
    for (changes, field) in bad {
        let body = with(changes);
        let refused = scheduler.post(GATEWAYS, "acme-operator", &body).await.expect(400);
        assert_eq!(fields(&refused), [*field], "{body}: {refused}");
    }
    let routings = [
        ("body", "bodyBasedRouting", json!({"apiType": "API_TYPE_OPENAI"})),
        ("header", "headerBasedRouting", json!({"headerName": "x-model"})),
        ("path", "pathBasedRouting", empty),
    ];
    for (name, key, value) in &routings {
        let mut body = with(&[("bodyBasedRouting", none.clone()), (key, value.clone())]);
        (body["id"], body["name"]) = (json!(name), json!(name));
        let made = scheduler.post(GATEWAYS, "acme-operator", &body).await.expect(200);
        let spec = made["gateway"]["spec"].as_object().expect("an object").clone();
        assert_eq!(spec["coreWeaveAuth"], json!({}));
        for (_, other, _) in &routings {
            assert_eq!(spec.get(*other), (other == key).then_some(value), "{name}: {other}");
        }
    }
    scheduler.stop().await;
}
