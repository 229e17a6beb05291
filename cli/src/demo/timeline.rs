//! An evacuation drawn as a line of time.

use serde_json::Value;

/// Columns of the bar.
const WIDTH: usize = 50;

/// Each moment with a mark where in the window it lies, and the share of the window used.
pub fn draw(evacuation: &Value) -> String {
    let at = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (heard, gone) = (at(evacuation, "heard_at"), at(evacuation, "gone_at"));
    let window = gone.saturating_sub(heard).max(1);
    let none = Vec::new();
    let moments = evacuation.get("timeline").and_then(Value::as_array).unwrap_or(&none);
    let mut lines =
        vec![format!("T0 {:─^WIDTH$} deadline", format!(" {} s ", (window + 500) / 1000))];
    for moment in moments {
        let since = at(moment, "at").saturating_sub(heard);
        let column = (since * WIDTH as u64 / window).min(WIDTH as u64 - 1) as usize;
        let whose = moment.get("replica").and_then(Value::as_str).unwrap_or_default();
        let what = moment.get("what").and_then(Value::as_str).unwrap_or_default();
        lines.push(format!(
            "   {}●{} {:5.1} s  {whose}{}{what}",
            " ".repeat(column),
            " ".repeat(WIDTH - 1 - column),
            since as f64 / 1000.0,
            if whose.is_empty() { "" } else { ": " },
        ));
    }
    if let Some(share) = evacuation.get("share_permille").and_then(Value::as_u64) {
        lines.push(format!("share of the window used: {}.{} %", share / 10, share % 10));
    }
    lines.join("\n")
}
