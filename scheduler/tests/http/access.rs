//! Who may do what: every route against every kind of caller.

use std::collections::BTreeMap;

use wharfage_scheduler::http::route::Access;
use wharfage_scheduler::http::routes;
use wharfage_scheduler_core::words::principal::Role;

use crate::support::{Scheduler, client, read};

/// The table: a route that is not here fails the test, so nobody can add one without a decision.
const TABLE: &str = "
GET    /                                                     page
GET    /fragment                                             page
GET    /drills                                               page
GET    /drills/fragment                                      page
GET    /live                                                 page
GET    /signin                                               open
POST   /signin                                               open
POST   /signout                                              open
GET    /assets/dashboard.css                                 open
GET    /assets/dashboard.js                                  open
GET    /assets/mark.svg                                      open
GET    /healthz                                              open
GET    /readyz                                               open
GET    /metrics                                              read
GET    /metrics/nodes                                        provider viewer
GET    /openapi.json                                         known
GET    /v1alpha1/inference/capacityclaims                    read
POST   /v1alpha1/inference/capacityclaims                    operator
GET    /v1alpha1/inference/capacityclaims/parameters         read
GET    /v1alpha1/inference/capacityclaims/{id}               read
PATCH  /v1alpha1/inference/capacityclaims/{id}               operator
DELETE /v1alpha1/inference/capacityclaims/{id}               operator
GET    /v1alpha1/inference/deployments                       read
POST   /v1alpha1/inference/deployments                       operator
GET    /v1alpha1/inference/deployments/parameters            read
GET    /v1alpha1/inference/deployments/{id}                  read
PATCH  /v1alpha1/inference/deployments/{id}                  operator
DELETE /v1alpha1/inference/deployments/{id}                  operator
GET    /v1alpha1/inference/gateways                          read
POST   /v1alpha1/inference/gateways                          operator
GET    /v1alpha1/inference/gateways/parameters               read
GET    /v1alpha1/inference/gateways/{id}                     read
PATCH  /v1alpha1/inference/gateways/{id}                     operator
DELETE /v1alpha1/inference/gateways/{id}                     operator
POST   /coreweave.inference.v1alpha1.CapacityClaimService/ListCapacityClaims         read
POST   /coreweave.inference.v1alpha1.CapacityClaimService/CreateCapacityClaim        operator
POST   /coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaimParameters read
POST   /coreweave.inference.v1alpha1.CapacityClaimService/GetCapacityClaim           read
POST   /coreweave.inference.v1alpha1.CapacityClaimService/UpdateCapacityClaim        operator
POST   /coreweave.inference.v1alpha1.CapacityClaimService/DeleteCapacityClaim        operator
POST   /coreweave.inference.v1alpha1.DeploymentService/ListDeployments               read
POST   /coreweave.inference.v1alpha1.DeploymentService/CreateDeployment              operator
POST   /coreweave.inference.v1alpha1.DeploymentService/GetDeploymentParameters       read
POST   /coreweave.inference.v1alpha1.DeploymentService/GetDeployment                 read
POST   /coreweave.inference.v1alpha1.DeploymentService/UpdateDeployment              operator
POST   /coreweave.inference.v1alpha1.DeploymentService/DeleteDeployment              operator
POST   /coreweave.inference.v1alpha1.GatewayService/ListGateways                     read
POST   /coreweave.inference.v1alpha1.GatewayService/CreateGateway                    operator
POST   /coreweave.inference.v1alpha1.GatewayService/GetGatewayParameters             read
POST   /coreweave.inference.v1alpha1.GatewayService/GetGateway                       read
POST   /coreweave.inference.v1alpha1.GatewayService/UpdateGateway                    operator
POST   /coreweave.inference.v1alpha1.GatewayService/DeleteGateway                    operator
PATCH  /v1/models/{model}/deployments/{deployment}/autoscaling_settings              operator
GET    /api/v1/nodes                                         read
GET    /api/v1/nodes/{id}                                    read
POST   /api/v1/nodes/{id}/cordon                             provider operator
POST   /api/v1/nodes/{id}/uncordon                           provider operator
POST   /api/v1/nodes/{id}/drain                              provider operator
POST   /api/v1/nodes/{id}/reclaim                            provider operator
POST   /api/v1/nodes/{id}/retire                             provider admin
POST   /api/v1/nodes/{id}/rejoin                             provider admin
POST   /api/v1/notices                                       provider operator
POST   /api/v1/notices/oci                                   provider operator
GET    /api/v1/brakes                                        read
POST   /api/v1/brakes/{rule}/release                         provider operator
GET    /api/v1/nodepools                                     read
POST   /api/v1/nodepools                                     provider admin
PATCH  /api/v1/nodepools/{id}                                provider admin
GET    /api/v1/capacity/find                                 read
GET    /api/v1/capacity                                      read
GET    /api/v1/deployments                                   read
POST   /api/v1/deployments                                   operator
GET    /api/v1/deployments/{id}                              read
PATCH  /api/v1/deployments/{id}                              operator
DELETE /api/v1/deployments/{id}                              operator
GET    /api/v1/deployments/{id}/explain                      read
GET    /api/v1/deployments/{id}/scaling                      read
GET    /api/v1/deployments/{id}/logs                         read
GET    /api/v1/replicas                                      read
GET    /api/v1/replicas/{id}                                 read
DELETE /api/v1/replicas/{id}                                 operator
GET    /api/v1/replicas/{id}/explain                         read
GET    /api/v1/replicas/{id}/logs                            read
GET    /api/v1/drills                                        read
POST   /api/v1/drills                                        provider operator
GET    /api/v1/drills/{id}                                   read
DELETE /api/v1/drills/{id}                                   provider operator
GET    /api/v1/drills/{id}/report                            read
GET    /api/v1/quotas                                        read
POST   /api/v1/quotas                                        provider admin
DELETE /api/v1/quotas/{organization}/{zone}/{sku}            provider admin
GET    /api/v1/contracts                                     billing
POST   /api/v1/contracts                                     provider admin
POST   /api/v1/contracts/{id}/amend                          provider admin
GET    /api/v1/prices                                        known
POST   /api/v1/prices                                        provider admin
GET    /api/v1/usage                                         billing
GET    /api/v1/invoices                                      billing
POST   /api/v1/invoices                                      billing
GET    /api/v1/invoices/{id}                                 billing
GET    /api/v1/invoices/{id}/verify                          billing
POST   /api/v1/invoices/{id}/verify                          billing
GET    /api/v1/organizations                                 known
POST   /api/v1/organizations                                 provider admin
GET    /api/v1/tokens                                        admin
POST   /api/v1/tokens                                        admin
DELETE /api/v1/tokens/{id}                                   admin
GET    /api/v1/joins                                         provider admin
POST   /api/v1/joins                                         provider admin
GET    /api/v1/audit                                         admin
GET    /api/v1/events                                        read
";

fn table() -> BTreeMap<(String, String), String> {
    let rows = TABLE.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        ((method, path), words.collect::<Vec<_>>().join(" "))
    });
    rows.collect()
}

fn word(access: Access) -> String {
    let name = |role| match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Billing => "billing",
        Role::Admin => "admin",
    };
    match access {
        Access::Open => "open".into(),
        Access::Known => "known".into(),
        Access::Read => "read".into(),
        Access::Page => "page".into(),
        Access::Role(role) => name(role).into(),
        Access::Provider(role) => format!("provider {}", name(role)),
    }
}

/// Whether a caller may pass, by the table's word alone.
fn passes(access: &str, provider: bool, role: &str) -> bool {
    let admin = role == "admin";
    match access {
        "open" | "known" => true,
        "read" | "page" => admin || role == "viewer" || role == "operator",
        other => match other.strip_prefix("provider ") {
            Some(needed) => provider && (admin || role == needed),
            None => admin || role == other,
        },
    }
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let found: BTreeMap<_, _> = routes()
        .into_iter()
        .map(|route| ((route.method.to_string(), route.path.to_owned()), word(route.access)))
        .collect();
    assert_eq!(found, table());
}

#[tokio::test]
async fn nobody_passes_without_a_token_and_each_role_passes_exactly_where_it_may() {
    let scheduler = Scheduler::start("roles").await;
    for ((method, path), access) in table() {
        let path = path.replace(['{', '}'], "");
        if path == "/live" || path == "/api/v1/events" {
            continue; // They go on for ever; the tests of events hold their gates.
        }
        let nobody = scheduler.ask(&method, &path, None, None).await.status;
        let stranger = scheduler.ask(&method, &path, Some("whf_nobody"), None).await.status;
        let refused = match access.as_str() {
            "open" => 0,
            "page" => 303,
            _other => 401,
        };
        assert_eq!(nobody == refused, refused != 0, "{method} {path} without a token: {nobody}");
        assert_eq!(stranger == refused, refused != 0, "{method} {path} of nobody: {stranger}");
        for organization in ["provider", "acme"] {
            for role in ["viewer", "operator", "billing", "admin"] {
                let token = format!("{organization}-{role}");
                let status = scheduler.ask(&method, &path, Some(&token), None).await.status;
                let may = passes(&access, organization == "provider", role);
                assert_eq!(status != 403, may, "{method} {path} as {token}: {status}");
                assert!(status != 401 && status != 500, "{method} {path} as {token}: {status}");
            }
        }
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn another_organizations_things_do_not_exist() {
    let scheduler = Scheduler::start("isolation").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let body = crate::support::deployment("chat");
    scheduler.post("/v1alpha1/inference/deployments", "acme-operator", &body).await.expect(200);
    node.next().await;
    node.next().await;
    let _second = scheduler.node("node-2", "standard").await;
    let claim = crate::lines::claim("hold", "SERVERLESS", 1);
    scheduler.post("/v1alpha1/inference/capacityclaims", "acme-operator", &claim).await.expect(200);
    let replicas = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let replica = replicas["replicas"][0]["id"].as_str().expect("a replica").to_owned();
    let invoice = scheduler.post("/api/v1/invoices", "acme-billing", &serde_json::json!({})).await;
    let invoice = invoice.expect(201)["id"].as_str().expect("an id").to_owned();
    let foreign = [
        ("GET", "/v1alpha1/inference/deployments/d-chat".to_owned(), "viewer"),
        ("DELETE", "/v1alpha1/inference/deployments/d-chat".to_owned(), "operator"),
        ("PATCH", "/v1alpha1/inference/deployments/d-chat".to_owned(), "operator"),
        ("GET", "/v1alpha1/inference/capacityclaims/c-hold".to_owned(), "viewer"),
        ("DELETE", "/v1alpha1/inference/capacityclaims/c-hold".to_owned(), "operator"),
        ("PATCH", "/v1alpha1/inference/capacityclaims/c-hold".to_owned(), "operator"),
        ("GET", "/v1alpha1/inference/gateways/front".to_owned(), "viewer"),
        ("DELETE", "/v1alpha1/inference/gateways/front".to_owned(), "operator"),
        ("GET", "/api/v1/deployments/d-chat".to_owned(), "viewer"),
        ("GET", "/api/v1/deployments/d-chat/explain".to_owned(), "viewer"),
        ("GET", "/api/v1/deployments/d-chat/scaling".to_owned(), "viewer"),
        ("GET", "/api/v1/deployments/d-chat/logs".to_owned(), "viewer"),
        ("DELETE", "/api/v1/deployments/d-chat".to_owned(), "operator"),
        ("GET", format!("/api/v1/replicas/{replica}"), "viewer"),
        ("GET", format!("/api/v1/replicas/{replica}/explain"), "viewer"),
        ("GET", format!("/api/v1/replicas/{replica}/logs"), "viewer"),
        ("DELETE", format!("/api/v1/replicas/{replica}"), "operator"),
        ("GET", format!("/api/v1/invoices/{invoice}"), "billing"),
        ("GET", format!("/api/v1/invoices/{invoice}/verify"), "billing"),
        ("POST", format!("/api/v1/invoices/{invoice}/verify"), "billing"),
        ("GET", "/api/v1/usage?organization=acme".to_owned(), "billing"),
        ("DELETE", "/api/v1/tokens/tok-acme-viewer".to_owned(), "admin"),
        (
            "PATCH",
            "/v1/models/chat-model/deployments/production/autoscaling_settings".to_owned(),
            "operator",
        ),
    ];
    for (method, path, role) in foreign {
        let body = (method == "PATCH").then(|| serde_json::json!({}));
        let rival = format!("rival-{role}");
        let answer = scheduler.ask(method, &path, Some(&rival), body.as_ref()).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    for path in [
        "/api/v1/deployments",
        "/api/v1/replicas",
        "/v1alpha1/inference/deployments",
        "/v1alpha1/inference/capacityclaims",
    ] {
        let text = scheduler.get(path, "rival-viewer").await.text;
        assert!(!text.contains("chat") && !text.contains("hold"), "{path} tells rival {text}");
    }
    let nodes = scheduler.get("/api/v1/nodes", "rival-viewer").await.expect(200);
    let gpu = &nodes["nodes"][0]["gpus"][3];
    assert_eq!(gpu["in_use"], true);
    assert!(gpu["memory_used_mib"].is_null() && gpu["replica"].is_null(), "{gpu}");
    assert!(nodes["nodes"][0]["held_for"].is_null());
    let mine = scheduler.get("/api/v1/nodes/node-1", "acme-viewer").await.expect(200);
    assert_eq!(mine["gpus"][3]["memory_used_mib"], 21_000);
    assert_eq!(mine["gpus"][3]["utilization"], 36);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_flood_of_one_key_is_told_when_to_come_back() {
    let limits = "[limits]\nwrites_per_minute = 600\nreads_per_minute = 5\n";
    let scheduler = Scheduler::start_with("limits", limits).await;
    for _ in 0..5 {
        scheduler.get("/api/v1/nodes", "acme-viewer").await.expect(200);
    }
    let flooded = scheduler.get("/api/v1/nodes", "acme-viewer").await;
    assert_eq!(flooded.expect(429)["code"], "rate_limited");
    assert!(flooded.headers.contains_key("retry-after"));
    scheduler.get("/api/v1/nodes", "rival-viewer").await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_words_of_their_api() {
    let scheduler = Scheduler::start("bad").await;
    let own = scheduler.get("/api/v1/nodes/nowhere", "acme-viewer").await;
    assert_eq!(own.headers["content-type"], "application/problem+json");
    let problem = own.expect(404);
    assert_eq!(
        (problem["code"].as_str(), problem["status"].as_u64()),
        (Some("not_found"), Some(404))
    );
    let rest = scheduler.get("/v1alpha1/inference/deployments/x", "acme-viewer").await.expect(404);
    assert_eq!((rest["code"].as_u64(), rest["status"].as_str()), (Some(5), Some("NOT_FOUND")));
    assert_eq!(rest["details"][0]["@type"], "type.googleapis.com/google.rpc.ResourceInfo");
    assert_eq!(rest["details"][0]["resourceName"], "x");
    let connect = "/coreweave.inference.v1alpha1.DeploymentService/GetDeployment";
    let body = serde_json::json!({"id": "x"});
    let connect = scheduler.post(connect, "acme-viewer", &body).await.expect(404);
    assert_eq!(connect["code"], "not_found");
    assert_eq!(connect["details"][0]["type"], "google.rpc.ResourceInfo");
    assert!(connect["details"][0]["value"].is_string());
    let path = "/v1/models/x/deployments/production/autoscaling_settings";
    let baseten = scheduler.patch(path, "acme-operator", &serde_json::json!({})).await.expect(404);
    assert_eq!(baseten["code"], "NOT_FOUND");
    let unknown = scheduler.patch(path, "nobody", &serde_json::json!({})).await.expect(401);
    let accepted = unknown["message"].as_str().unwrap_or_default();
    assert!(accepted.contains("Bearer") && accepted.contains("Api-Key"), "both: {accepted}");
    let nowhere = scheduler.get("/api/v2/nodes", "acme-viewer").await;
    assert_eq!(nowhere.expect(404)["code"], "not_found");
    assert_eq!(scheduler.ask("GET", "/api/v2/nodes", None, None).await.status, 401);
    let wrong = scheduler.delete("/api/v1/nodes", "acme-admin").await;
    assert_eq!(wrong.expect(405)["code"], "method_not_allowed");
    assert!(wrong.headers["allow"].to_str().unwrap_or("").contains("GET"));
    let nobody = scheduler.ask("DELETE", "/api/v1/nodes", None, None).await;
    assert_eq!(nobody.status, 401, "without a token nothing is told of paths");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_by_name_and_reads_go_on() {
    let scheduler = Scheduler::start_with("full", "log_max_mib = 1\n").await;
    let _node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let path = "/api/v1/deployments";
    scheduler.post(path, "acme-operator", &crate::support::deployment("chat")).await.expect(201);
    let mut refused = None;
    for round in 0..200 {
        let labels: serde_json::Map<String, serde_json::Value> =
            (0..60).map(|n| (format!("label-{n}"), format!("{round:0>250}").into())).collect();
        let patch = serde_json::json!({"wharfage": {"labels": labels}});
        let path = "/api/v1/deployments/d-chat";
        let answer = scheduler.patch(path, "acme-operator", &patch).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a log of 1 MiB is full by now");
    assert_eq!(refused.expect(507)["code"], "disk_full");
    assert_eq!(scheduler.ask("GET", "/readyz", None, None).await.status, 503);
    assert_eq!(scheduler.ask("GET", "/healthz", None, None).await.status, 200);
    scheduler.get(path, "acme-viewer").await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_and_nothing_is_changed() {
    let scheduler = Scheduler::start("unreadable").await;
    let send = |content_type: &'static str, body: Vec<u8>| {
        let url = format!("{}/api/v1/organizations", scheduler.url);
        let request = client().post(url).header("authorization", "Bearer provider-admin");
        read(request.header("content-type", content_type).body(body))
    };
    let json = "application/json";
    let before = scheduler.driver.handle.view().position();
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let deep = format!("{{\"id\":{deep}}}");
    let cases: [(&'static str, Vec<u8>, u16, &str); 8] = [
        (json, b"{".to_vec(), 400, "unreadable_body"),
        (json, b"[]".to_vec(), 400, "unreadable_body"),
        (json, b"\"x\"".to_vec(), 400, "unreadable_body"),
        (json, vec![0xff, 0xfe], 400, "unreadable_body"),
        (json, deep.into_bytes(), 400, "unreadable_body"),
        (json, vec![b' '; 300 * 1024], 413, "body_too_large"),
        ("text/plain", b"{\"id\":\"x\"}".to_vec(), 415, "unsupported_media_type"),
        (json, b"{\"id\":\"x\",\"colour\":1}".to_vec(), 400, "invalid"),
    ];
    for (content_type, body, status, code) in cases {
        let answer = send(content_type, body).await;
        assert_eq!(answer.expect(status)["code"], code);
    }
    assert_eq!(scheduler.driver.handle.view().position(), before);
    scheduler.stop().await;
}
