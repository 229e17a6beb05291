//! `/openapi.json`: OpenAPI 3.1 made from the table of routes, so that no path can be missing.

use axum::http::Method;
use serde_json::{Map, Value, json};
use wharfage_scheduler_core::words::principal::Role;

use super::fault::Style;
use super::route::{Access, Route};
use super::routes;

/// The whole document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let path = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(&route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wharfage",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs GPU inference replicas on a fleet of GPU hosts and bills for \
                            them.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Api-Key <token>`, on Baseten's paths only.",
                },
            },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    for name in route.query {
        let schema = match *name {
            "dryRun" => json!({"type": "boolean"}),
            "after" | "since" | "limit" => json!({"type": "integer", "minimum": 0}),
            "updatedAfter" | "from" | "to" => json!({"type": "string", "format": "date-time"}),
            _other => json!({"type": "string"}),
        };
        parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    }
    let writes = !matches!(route.method, Method::GET | Method::HEAD);
    if writes && route.style != Style::Page {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": {"type": "string"},
            "description": "The same key with the same body is carried out once and answered the \
                            same for 24 hours; with another body it is 422.",
        }));
    }
    let mut operation = json!({
        "summary": route.summary,
        "description": format!("Access: {}.", access(route.access)),
        "parameters": parameters,
        "responses": {
            "2XX": {"description": "It was done."},
            "default": {
                "description": "Why not.",
                "content": error(route.style),
            },
        },
    });
    if route.access == Access::Open {
        operation["security"] = json!([]);
    } else if route.style == Style::Baseten {
        operation["security"] = json!([{"token": []}, {"apiKey": []}]);
    }
    if let Some(schema) = route.takes {
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn access(access: Access) -> String {
    let name = |role| match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Billing => "billing",
        Role::Admin => "admin",
    };
    match access {
        Access::Open => "anybody".to_owned(),
        Access::Known => "any valid token".to_owned(),
        Access::Read => "viewer or operator".to_owned(),
        Access::Role(role) => name(role).to_owned(),
        Access::Provider(role) => format!("{} of the provider", name(role)),
        Access::Page => "a person who has signed in".to_owned(),
    }
}

fn error(style: Style) -> Value {
    let (kind, schema) = match style {
        Style::Problem => ("application/problem+json", "Problem"),
        Style::Rest => ("application/json", "Status"),
        Style::Connect => ("application/json", "ConnectError"),
        Style::Baseten => ("application/json", "BasetenError"),
        Style::Page => return json!({"text/html": {}}),
    };
    json!({kind: {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

/// An object of these fields; a `!` before a name makes it required.
fn object(fields: &[(&str, Value)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in fields {
        let plain = name.trim_start_matches('!');
        if plain.len() != name.len() {
            required.push(plain);
        }
        properties.insert(plain.to_owned(), schema.clone());
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn map() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn instant() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn whole(least: u32, most: u32) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

fn optional(least: u32, most: u32) -> Value {
    json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
}

fn schemas() -> Value {
    let mut schemas = resources();
    let errors = [
        (
            "Problem",
            object(&[
                ("!type", text()),
                ("!title", text()),
                ("!status", whole(400, 599)),
                ("!code", text()),
                ("!detail", text()),
                ("field", text()),
                ("accepted", text()),
            ]),
        ),
        (
            "Status",
            object(&[
                ("!code", whole(1, 16)),
                ("!status", text()),
                ("!message", text()),
                ("details", json!({"type": "array"})),
            ]),
        ),
        (
            "ConnectError",
            object(&[
                ("!code", text()),
                ("!message", text()),
                ("details", json!({"type": "array"})),
            ]),
        ),
        ("BasetenError", object(&[("!code", text()), ("!message", text())])),
    ];
    for (name, schema) in errors.into_iter().chain(requests()).chain(access_requests()) {
        schemas[name] = schema;
    }
    schemas
}

/// Bodies of deployments and gateways.
fn resources() -> Value {
    let runtime = object(&[
        ("!engine", text()),
        ("version", text()),
        ("engineConfig", map()),
        ("engineEnv", map()),
    ]);
    let classes =
        words(&["CAPACITY_CLASS_RESERVED", "CAPACITY_CLASS_ON_DEMAND", "CAPACITY_CLASS_SPOT"]);
    let autoscaling = object(&[
        ("min", whole(1, 10_000)),
        ("max", whole(1, 10_000)),
        ("priority", whole(0, 1000)),
        ("concurrency", whole(0, 1_000_000)),
        ("capacityClasses", json!({"type": "array", "items": classes})),
    ]);
    let gpus = json!({"type": "integer", "enum": [1, 2, 4, 8, 16]});
    let hook_ids = object(&["checkpoint", "drain", "restore", "post"].map(|hook| (hook, text())));
    let extension = object(&[
        ("single_copy", flag()),
        ("grace_seconds", whole(0, 86_400)),
        ("start_deadline_seconds", whole(1, 86_400)),
        ("environment", text()),
        ("labels", map()),
        ("scaling", words(&["in_flight", "work"])),
        ("hooks", hook_ids),
        ("rollout", object(&[("max_surge", whole(0, 1000)), ("max_unavailable", whole(0, 1000))])),
        ("capacity_classes_extra", json!({"type": "array", "items": words(&["SPOT"])})),
        ("strict", flag()),
        ("consolidation", flag()),
    ]);
    json!({
        "Deployment": object(&[
            ("id", text()),
            ("!name", text()),
            ("!gatewayIds", texts()),
            ("disabled", flag()),
            ("!runtime", runtime),
            ("!resources", object(&[("!instanceType", text()), ("!gpuCount", gpus)])),
            ("!model", object(&[("!name", text()), ("!bucket", text()), ("!path", text())])),
            ("!autoscaling", autoscaling),
            ("traffic", object(&[("weight", whole(0, 1000))])),
            ("wharfage", extension),
            ("dialect", words(&["coreweave", "baseten"])),
        ]),
        "CapacityClaim": object(&[
            ("id", text()),
            ("!name", text()),
            ("!resources", object(&[
                ("!instanceId", text()),
                ("!instanceCount", whole(1, 100_000)),
                ("!capacityType", words(&[
                    "CAPACITY_TYPE_SERVERLESS",
                    "CAPACITY_TYPE_CUSTOMER",
                    "CAPACITY_TYPE_MANAGED",
                ])),
                ("!zones", texts()),
            ])),
        ]),
        "Gateway": object(&[
            ("id", text()),
            ("!name", text()),
            ("!zones", texts()),
            ("coreWeaveAuth", object(&[])),
            ("bodyBasedRouting", object(&[("apiType", words(&["API_TYPE_OPENAI"]))])),
            ("headerBasedRouting", object(&[("headerName", text())])),
            ("pathBasedRouting", object(&[])),
            ("endpointConfiguration", object(&[("additionalDns", texts())])),
        ]),
        "AutoscalingSettings": object(&[
            ("min_replica", optional(0, 10_000)),
            ("max_replica", optional(1, 10_000)),
            ("autoscaling_window", optional(10, 3600)),
            ("scale_down_delay", optional(0, 3600)),
            ("concurrency_target", optional(1, 1_000_000)),
            ("target_utilization_percentage", optional(1, 100)),
            ("target_in_flight_tokens", optional(1, 1_000_000_000)),
            ("max_scale_down_rate", optional(1, 50)),
        ]),
    })
}

/// The body of a drill.
fn drill() -> Value {
    let seconds = || whole(0, 86_400);
    object(&[
        ("name", text()),
        (
            "!scope",
            object(&[
                ("node", text()),
                ("pool", text()),
                ("deployment", text()),
                ("percent", whole(1, 100)),
            ]),
        ),
        (
            "!profile",
            words(&["aws-120", "gcp-30", "azure-30", "coreweave-420", "no-notice", "custom"]),
        ),
        ("window_seconds", seconds()),
        ("schedule", object(&[("!cron", text()), ("time_zone", text())])),
        ("budget", object(&[("nodes_at_once", whole(1, 10_000)), ("within_hours", whole(1, 720))])),
        (
            "abort",
            object(&[
                ("below_min_ready", flag()),
                ("fewer_than_ready", whole(0, 10_000)),
                ("more_requests_cut_than", whole(0, 1_000_000_000)),
            ]),
        ),
        (
            "targets",
            object(&[
                ("first_action_seconds", seconds()),
                ("checkpoints_percent", whole(0, 100)),
                ("window_used_percent", whole(0, 100)),
                ("requests_cut", whole(0, 1_000_000_000)),
                ("capacity_back_seconds", seconds()),
            ]),
        ),
    ])
}

/// Bodies of our own API.
fn requests() -> Vec<(&'static str, Value)> {
    let seconds = || whole(0, 86_400);
    vec![
        ("Verb", object(&[("!reason", text())])),
        (
            "Reclaim",
            object(&[
                ("!reason", text()),
                ("leaves", words(&["node", "replicas"])),
                ("drain_after_seconds", seconds()),
                ("gone_after_seconds", seconds()),
            ]),
        ),
        (
            "Notice",
            object(&[
                ("!id", text()),
                ("node", text()),
                ("provider_id", text()),
                ("!kind", words(&["preempt", "maintenance", "shutdown"])),
                ("!in_seconds", seconds()),
            ]),
        ),
        (
            "NodePool",
            object(&[
                ("!id", text()),
                ("!zone", text()),
                ("!sku", text()),
                ("compute_class", words(&["standard", "spot"])),
                ("tenancy", words(&["dedicated", "shared"])),
                ("owner", text()),
                ("target_nodes", whole(0, 1_000_000)),
                ("min_nodes", whole(0, 1_000_000)),
                ("max_nodes", whole(0, 1_000_000)),
            ]),
        ),
        (
            "Contract",
            object(&[
                ("!id", text()),
                ("!organization", text()),
                ("!plan", words(&["reserved", "flex"])),
                ("!sku", text()),
                ("!region", text()),
                ("instances", whole(1, 1_000_000)),
                ("gpus", whole(1, 16_000_000)),
                ("!start", instant()),
                ("!end", instant()),
                ("rate", text()),
                ("holding_rate", text()),
                ("usage_rate", text()),
            ]),
        ),
        ("Drill", drill()),
        (
            "PoolSize",
            object(&[
                ("target_nodes", whole(0, 1_000_000)),
                ("min_nodes", whole(0, 1_000_000)),
                ("max_nodes", whole(0, 1_000_000)),
            ]),
        ),
        ("Amendment", object(&[("!id", text()), ("from", instant()), ("!rate", text())])),
        (
            "Quota",
            object(&[
                ("!organization", text()),
                ("!zone", text()),
                ("!sku", text()),
                ("!instances", whole(0, 1_000_000)),
            ]),
        ),
        (
            "Price",
            object(&[
                ("!sku", text()),
                ("!region", text()),
                ("from", instant()),
                ("!on_demand", text()),
                ("spot", text()),
                ("gpus", whole(1, 1024)),
                ("gpu_hour", text()),
            ]),
        ),
        ("Period", object(&[("organization", text()), ("!from", instant()), ("!to", instant())])),
    ]
}

/// Bodies about who may do what.
fn access_requests() -> Vec<(&'static str, Value)> {
    vec![
        ("Organization", object(&[("!id", text()), ("currency", text())])),
        (
            "Token",
            object(&[
                ("organization", text()),
                (
                    "!roles",
                    json!({
                        "type": "array",
                        "items": words(&["viewer", "operator", "billing", "admin"]),
                    }),
                ),
                ("name", text()),
            ]),
        ),
        (
            "Join",
            object(&[
                ("admits", words(&["nodes", "gateways"])),
                ("pool", text()),
                ("uses", whole(1, 100_000)),
                ("expires_in_seconds", whole(1, 31_536_000)),
            ]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_every_schema_it_names_exists() {
        let document = document();
        for route in routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            assert!(operation.is_object(), "{method} {}", route.path);
            if let Some(schema) = route.takes {
                assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
            }
        }
    }
}
