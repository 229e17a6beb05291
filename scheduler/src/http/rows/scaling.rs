//! Why a deployment has this many replicas: its load, what the load wants, and what became of that.

use serde_json::{Value, json};
use wharfage_scheduler_core::ScalingNow;
use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::policies::autoscale::work::Terms;
use wharfage_scheduler_core::words::because::scaling::{Mean, Wish};

use super::instant;

/// What is known at this instant, and the decision in force. A deployment that rests, without a
/// request and with no more than its min, wishes for nothing.
pub fn now(row: &DeploymentRow, now: &ScalingNow) -> Value {
    let decision = now.decision.as_ref();
    json!({
        "in_flight": now.requests.in_flight,
        "queued": now.requests.queued,
        "parked": now.requests.parked,
        "mean": mean(now.mean),
        "window_seconds": row.spec.scaling.window_seconds,
        "age_seconds": now.age.map(|age| age.as_seconds()),
        "is_fresh": now.is_fresh,
        "work": now.terms.as_ref().map(work),
        "wish": wish(decision.and_then(|decision| decision.wish)),
        "min": row.spec.scaling.bounds.min(),
        "max": row.spec.scaling.bounds.max(),
        "desired": decision.map_or(row.desired, |decision| decision.desired),
        "because": decision.map_or(row.because, |decision| decision.because).word(),
        "delay_left_seconds": decision.and_then(|decision| decision.left).map(|it| it.as_seconds()),
    })
}

/// The decision that changed the count last, with what it was made on.
pub fn last_change(row: &DeploymentRow) -> Value {
    let Some(at) = row.scaled_at else { return Value::Null };
    let on = row.scaled_on;
    json!({
        "at": instant(at),
        "desired": row.desired,
        "because": row.because.word(),
        "requests": on.map(|on| on.requests),
        "mean": on.map(|on| mean(on.mean)),
        "wish": on.map(|on| wish(on.wish)),
    })
}

/// The terms of work mode; the largest of base, forecast and backlog is the wish.
fn work(terms: &Terms) -> Value {
    json!({
        "offered_slots": terms.offered_millislots as f64 / 1000.0,
        "service_seconds": terms.service.as_seconds(),
        "base": terms.base,
        "forecast": terms.forecast,
        "backlog": terms.backlog,
    })
}

/// In requests, for people: the decision itself is made on the exact mean.
fn mean(mean: Option<Mean>) -> Value {
    mean.map_or(Value::Null, |mean| json!(mean.thousandths() as f64 / 1000.0))
}

fn wish(wish: Option<Wish>) -> Value {
    wish.map_or(Value::Null, |wish| json!({"replicas": wish.replicas, "target": wish.target}))
}
