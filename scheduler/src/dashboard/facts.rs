//! The last facts, one line each.

use maud::{Markup, html};
use serde_json::Value;
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::DeploymentId;

use crate::driver::Record;
use crate::http::Shared;
use crate::http::api::facts;

/// Records that are looked at.
const LOOKED_AT: u64 = 60;

/// Lines that are shown.
const SHOWN: usize = 24;

/// Facts that happen all the time and tell a person nothing.
const DULL: [&str; 4] = ["meter", "request", "term", "epoch_issued"];

/// Names of things in facts, in the order in which a line shows them.
const NAMES: [&str; 9] = [
    "deployment",
    "replica",
    "node",
    "gateway",
    "organization",
    "token",
    "join",
    "contract",
    "name",
];

/// The last facts that the caller may see, newest first.
pub async fn last(shared: &Shared, caller: &Caller) -> Markup {
    let view = shared.handle.view();
    let after = view.position().saturating_sub(LOOKED_AT);
    let records = match shared.handle.log().after(after, LOOKED_AT).await {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "the page shows no facts: the log cannot be read");
            Vec::new()
        }
    };
    let mut lines = Vec::new();
    for stored in records.iter().rev() {
        let Ok(record) = Record::decode(&stored.payload) else { continue };
        let Some(shown) = facts::record(view.fleet(), caller, stored.position, stored.at, &record)
        else {
            continue;
        };
        let at = shown["at"].as_str().unwrap_or_default().to_owned();
        for fact in shown["facts"].as_array().into_iter().flatten().rev() {
            let Some((word, text)) = line(view.fleet(), fact) else { continue };
            // A phase that goes on is reported several times: once is enough to read.
            let said = |(_, w, t): &(String, String, String)| *w == word && *t == text;
            if !lines.last().is_some_and(said) {
                lines.push((at.clone(), word, text));
            }
        }
    }
    lines.truncate(SHOWN);
    html! {
        section.facts {
            h2 { "Last facts" }
            @if lines.is_empty() { p.note { "Nothing has happened yet." } }
            ol {
                @for (at, word, text) in &lines {
                    li {
                        time datetime=(at) { (clock(at)) }
                        span.word { (word) }
                        span { (text) }
                    }
                }
            }
        }
    }
}

/// `14:03:59` of an instant.
fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

/// The fact's word and what it is about.
fn line(fleet: &Fleet, fact: &Value) -> Option<(String, String)> {
    let (entity, inner) = fact.as_object()?.iter().next()?;
    let (kind, body) = inner.as_object()?.iter().next()?;
    if DULL.contains(&entity.as_str()) || DULL.contains(&kind.as_str()) {
        return None;
    }
    let mut about: Vec<String> = Vec::new();
    for name in NAMES {
        let Some(text) = body.get(name).and_then(Value::as_str) else { continue };
        let row = (name == "deployment").then(|| fleet.deployment(&DeploymentId::from(text)));
        about.push(row.flatten().map_or(text, |row| &row.spec.name).to_owned());
    }
    if let Some(node) = body.pointer("/seat/node").and_then(Value::as_str) {
        about.push(format!("on {node}"));
    }
    if let Some(phase) = body.pointer("/seen/phase").and_then(Value::as_str) {
        about.push(phase.to_owned());
    }
    for field in ["reach", "desired"] {
        match body.get(field) {
            Some(Value::String(text)) => about.push(text.clone()),
            Some(Value::Number(number)) => about.push(format!("{field} {number}")),
            _other => {}
        }
    }
    for path in ["/health/health", "/intent/intent", "/held_for/organization", "/because/sentence"]
    {
        if let Some(text) = body.pointer(path).and_then(Value::as_str) {
            about.push(text.to_owned());
        }
    }
    let because = body.get("because").and_then(Value::as_str);
    about.extend(because.map(|because| because.replace('_', " ")));
    Some((format!("{entity} {}", kind.replace('_', " ")), about.join(" · ")))
}
