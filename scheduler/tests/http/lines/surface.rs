//! Lines 35 to 41 and 49: what every resource has in common, over REST and over Connect.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharfage_scheduler::http::route::Access;
use wharfage_scheduler::http::routes;

use super::{CLAIMS, DEPLOYMENTS, GATEWAYS, KINDS, Kind, claim, deploy, fields};
use crate::support::{Scheduler, ZONE, gateway};

const OWN: &str = "acme-operator";

/// A scheduler with a free node and one resource of each kind, named `one`.
async fn one_of_each(name: &str) -> Scheduler {
    let scheduler = Scheduler::start(name).await;
    for node in ["node-1", "node-2", "node-3"] {
        let _node = scheduler.node(node, "standard").await;
    }
    scheduler.gateways().await;
    for kind in &KINDS {
        scheduler.post(kind.rest, OWN, &(kind.body)("one")).await.expect(200);
    }
    scheduler
}

/// The one detail of a google.rpc answer: its short name and itself.
fn detail(refused: &Value) -> (String, Value) {
    let detail = refused["details"][0].clone();
    let name = detail["@type"].as_str().or(detail["type"].as_str()).unwrap_or_default();
    (name.rsplit('.').next().unwrap_or_default().to_owned(), detail)
}

#[tokio::test]
async fn line_35_every_call_needs_a_token_and_its_role() {
    let scheduler = Scheduler::start("line-35").await;
    let ours = |path: &str| path.starts_with("/v1alpha1/") || path.starts_with("/coreweave.");
    let mut seen = 0;
    for route in routes().into_iter().filter(|route| ours(route.path)) {
        let (method, path) = (route.method.as_str(), route.path.replace("{id}", "x"));
        let is_connect = path.starts_with("/coreweave.");
        let say = |code: u64, word: &str| if is_connect { json!(word) } else { json!(code) };
        for token in [None, Some("whf_nobody")] {
            let refused = scheduler.ask(method, &path, token, None).await.expect(401);
            assert_eq!(refused["code"], say(16, "unauthenticated"), "{method} {path}");
        }
        let lacking = match route.access {
            Access::Role(_) => "acme-viewer",
            _reading => "acme-billing",
        };
        let refused = scheduler.ask(method, &path, Some(lacking), None).await.expect(403);
        assert_eq!(refused["code"], say(7, "permission_denied"), "{method} {path}");
        seen += 1;
    }
    assert_eq!(seen, 36, "six operations of three services, twice");
    scheduler.stop().await;
}

#[tokio::test]
async fn line_36_single_answers_are_wrapped_and_lists_pluralised() {
    let scheduler = one_of_each("line-36").await;
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    for kind in &KINDS {
        let (path, id) = (kind.path("one"), json!({"id": (kind.body)("one")["id"]}));
        let one = scheduler.get(&path, "acme-viewer").await.expect(200);
        assert_eq!(keys(&one), [kind.one]);
        assert_eq!(keys(&one[kind.one]), ["spec", "status"]);
        let got = scheduler.post(&kind.connect("Get"), "acme-viewer", &id).await.expect(200);
        assert_eq!(got, one);
        let all = scheduler.get(kind.rest, "acme-viewer").await.expect(200);
        assert_eq!(keys(&all), [kind.all]);
        let rows = all[kind.all].as_array().expect("a list");
        assert!(rows.contains(&one[kind.one]), "{all}");
        assert!(rows.iter().all(|row| keys(row) == ["spec", "status"]), "{all}");
        let same = scheduler.post(&kind.connect("List"), "acme-viewer", &json!({})).await;
        assert_eq!(same.expect(200), all);
        let made = scheduler.post(&kind.connect("Create"), OWN, &(kind.body)("two")).await;
        let made = made.expect(200);
        assert_eq!(keys(&made), [kind.one]);
        assert_eq!(made[kind.one]["spec"]["name"], "two");
        assert_eq!(made[kind.one]["spec"]["organizationId"], "acme");
        let changed = scheduler.post(&kind.connect("Update"), OWN, &(kind.body)("two")).await;
        assert_eq!(changed.expect(200)[kind.one]["spec"], made[kind.one]["spec"]);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_37_lists_are_whole_and_narrowed_by_updated_after() {
    let scheduler = one_of_each("line-37").await;
    for number in 0..120 {
        let body = gateway(&format!("door-{number}"));
        scheduler.post(GATEWAYS, OWN, &body).await.expect(200);
    }
    let all = scheduler.get(GATEWAYS, "acme-viewer").await.expect(200);
    assert_eq!(all["gateways"].as_array().map(Vec::len), Some(122), "no pages");
    for kind in &KINDS {
        let one = scheduler.get(&kind.path("one"), "acme-viewer").await.expect(200);
        let at = one[kind.one]["status"]["updatedAt"].as_str().expect("an instant").to_owned();
        let has = |rows: &Value| {
            let rows = rows[kind.all].as_array().expect("a list");
            rows.iter().any(|row| row["spec"]["name"] == "one")
        };
        let past = "2020-01-01T00:00:00Z";
        for (after, expected) in [(past, true), (at.as_str(), false)] {
            let path = format!("{}?updatedAfter={after}", kind.rest);
            let rows = scheduler.get(&path, "acme-viewer").await.expect(200);
            assert_eq!(has(&rows), expected, "{path}");
            let body = json!({"updatedAfter": after});
            let same = scheduler.post(&kind.connect("List"), "acme-viewer", &body).await;
            assert_eq!(same.expect(200), rows);
        }
        let bad = format!("{}?updatedAfter=yesterday", kind.rest);
        let refused = scheduler.get(&bad, "acme-viewer").await.expect(400);
        assert_eq!(fields(&refused), ["updatedAfter"]);
        let body = json!({"updatedAfter": 7});
        let refused = scheduler.post(&kind.connect("List"), "acme-viewer", &body).await;
        assert_eq!(refused.expect(400)["code"], "invalid_argument");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_38_a_patch_takes_no_field_mask() {
    let scheduler = one_of_each("line-38").await;
    for kind in &KINDS {
        let path = kind.path("one");
        let mut body = (kind.body)("one");
        body["updateMask"] = json!("resources");
        let refused = scheduler.patch(&path, OWN, &body).await.expect(400);
        assert_eq!(fields(&refused), ["updateMask"], "{refused}");
        let refused = scheduler.post(&kind.connect("Update"), OWN, &body).await.expect(400);
        assert_eq!(refused["code"], "invalid_argument");
        let asked = format!("{path}?updateMask=resources");
        let refused = scheduler.patch(&asked, OWN, &(kind.body)("one")).await.expect(400);
        assert_eq!(fields(&refused), ["updateMask"], "{refused}");
        body["updateMask"] = json!("");
        scheduler.patch(&path, OWN, &body).await.expect(200);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_39_status_words_and_conditions_are_those_of_the_reference() {
    let scheduler = Scheduler::start("line-39").await;
    let mut node = scheduler.node("node-1", "standard").await;
    let mut seen = BTreeSet::new();
    let mut look = |kind: &Kind, answer: &Value| {
        let status = &answer[kind.one]["status"];
        let instant = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.ends_with('Z') && text.contains('T')
        };
        assert!(instant(&status["createdAt"]) && instant(&status["updatedAt"]), "{answer}");
        let conditions = status["conditions"].as_array().expect("conditions");
        assert!(!conditions.is_empty());
        for condition in conditions {
            let word = condition["status"].as_str().unwrap_or_default();
            assert!(["True", "False", "Unknown"].contains(&word), "{condition}");
            let reason = condition["reason"].as_str().unwrap_or_default();
            let is_camel = reason.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(is_camel && reason.chars().all(char::is_alphanumeric), "{condition}");
            assert!(condition["type"].is_string() && condition["message"].is_string());
            assert!(condition["zone"].is_string(), "{condition}");
            assert!(instant(&condition["lastUpdateTime"]), "{condition}");
        }
        let word = status["status"].as_str().expect("a word").to_owned();
        seen.insert((kind.one, word));
    };
    let [claims, deployments, gateways] = &KINDS;
    look(gateways, &scheduler.post(GATEWAYS, OWN, &gateway("early")).await.expect(200));
    scheduler.gateways().await;
    look(gateways, &scheduler.get(&gateways.path("early"), OWN).await.expect(200));
    look(gateways, &scheduler.delete(&gateways.path("early"), OWN).await.expect(200));
    let quota = json!({"organization": "acme", "zone": ZONE, "sku": crate::support::SKU,
                       "instances": 3});
    scheduler.post("/api/v1/quotas", "provider-admin", &quota).await.expect(201);
    let own = |count| claim("own", "CUSTOMER", count);
    look(claims, &scheduler.post(CLAIMS, OWN, &own(2)).await.expect(200));
    let _second = scheduler.node("node-2", "standard").await;
    look(claims, &scheduler.get(&claims.path("own"), OWN).await.expect(200));
    look(claims, &scheduler.patch(&claims.path("own"), OWN, &own(3)).await.expect(200));
    look(claims, &scheduler.delete(&claims.path("own"), OWN).await.expect(200));
    look(deployments, &deploy(&scheduler, "one", |_| {}).await.expect(200));
    node.next().await;
    node.next().await;
    look(deployments, &scheduler.get(&deployments.path("one"), OWN).await.expect(200));
    let changed = {
        let mut body = (deployments.body)("one");
        body["runtime"]["version"] = json!("0.22.0");
        body
    };
    look(deployments, &scheduler.patch(&deployments.path("one"), OWN, &changed).await.expect(200));
    look(deployments, &scheduler.delete(&deployments.path("one"), OWN).await.expect(200));
    let full = ["CREATING", "DELETING", "READY", "UPDATING"];
    let expected: BTreeSet<(&str, String)> = [("capacityClaim", &full[..]), ("deployment", &full)]
        .into_iter()
        .chain([("gateway", &["CREATING", "DELETING", "READY"][..])])
        .flat_map(|(kind, words)| words.iter().map(move |word| (kind, format!("STATUS_{word}"))))
        .collect();
    assert_eq!(seen, expected);
    scheduler.stop().await;
}

#[tokio::test]
async fn line_40_a_delete_answers_the_object_and_then_it_is_not_found() {
    let scheduler = one_of_each("line-40").await;
    for kind in &KINDS {
        let (path, body) = (kind.path("two"), (kind.body)("two"));
        let id = json!({"id": body["id"]});
        for over_connect in [false, true] {
            let made = scheduler.post(kind.rest, OWN, &body).await.expect(200);
            let gone = match over_connect {
                false => scheduler.delete(&path, OWN).await,
                true => scheduler.post(&kind.connect("Delete"), OWN, &id).await,
            };
            let gone = gone.expect(200);
            assert_eq!(gone[kind.one]["spec"], made[kind.one]["spec"]);
            assert_eq!(gone[kind.one]["status"]["status"], "STATUS_DELETING");
            let missing = scheduler.get(&path, "acme-viewer").await.expect(404);
            let (name, detail) = detail(&missing);
            assert_eq!((missing["code"].as_u64(), name.as_str()), (Some(5), "ResourceInfo"));
            assert_eq!(
                (&detail["resourceType"], &detail["resourceName"]),
                (&json!(kind.one), &body["id"])
            );
            scheduler.delete(&path, OWN).await.expect(404);
            scheduler.patch(&path, OWN, &body).await.expect(404);
            let missing = scheduler.post(&kind.connect("Get"), "acme-viewer", &id).await;
            assert_eq!(missing.expect(404)["code"], "not_found");
            let rows = scheduler.get(kind.rest, "acme-viewer").await.expect(200);
            assert!(!rows.to_string().contains("\"two\""), "{rows}");
            if kind.one == "deployment" {
                break; // Its id comes back when its replicas are proven gone.
            }
        }
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_41_errors_carry_the_details_of_table_1_1() {
    let scheduler = one_of_each("line-41").await;
    let [claims, deployments, gateways] = &KINDS;
    let mut bad = (deployments.body)("bad");
    bad["autoscaling"]["min"] = json!(0);
    let missing = json!({"id": "nowhere"});
    let too_much = claim("much", "CUSTOMER", 9);
    let front = json!({"id": "front"});
    let cases: [(String, &Value, u16, u64, &str, &str); 5] = [
        (deployments.connect("Get"), &missing, 404, 5, "not_found", "ResourceInfo"),
        (gateways.connect("Create"), &gateway("one"), 409, 6, "already_exists", "ResourceInfo"),
        (deployments.connect("Create"), &bad, 400, 3, "invalid_argument", "BadRequest"),
        (gateways.connect("Delete"), &front, 400, 9, "failed_precondition", "PreconditionFailure"),
        (claims.connect("Create"), &too_much, 429, 8, "resource_exhausted", "QuotaFailure"),
    ];
    for (path, body, status, code, word, expected) in cases {
        let refused = scheduler.post(&path, OWN, body).await.expect(status);
        assert_eq!(refused["code"], word, "{refused}");
        let (name, connect) = detail(&refused);
        assert_eq!(name, expected);
        assert!(connect["value"].as_str().is_some_and(|text| !text.contains('=')), "{connect}");
        let id = body["id"].as_str().unwrap_or_default();
        let rest = match word {
            "not_found" => scheduler.get(&format!("{DEPLOYMENTS}/{id}"), OWN).await,
            "already_exists" => scheduler.post(GATEWAYS, OWN, body).await,
            "invalid_argument" => scheduler.post(DEPLOYMENTS, OWN, body).await,
            "failed_precondition" => scheduler.delete(&format!("{GATEWAYS}/{id}"), OWN).await,
            _exhausted => scheduler.post(CLAIMS, OWN, body).await,
        };
        let rest = rest.expect(status);
        assert_eq!(rest["code"], code);
        assert_eq!(rest["status"], word.to_uppercase());
        assert_eq!(rest["message"], refused["message"], "both say the same");
        let (name, detail) = detail(&rest);
        assert_eq!(name, expected);
        let rows = match expected {
            "ResourceInfo" => vec![detail.clone()],
            "BadRequest" => detail["fieldViolations"].as_array().cloned().unwrap_or_default(),
            _others => detail["violations"].as_array().cloned().unwrap_or_default(),
        };
        let keys: &[&str] = match expected {
            "ResourceInfo" => &["resourceType", "resourceName", "description"],
            "BadRequest" => &["field", "description"],
            "PreconditionFailure" => &["type", "subject", "description"],
            _quota => &["subject", "description"],
        };
        assert!(!rows.is_empty(), "{detail}");
        for (row, key) in rows.iter().flat_map(|row| keys.iter().map(move |key| (row, key))) {
            assert!(row[*key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {row}");
        }
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn line_49_a_name_or_an_id_that_exists_is_refused_with_its_resource() {
    let scheduler = one_of_each("line-49").await;
    for kind in &KINDS {
        let again = (kind.body)("one");
        let mut named = again.clone();
        named["id"] = json!("another");
        let mut identified = (kind.body)("other");
        identified["id"] = again["id"].clone();
        let id = again["id"].as_str().expect("an id").to_owned();
        for (body, resource) in [(named, "one"), (identified, id.as_str())] {
            let refused = scheduler.post(kind.rest, OWN, &body).await.expect(409);
            let (name, detail) = detail(&refused);
            assert_eq!((refused["code"].as_u64(), name.as_str()), (Some(6), "ResourceInfo"));
            assert_eq!(
                (&detail["resourceType"], &detail["resourceName"]),
                (&json!(kind.one), &json!(resource))
            );
            let refused = scheduler.post(&kind.connect("Create"), OWN, &body).await.expect(409);
            assert_eq!(refused["code"], "already_exists");
        }
        let rows = scheduler.get(kind.rest, "acme-viewer").await.expect(200);
        let ones = rows[kind.all].as_array().expect("a list").iter();
        assert_eq!(ones.filter(|row| row["spec"]["name"] == "one").count(), 1);
    }
    scheduler.stop().await;
}
