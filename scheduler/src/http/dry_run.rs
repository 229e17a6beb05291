//! What a dry run answers: the decision, where replicas would go, who would leave, what it costs.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_scheduler_core::words::command::Answer;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_scheduler_core::{Fleet, Parting, WhatIf};
use wharfage_shared::order::StopCause;

use super::price;
use super::rows::instant;

/// The answer to `?dryRun=true`; nothing was changed.
pub fn show(fleet: &Fleet, caller: &Caller, outcome: &WhatIf) -> Response {
    let leaving: Vec<Value> = outcome.leaving.iter().map(parting).collect();
    let preempted = outcome.leaving.iter().filter(|it| it.because == StopCause::Preempted);
    let preempted: Vec<Value> = preempted.map(parting).collect();
    let reclaims: Vec<Value> = outcome
        .reclaims
        .iter()
        .map(|it| {
            let (drain_at, gone_at) = (instant(it.drain_at), instant(it.gone_at));
            json!({"node": it.node, "drainAt": drain_at, "until": gone_at})
        })
        .collect();
    let mut body = json!({
        "dryRun": true,
        "placements": outcome.placements,
        "preempted": preempted,
        "reclaims": reclaims,
        "leaving": leaving,
        "othersLeaving": outcome.others_leaving,
    });
    for (name, value) in price::fields(fleet, &caller.organization, outcome.cost.as_ref()) {
        body[name] = value;
    }
    if !outcome.drilled.is_empty() {
        body["drilled"] = json!(outcome.drilled);
    }
    if let Answer::Settings { status, message } = &outcome.answer {
        body["status"] = json!(status);
        body["message"] = json!(message);
    }
    Json(body).into_response()
}

fn parting(parting: &Parting) -> Value {
    json!({
        "replica": parting.replica,
        "deployment": parting.deployment,
        "node": parting.node,
        "because": parting.because,
        "sentence": parting.sentence,
        "until": instant(parting.until),
    })
}
