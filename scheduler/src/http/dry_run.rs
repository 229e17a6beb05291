//! What a dry run answers: the decision, where replicas would go, who would leave, what it costs.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wharfage_billing::money::MicroRate;
use wharfage_scheduler_core::words::command::Answer;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_scheduler_core::{Fleet, Parting, WhatIf};
use wharfage_shared::order::StopCause;

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
    let micros = outcome.cost.as_ref().map(|cost| cost.micros);
    let rate = micros.and_then(MicroRate::from_micros).map(|rate| rate.to_string());
    let lines = outcome.cost.as_ref().map(|cost| cost.lines.as_slice()).unwrap_or_default();
    // What belongs to several organizations is the provider's to add up.
    let payer = lines.first().map_or(&caller.organization, |line| &line.organization);
    let mut body = json!({
        "dryRun": true,
        "placements": outcome.placements,
        "preempted": preempted,
        "reclaims": reclaims,
        "leaving": leaving,
        "othersLeaving": outcome.others_leaving,
        "costPerHour": rate,
        "costPerHourMicros": micros,
        "currency": fleet.organization(payer).map(|row| &row.currency),
        "costs": lines,
        "tenancy": "dedicated",
        "billing": "node-hours: a node serves one organization at a time and is billed whole \
                    while it is active",
    });
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
