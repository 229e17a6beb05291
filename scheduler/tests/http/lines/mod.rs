//! The checklist of what a faithful CoreWeave API does, lines 1 to 49, over the public listener: a
//! test a line, with the line's number in its name.

mod autoscaling;
mod claims;
mod deployments;
mod gateways;
mod surface;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Answer, SKU, Scheduler, ZONE, deployment, gateway};

pub const DEPLOYMENTS: &str = "/v1alpha1/inference/deployments";
pub const CLAIMS: &str = "/v1alpha1/inference/capacityclaims";
pub const GATEWAYS: &str = "/v1alpha1/inference/gateways";

/// Lines of which nothing can be seen before the number of replicas follows the load.
const NOT_YET: [u32; 2] = [8, 9];

/// Lines whose story the core tells, because it takes hours of virtual time.
const IN_THE_CORE: [u32; 2] = [27, 28];

/// One of the three services as its clients see it.
pub struct Kind {
    /// Its REST path.
    pub rest: &'static str,
    /// The word around one resource.
    pub one: &'static str,
    /// The word around several.
    pub all: &'static str,
    /// The word in the names of its Connect methods, and its plural there.
    pub word: [&'static str; 2],
    /// A good body.
    pub body: fn(&str) -> Value,
}

pub const KINDS: [Kind; 3] = [
    Kind {
        rest: CLAIMS,
        one: "capacityClaim",
        all: "capacityClaims",
        word: ["CapacityClaim", "CapacityClaims"],
        body: |name| claim(name, "SERVERLESS", 1),
    },
    Kind {
        rest: DEPLOYMENTS,
        one: "deployment",
        all: "deployments",
        word: ["Deployment", "Deployments"],
        body: deployment,
    },
    Kind {
        rest: GATEWAYS,
        one: "gateway",
        all: "gateways",
        word: ["Gateway", "Gateways"],
        body: gateway,
    },
];

impl Kind {
    /// The Connect path of a method (`Create`, `List`, ...).
    pub fn connect(&self, method: &str) -> String {
        let [one, all] = self.word;
        let name = match method {
            "List" => format!("List{all}"),
            "Parameters" => format!("Get{one}Parameters"),
            other => format!("{other}{one}"),
        };
        format!("/coreweave.inference.v1alpha1.{one}Service/{name}")
    }

    /// The REST path of the resource that a good body of this name makes.
    pub fn path(&self, name: &str) -> String {
        let id = (self.body)(name)["id"].as_str().expect("good bodies have an id").to_owned();
        format!("{}/{id}", self.rest)
    }
}

/// The body of a claim of acme, `c-<name>`.
pub fn claim(name: &str, kind: &str, count: u32) -> Value {
    json!({
        "id": format!("c-{name}"),
        "name": name,
        "resources": {
            "instanceId": SKU,
            "instanceCount": count,
            "capacityType": format!("CAPACITY_TYPE_{kind}"),
            "zones": [ZONE],
        },
    })
}

/// The fields that a google.rpc answer names.
pub fn fields(refused: &Value) -> Vec<&str> {
    let violations = refused["details"][0]["fieldViolations"].as_array();
    let violations = violations.map(Vec::as_slice).unwrap_or_default();
    violations.iter().filter_map(|row| row["field"].as_str()).collect()
}

/// Makes a deployment of acme whose body was changed.
pub async fn deploy(scheduler: &Scheduler, name: &str, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = deployment(name);
    change(&mut body);
    scheduler.post(DEPLOYMENTS, "acme-operator", &body).await
}

/// Where a deployment's replicas are that have not ended, and in which phase; pending ones last.
pub async fn places(scheduler: &Scheduler, name: &str) -> Vec<(String, String)> {
    let rows = scheduler.get("/api/v1/replicas", "acme-viewer").await.expect(200);
    let text = |value: &Value| value.as_str().unwrap_or("~").to_owned();
    let rows = rows["replicas"].as_array().cloned().unwrap_or_default();
    let of = rows.iter().filter(|row| row["deployment"] == format!("d-{name}"));
    let mut places: Vec<_> = of.map(|row| (text(&row["node"]), text(&row["phase"]))).collect();
    places.retain(|(_, phase)| phase != "stopped");
    places.sort();
    places
}

/// The one replica's node, `~` while it is pending.
pub async fn node_of(scheduler: &Scheduler, name: &str) -> String {
    let places = places(scheduler, name).await;
    assert_eq!(places.len(), 1, "{name}: {places:?}");
    places[0].0.clone()
}

#[test]
fn every_line_from_1_to_49_has_a_test_with_its_number() {
    let sources = [
        include_str!("autoscaling.rs"),
        include_str!("claims.rs"),
        include_str!("deployments.rs"),
        include_str!("gateways.rs"),
        include_str!("surface.rs"),
    ];
    let names = sources.iter().flat_map(|source| source.lines()).filter_map(|line| {
        line.strip_prefix("async fn line_").or_else(|| line.strip_prefix("fn line_"))
    });
    let told = names.filter_map(|name| name.split('_').next()?.parse::<u32>().ok());
    let mut told: BTreeSet<u32> = told.collect();
    assert!(NOT_YET.iter().chain(&IN_THE_CORE).all(|line| told.insert(*line)), "{told:?}");
    assert_eq!(told, (1..=49).collect());
}
