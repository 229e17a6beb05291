//! What a dry run answers: the decision, where replicas would go, who would leave, what it costs.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_scheduler_core::WhatIf;
use wharfage_scheduler_core::words::command::Answer;

use super::rows::instant;

/// The answer to `?dryRun=true`; nothing was changed.
pub fn show(outcome: &WhatIf) -> Response {
    let leaving: Vec<Value> = outcome
        .leaving
        .iter()
        .map(|(replica, because)| {
            json!({"replica": replica, "because": because, "sentence": because.to_string()})
        })
        .collect();
    let reclaims: Vec<Value> = outcome
        .reclaims
        .iter()
        .map(|(node, until)| json!({"node": node, "until": instant(*until)}))
        .collect();
    let mut body = json!({
        "dryRun": true,
        "placements": outcome.placements,
        "leaving": leaving,
        "reclaims": reclaims,
        "costPerHour": outcome.cost_per_hour,
        "billing": "node-hours: a node serves one organization at a time and is billed whole \
                    while it is active",
    });
    if let Answer::Settings { status, message } = &outcome.answer {
        body["status"] = json!(status);
        body["message"] = json!(message);
    }
    Json(body).into_response()
}
