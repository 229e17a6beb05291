//! A gateway's body -> the checked words, and back, by the rules of CoreWeave's reference.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use wharfage_scheduler_core::words::gateway::{Auth, Spec};
use wharfage_shared::capacity::Zone;
use wharfage_shared::gateway::Routing;

use super::offer::{Offer, listed};
use super::resource::{self, Draft, has_control, is_label};
use crate::http::fields::{Fields, Unknown, Wrong};

/// Longest name of a gateway: free text for people.
const LONGEST_NAME: usize = 128;

/// Reads a body; `current` is the gateway as it is, when the body replaces it.
pub fn read(
    body: &Map<String, Value>,
    offer: &Offer,
    current: Option<&Spec>,
) -> Result<Draft<Spec>, Vec<Wrong>> {
    resource::read(body, Unknown::IgnoreEmpty, "gateway", |fields| spec(fields, offer, current))
}

fn spec(fields: &Fields<'_>, offer: &Offer, current: Option<&Spec>) -> Option<Spec> {
    let name = name(fields, current);
    let zones = zones(fields, offer, current);
    auth(fields);
    let routing = routing(fields);
    let additional_dns = additional_dns(fields);
    Some(Spec { name: name?, zones, auth: Auth::Tokens, routing: routing?, additional_dns })
}

fn name(fields: &Fields<'_>, current: Option<&Spec>) -> Option<String> {
    let accepted = "1 to 128 bytes without control characters";
    if let (Some(current), false) = (current, fields.has("name")) {
        return Some(current.name.clone());
    }
    let name = fields.required_text("name", accepted)?;
    if name.len() > LONGEST_NAME || has_control(name) || name.trim().is_empty() {
        fields.wrong("name", "it is no name", accepted);
        return None;
    }
    if let Some(current) = current.filter(|current| current.name != name) {
        let accepted = format!("`{}`, or no name", current.name);
        fields.wrong("name", "a gateway's name is fixed for its life", accepted);
    }
    Some(name.to_owned())
}

fn zones(fields: &Fields<'_>, offer: &Offer, current: Option<&Spec>) -> Vec<Zone> {
    let accepted = listed(&offer.zones);
    if !fields.has("zones") {
        fields.wrong("zones", "it is missing", accepted);
        return Vec::new();
    }
    let mut zones: Vec<Zone> = Vec::new();
    let Some(texts) = fields.texts("zones") else { return zones };
    if texts.is_empty() && fields.list("zones").is_some_and(<[Value]>::is_empty) {
        fields.wrong("zones", "it is empty", accepted.clone());
    }
    for (at, text) in texts.into_iter().enumerate() {
        let zone = Zone::new(text);
        let had = current.is_some_and(|current| current.zones.contains(&zone));
        if !had && !offer.zones.contains(&zone) {
            let problem = format!("the fleet has no zone `{text}`");
            fields.problems().note(&fields.entry("zones", at), problem, accepted.clone());
        }
        if !zones.contains(&zone) {
            zones.push(zone);
        }
    }
    zones
}

/// Exactly one kind of authentication, and it must be this product's own.
fn auth(fields: &Fields<'_>) {
    let accepted = "exactly one of `coreWeaveAuth: {}` and `weightsAndBiasesAuth: {...}`";
    let ours = fields.object("coreWeaveAuth");
    let theirs = fields.object("weightsAndBiasesAuth");
    match (ours.is_some(), theirs.is_some()) {
        (true, true) => fields.wrong("weightsAndBiasesAuth", "two kinds are given", accepted),
        (false, false) => {
            if !fields.has("coreWeaveAuth") && !fields.has("weightsAndBiasesAuth") {
                fields.wrong("coreWeaveAuth", "no kind of authentication is given", accepted);
            }
        }
        (false, true) => fields.wrong(
            "weightsAndBiasesAuth",
            "requests are checked against this installation's own tokens only",
            "`coreWeaveAuth: {}`",
        ),
        (true, false) => {}
    }
    if let Some(ours) = ours {
        ours.finish();
    }
    if let Some(theirs) = theirs {
        let key = theirs.text("apiKey").is_some_and(|key| !key.is_empty());
        let url = theirs.text("serverUrl").is_some_and(|url| !url.is_empty());
        if key && !url {
            theirs.wrong("serverUrl", "it is missing beside `apiKey`", "the server's address");
        }
        theirs.flag("enableUsageReports");
        theirs.flag("enableRateLimiting");
        theirs.finish();
    }
}

fn routing(fields: &Fields<'_>) -> Option<Routing> {
    let accepted = "exactly one of `bodyBasedRouting: {\"apiType\": \"API_TYPE_OPENAI\"}`, \
                    `headerBasedRouting: {\"headerName\": ...}`, `pathBasedRouting: {}`";
    let body = fields.object("bodyBasedRouting");
    let header = fields.object("headerBasedRouting");
    let path = fields.object("pathBasedRouting");
    let given = [body.is_some(), header.is_some(), path.is_some()];
    match given.iter().filter(|given| **given).count() {
        0 => {
            fields.wrong("bodyBasedRouting", "no kind of routing is given", accepted);
            return None;
        }
        1 => {}
        count => fields.wrong("bodyBasedRouting", format!("{count} kinds are given"), accepted),
    }
    let mut routing = None;
    if let Some(body) = body {
        body.word("apiType", &[("API_TYPE_OPENAI", 1, ())]);
        body.finish();
        routing = Some(Routing::Body);
    }
    if let Some(header) = header {
        let accepted = "1 to 100 letters, digits and `-`";
        let name = header.required_text("headerName", accepted);
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if let Some(name) = name.filter(|name| name.len() > 100 || !name.bytes().all(good)) {
            header.wrong("headerName", format!("`{name}` is no header's name"), accepted);
        }
        header.finish();
        routing = name.map(|name| Routing::Header { name: name.to_owned() });
    }
    if let Some(path) = path {
        path.finish();
        routing = Some(Routing::Path);
    }
    routing
}

fn additional_dns(fields: &Fields<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some(block) = fields.object("endpointConfiguration") else { return names };
    for (at, name) in block.texts("additionalDns").unwrap_or_default().into_iter().enumerate() {
        if is_dns_name(name) {
            names.insert(name.to_ascii_lowercase());
        } else {
            let field = block.entry("additionalDns", at);
            let accepted = "a DNS name such as models.example.org";
            block.problems().note(&field, "it is no DNS name", accepted);
        }
    }
    block.finish();
    names
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// The spec as the API shows it.
pub fn show(id: &str, organization: &str, spec: &Spec) -> Value {
    let mut shown = json!({
        "id": id,
        "name": spec.name,
        "organizationId": organization,
        "zones": spec.zones,
        "endpointConfiguration": {"additionalDns": spec.additional_dns},
    });
    match &spec.auth {
        Auth::Tokens => shown["coreWeaveAuth"] = json!({}),
    }
    match &spec.routing {
        Routing::Body => shown["bodyBasedRouting"] = json!({"apiType": "API_TYPE_OPENAI"}),
        Routing::Header { name } => shown["headerBasedRouting"] = json!({"headerName": name}),
        Routing::Path => shown["pathBasedRouting"] = json!({}),
    }
    shown
}
