//! What no field alone can tell: contradictions, names that are taken, what is fixed for life,
//! what does not exist, what there is not enough of.

use serde_json::{Value, json};

use super::{beat, contract, empty, furnish, named, state};
use crate::lines::{CLAIMS, DEPLOYMENTS, GATEWAYS, claim};
use crate::support::{SKU, Scheduler, ZONE, deployment, gateway};

/// One request that is refused.
struct Case {
    method: &'static str,
    path: String,
    token: &'static str,
    body: Value,
    status: u16,
    /// The field, or what the answer must say where no field is wrong.
    names: &'static str,
}

const OWN: &str = "acme-operator";
const ADMIN: &str = "provider-admin";

/// `body` with values set by JSON pointer.
fn with(mut body: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parents, key) = pointer.rsplit_once('/').expect("a pointer");
        let mut parent = &mut body;
        for step in parents.split('/').filter(|step| !step.is_empty()) {
            parent = &mut parent[step];
        }
        parent[key] = value.clone();
    }
    body
}

/// The same body to create and to replace, over REST, over Connect and on our own path.
fn deployments(cases: &mut Vec<Case>) {
    let both: &[(&[(&str, Value)], &'static str)] = &[
        (&[("/autoscaling/min", json!(3))], "autoscaling.max"),
        (&[("/autoscaling/priority", json!(1001))], "autoscaling.priority"),
        (&[("/autoscaling/priority", json!(-1))], "autoscaling.priority"),
        (&[("/resources/gpuCount", json!(3))], "resources.gpuCount"),
        (&[("/resources/instanceType", json!("b200-8x"))], "resources.instanceType"),
        (&[("/gatewayIds", json!(["gate"]))], "gatewayIds[0]"),
        (&[("/gatewayIds", json!(["front", "nowhere"]))], "gatewayIds[1]"),
        (&[("/gatewayIds", json!([]))], "gatewayIds"),
        (&[("/runtime/engine", json!("tgi"))], "runtime.engine"),
        (&[("/runtime/version", json!("0.99.0"))], "runtime.version"),
        (&[("/runtime/version", json!("v0.22.0"))], "runtime.version"),
        (
            &[("/runtime/engineConfig", json!({"max-model-len": "--port=1"}))],
            "runtime.engineConfig.max-model-len",
        ),
        (&[("/runtime/engineEnv", json!({"LD_PRELOAD": "x"}))], "runtime.engineEnv.LD_PRELOAD"),
        (&[("/model/path", json!("a/../../etc"))], "model.path"),
        (&[("/model/name", json!("--host"))], "model.name"),
        (&[("/model/bucket", json!("a_b"))], "model.bucket"),
        (
            &[("/autoscaling/capacityClasses", json!([1, "CAPACITY_CLASS_RESERVED"]))],
            "autoscaling.capacityClasses[1]",
        ),
        (
            &[("/wharfage", json!({"rollout": {"max_surge": 0, "max_unavailable": 0}}))],
            "wharfage.rollout.max_surge",
        ),
        (
            &[("/wharfage", json!({"strict": true, "capacity_classes_extra": ["SPOT"]}))],
            "wharfage.capacity_classes_extra[0]",
        ),
        (&[("/wharfage", json!({"hooks": {"drain": "../x"}}))], "wharfage.hooks.drain"),
        (&[("/wharfage", json!({"environment": "a b"}))], "wharfage.environment"),
        (&[("/hotLoad", json!({"bucket": "b"}))], "hotLoad"),
        (&[("/updateMask", json!("model"))], "updateMask"),
        (&[("/organizationId", json!("rival"))], "organizationId"),
    ];
    let service = "/coreweave.inference.v1alpha1.DeploymentService";
    for (changes, field) in both {
        let new = with(deployment("new"), changes);
        let same = with(deployment("chat"), changes);
        let asked = [
            ("POST", DEPLOYMENTS.to_owned(), &new),
            ("POST", format!("{service}/CreateDeployment"), &new),
            ("POST", "/api/v1/deployments".to_owned(), &new),
            ("PATCH", format!("{DEPLOYMENTS}/d-chat"), &same),
            ("POST", format!("{service}/UpdateDeployment"), &same),
            ("PATCH", "/api/v1/deployments/d-chat".to_owned(), &same),
        ];
        cases.extend(asked.map(|(method, path, body)| Case {
            method,
            path,
            token: OWN,
            body: body.clone(),
            status: 400,
            names: field,
        }));
    }
    let chat = format!("{DEPLOYMENTS}/d-chat");
    for (pointer, field) in [("/name", "name"), ("/id", "id")] {
        let body = with(deployment("chat"), &[(pointer, json!("other"))]);
        cases.push(Case {
            method: "PATCH",
            path: chat.clone(),
            token: OWN,
            body,
            status: 400,
            names: field,
        });
    }
    let dialect = with(deployment("new"), &[("/dialect", json!("baseten"))]);
    let own = |method, path: &str, body, status, names| Case {
        method,
        path: path.to_owned(),
        token: OWN,
        body,
        status,
        names,
    };
    cases.extend([
        own("POST", "/api/v1/deployments", dialect, 400, "autoscaling.min"),
        own("PATCH", "/api/v1/deployments/d-chat", json!({"dialect": "baseten"}), 400, "dialect"),
        own("POST", DEPLOYMENTS, deployment("chat"), 409, "d-chat"),
        own("POST", DEPLOYMENTS, with(deployment("chat"), &[("/id", json!("d-2"))]), 409, "chat"),
        own("PATCH", &format!("{DEPLOYMENTS}/nowhere"), deployment("chat"), 404, "nowhere"),
    ]);
}

fn claims(cases: &mut Vec<Case>) {
    let one = format!("{CLAIMS}/c-hold");
    let hold = || claim("hold", "SERVERLESS", 1);
    let of = |method, path: &str, body, status, names| Case {
        method,
        path: path.to_owned(),
        token: OWN,
        body,
        status,
        names,
    };
    let zones = |zones: Value| with(claim("new", "MANAGED", 1), &[("/resources/zones", zones)]);
    let sku =
        |sku: &str| with(claim("new", "MANAGED", 1), &[("/resources/instanceId", json!(sku))]);
    cases.extend([
        of("POST", CLAIMS, zones(json!(["RNO2A"])), 400, "resources.zones[0]"),
        of("POST", CLAIMS, zones(json!([ZONE, "RNO2A"])), 400, "resources.zones"),
        of("POST", CLAIMS, sku("b200-8x"), 400, "resources.instanceId"),
        of("POST", CLAIMS, hold(), 409, "c-hold"),
        of("POST", CLAIMS, with(hold(), &[("/id", json!("c-2"))]), 409, "hold"),
        of("POST", CLAIMS, claim("new", "CUSTOMER", 1), 429, "instances:"),
        of("POST", CLAIMS, claim("new", "SERVERLESS", 9), 429, "capacity:"),
        of("PATCH", &one, claim("hold", "SERVERLESS", 9), 429, "capacity:"),
        of("PATCH", &one, claim("hold", "CUSTOMER", 1), 400, "resources.capacityType"),
        of("PATCH", &one, with(hold(), &[("/name", json!("held"))]), 400, "name"),
        of("PATCH", &one, with(hold(), &[("/id", json!("c-2"))]), 400, "id"),
        of("PATCH", &one, json!({"name": "hold"}), 400, "resources"),
        of("PATCH", &format!("{CLAIMS}/nowhere"), hold(), 404, "nowhere"),
    ]);
}

fn gateways(cases: &mut Vec<Case>) {
    let one = format!("{GATEWAYS}/front");
    let of = |method, path: &str, body, status, names| Case {
        method,
        path: path.to_owned(),
        token: OWN,
        body,
        status,
        names,
    };
    let new = |changes: &[(&str, Value)]| with(gateway("new"), changes);
    let bad_dns = json!({"additionalDns": ["models.example.org", "no dns"]});
    let wandb = json!({"apiKey": "k"});
    cases.extend([
        of("POST", GATEWAYS, new(&[("/zones", json!(["RNO2A"]))]), 400, "zones[0]"),
        of("POST", GATEWAYS, new(&[("/zones", json!([]))]), 400, "zones"),
        of("POST", GATEWAYS, new(&[("/name", json!("  "))]), 400, "name"),
        of("POST", GATEWAYS, new(&[("/name", json!("a\u{7}"))]), 400, "name"),
        of("POST", GATEWAYS, new(&[("/pathBasedRouting", json!({}))]), 400, "bodyBasedRouting"),
        of(
            "POST",
            GATEWAYS,
            new(&[("/weightsAndBiasesAuth", wandb)]),
            400,
            "weightsAndBiasesAuth.serverUrl",
        ),
        of(
            "POST",
            GATEWAYS,
            new(&[("/endpointConfiguration", bad_dns)]),
            400,
            "endpointConfiguration.additionalDns[1]",
        ),
        of("POST", GATEWAYS, gateway("front"), 409, "front"),
        of("POST", GATEWAYS, new(&[("/name", json!("front"))]), 409, "front"),
        of("PATCH", &one, with(gateway("front"), &[("/name", json!("back"))]), 400, "name"),
        of("PATCH", &one, with(gateway("front"), &[("/zones", json!(["RNO2A"]))]), 400, "zones[0]"),
        of("DELETE", &one, json!({}), 400, "chat"),
    ]);
}

fn own(cases: &mut Vec<Case>) {
    let of = |method, path: &str, body, status, names| Case {
        method,
        path: path.to_owned(),
        token: ADMIN,
        body,
        status,
        names,
    };
    let pool = |more: Value| {
        let mut body = json!({"id": "new", "zone": ZONE, "sku": SKU});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        body
    };
    let pools = "/api/v1/nodepools";
    let sized = "/api/v1/nodepools/pool-standard";
    let contracts = "/api/v1/contracts";
    let new =
        |changes: &[(&str, Value)]| with(contract(), &[&[("/id", json!("new"))], changes].concat());
    let amend = "/api/v1/contracts/flex/amend";
    let quota = json!({"organization": "nobody", "zone": ZONE, "sku": SKU, "instances": 1});
    let before = json!({"reason": "x", "drain_after_seconds": 9, "gone_after_seconds": 5});
    cases.extend([
        of("POST", pools, pool(json!({"tenancy": "shared"})), 400, "tenancy"),
        of(
            "POST",
            pools,
            pool(json!({"sku": "gb200-4x", "compute_class": "spot"})),
            400,
            "compute_class",
        ),
        of("POST", pools, pool(json!({"owner": "nobody"})), 404, "nobody"),
        of("POST", pools, pool(json!({"id": "pool-standard"})), 409, "pool-standard"),
        of("POST", pools, pool(json!({"min_nodes": 3, "max_nodes": 2})), 400, "min_nodes"),
        of("PATCH", sized, json!({"target_nodes": 5, "max_nodes": 4}), 400, "target_nodes"),
        of("PATCH", sized, json!({}), 400, "target_nodes"),
        of("PATCH", "/api/v1/nodepools/nowhere", json!({"target_nodes": 1}), 404, "nowhere"),
        of("POST", contracts, contract(), 409, "flex"),
        of("POST", contracts, new(&[("/end", json!("2098-01-01T00:00:00Z"))]), 400, "end"),
        of(
            "POST",
            contracts,
            new(&[
                ("/start", json!("2020-01-01T00:00:00Z")),
                ("/end", json!("2021-01-01T00:00:00Z")),
            ]),
            400,
            "end",
        ),
        of("POST", contracts, new(&[("/gpus", json!(8))]), 400, "gpus"),
        of("POST", contracts, new(&[("/rate", json!("1.00"))]), 400, "rate"),
        of("POST", contracts, new(&[("/usage_rate", json!("a lot"))]), 400, "usage_rate"),
        of("POST", contracts, new(&[("/organization", json!("nobody"))]), 404, "nobody"),
        of("POST", contracts, new(&[("/instances", json!(99))]), 429, "99 instances"),
        of("POST", amend, json!({"id": "flex", "rate": "1.00"}), 409, "flex"),
        of("POST", amend, json!({"id": "new", "rate": "-1"}), 400, "rate"),
        of(
            "POST",
            amend,
            json!({"id": "new", "rate": "1.00", "from": "2020-01-01T00:00:00Z"}),
            400,
            "from",
        ),
        of("POST", "/api/v1/quotas", quota, 404, "nobody"),
        of("POST", "/api/v1/organizations", json!({"id": "acme"}), 409, "acme"),
        of("POST", "/api/v1/organizations", json!({"id": "new", "currency": "X"}), 400, "currency"),
        of("POST", "/api/v1/joins", json!({"admits": "gateways", "pool": "x"}), 400, "pool"),
        of("POST", "/api/v1/joins", json!({"pool": "nowhere"}), 404, "nowhere"),
        of("POST", "/api/v1/nodes/spot-1/reclaim", before, 400, "gone_after_seconds"),
        of("POST", "/api/v1/nodes/nowhere/cordon", json!({"reason": "x"}), 404, "nowhere"),
        of("POST", "/api/v1/brakes/xid-79/release", json!({"reason": "x"}), 404, "xid-79"),
    ]);
}

#[tokio::test]
async fn contradictions_taken_names_and_what_is_fixed_are_refused_and_nothing_changes() {
    let scheduler: Scheduler = empty("bad-together").await;
    let mut nodes = furnish(&scheduler).await;
    let mut cases = Vec::new();
    deployments(&mut cases);
    claims(&mut cases);
    gateways(&mut cases);
    own(&mut cases);
    let before = state(&scheduler);
    let mut wrong = Vec::new();
    for case in &cases {
        let Case { method, path, token, body, status, names } = case;
        let refused = scheduler.ask(method, path, Some(token), Some(body)).await;
        let told = format!("{method} {path} with {body:.300}");
        if refused.status != *status {
            wrong.push(format!("{told}: {} {}", refused.status, refused.text));
            continue;
        }
        let is_named = match status {
            400 if *method != "DELETE" => {
                named(path, &refused).0.iter().any(|field| field == names)
            }
            _others => refused.text.contains(names),
        };
        if !is_named {
            wrong.push(format!("{told}: does not name {names}: {}", refused.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(state(&scheduler), before);
    beat(&mut nodes).await;
    scheduler.stop().await;
}
