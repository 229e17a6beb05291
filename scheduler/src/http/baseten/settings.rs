//! Baseten's autoscaling settings: its seven documented names and `max_scale_down_rate`, with
//! its ranges. Null means "not passed".

use serde_json::{Map, Value, json};
use wharfage_scheduler_core::words::deployment::{Bounds, MOST_REPLICAS, Scaling, ScalingPatch};

use crate::http::fields::{Fields, Problems, Unknown, Wrong};

/// Most in-flight requests per replica that can be aimed at.
pub const MOST_CONCURRENCY: u32 = *Scaling::CONCURRENCY.end();

/// Reads the body of the PATCH.
pub fn read(body: &Map<String, Value>) -> Result<ScalingPatch, Vec<Wrong>> {
    let problems = Problems::default();
    let fields = Fields::new(body, Unknown::Refuse, &problems);
    let patch = patch(&fields);
    fields.finish();
    problems.take()?;
    Ok(patch)
}

/// Reads the names out of a body that may hold more.
pub fn patch(fields: &Fields<'_>) -> ScalingPatch {
    let percent = |key, range| {
        let percent = fields.whole(key, range)?;
        u8::try_from(percent).ok()
    };
    let patch = ScalingPatch {
        min: fields.whole("min_replica", 0..=MOST_REPLICAS),
        max: fields.whole("max_replica", 1..=MOST_REPLICAS),
        window_seconds: fields.whole("autoscaling_window", Scaling::WINDOW_SECONDS),
        scale_down_delay_seconds: fields
            .whole("scale_down_delay", Scaling::SCALE_DOWN_DELAY_SECONDS),
        concurrency: fields.whole("concurrency_target", Scaling::CONCURRENCY),
        utilization_percent: percent("target_utilization_percentage", Scaling::UTILIZATION_PERCENT),
        in_flight_tokens: fields.whole("target_in_flight_tokens", Scaling::IN_FLIGHT_TOKENS),
        max_scale_down_percent: percent("max_scale_down_rate", Scaling::MAX_SCALE_DOWN_PERCENT),
    };
    if let (Some(min), Some(max)) = (patch.min, patch.max)
        && max < min
    {
        let accepted = format!("at least `min_replica` ({min})");
        fields.wrong("max_replica", format!("it is {max}, below the minimum"), accepted);
    }
    patch
}

/// The settings that a block of a whole spec gives: what it does not name is Baseten's default
/// when it is new, and stays as it is otherwise.
pub fn scaling(block: &Fields<'_>, base: &Scaling) -> Option<Scaling> {
    let patch = patch(block);
    let min = patch.min.unwrap_or(base.bounds.min());
    let max = patch.max.unwrap_or(base.bounds.max());
    let Some(bounds) = Bounds::new(min, max) else {
        if patch.min.is_none() || patch.max.is_none() {
            let problem = format!("min_replica {min} is above max_replica {max}");
            block.wrong("max_replica", problem, format!("at least {}", min.max(1)));
        }
        return None;
    };
    Some(Scaling {
        bounds,
        window_seconds: patch.window_seconds.unwrap_or(base.window_seconds),
        scale_down_delay_seconds: patch
            .scale_down_delay_seconds
            .unwrap_or(base.scale_down_delay_seconds),
        concurrency: patch.concurrency.unwrap_or(base.concurrency),
        concurrency_is_default: false,
        utilization_percent: patch.utilization_percent.unwrap_or(base.utilization_percent),
        in_flight_tokens: patch.in_flight_tokens.or(base.in_flight_tokens),
        max_scale_down_percent: patch.max_scale_down_percent.unwrap_or(base.max_scale_down_percent),
        dialect: base.dialect,
    })
}

/// The settings in Baseten's names.
pub fn show(scaling: &Scaling) -> Value {
    json!({
        "min_replica": scaling.bounds.min(),
        "max_replica": scaling.bounds.max(),
        "autoscaling_window": scaling.window_seconds,
        "scale_down_delay": scaling.scale_down_delay_seconds,
        "concurrency_target": scaling.concurrency,
        "target_utilization_percentage": scaling.utilization_percent,
        "target_in_flight_tokens": scaling.in_flight_tokens,
        "max_scale_down_rate": scaling.max_scale_down_percent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(body: Value) -> String {
        let map = body.as_object().expect("the cases are objects");
        match read(map) {
            Ok(patch) => format!("{patch:?}"),
            Err(wrongs) => wrongs
                .iter()
                .map(|wrong| format!("{}: {}", wrong.field, wrong.sentence()))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    #[test]
    fn null_is_not_passed_and_every_range_is_held() {
        assert_eq!(say(json!({"min_replica": null})), format!("{:?}", ScalingPatch::default()));
        let bad = json!({
            "min_replica": -1, "max_replica": 0, "autoscaling_window": 9,
            "scale_down_delay": 3601, "concurrency_target": 0,
            "target_utilization_percentage": 101, "target_in_flight_tokens": 0,
            "max_scale_down_rate": 51, "min_replicas": 1,
        });
        assert_eq!(say(bad).lines().count(), 9);
        let crossed = say(json!({"min_replica": 3, "max_replica": 2}));
        assert_eq!(
            crossed,
            "max_replica: it is 2, below the minimum; accepted: at least `min_replica` (3)"
        );
    }
}
