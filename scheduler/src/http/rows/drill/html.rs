//! The report of a drill as one page that needs nothing else: it can be kept as a file.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::explain::drill::judge;
use wharfage_scheduler_core::fleet::rows::drill::{Begun, DrillRow, Run};
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Timestamp;

use super::drawing::drawing;
use super::{of_node, sentence};

const STYLE: &str = include_str!("report.css");

/// What the page may load: its own style, known by its hash.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// The whole page.
pub fn document(fleet: &Fleet, row: &DrillRow, now: Timestamp) -> String {
    let (verdict, _) = judge(row);
    let word = serde_json::to_value(verdict).unwrap_or_default();
    let word = word.as_str().unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Drill " (row.drill.name) ": " (word) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Drill " (row.drill.name) " " span class=(format!("verdict {word}")) { (word) } }
                p { (sentence(row, verdict)) }
                p.soft {
                    (row.drill.profile.as_str()) ", asked for at " (super::instant(row.created_at))
                    ", id " (row.drill.id)
                }
                @for (node, run) in &row.runs { (of_run(fleet, row, node, run, now)) }
            }
        }
    };
    page.into_string()
}

fn of_run(fleet: &Fleet, row: &DrillRow, node: &NodeId, run: &Run, now: Timestamp) -> Markup {
    html! {
        h2 { (node) }
        @match run {
            Run::Waiting => { p { "Its turn has not come." } }
            Run::Skipped(why) => { p { "Left out: " (why.because) } }
            Run::Begun(begun) => { (body(fleet, row, node, begun, now)) }
        }
    }
}

/// What is told of one node: the drawing, the demands, the figures, the hooks.
pub fn body(fleet: &Fleet, row: &DrillRow, node: &NodeId, begun: &Begun, now: Timestamp) -> Markup {
    let figures = of_node(fleet, node, begun, now);
    let (_, judged) = judge(row);
    let judged = judged.iter().filter(|one| one.node == *node);
    html! {
        (drawing(begun, now))
        ul.demands {
            @for one in judged {
                li data-met=(one.met) { @if one.met { "met: " } @else { "missed: " } (one.sentence) }
            }
        }
        table {
            @for (name, at) in FIGURES {
                tr { th { (name) } td { (shown(figures.pointer(at))) } }
            }
        }
        @if !begun.hooks.is_empty() {
            table {
                tr { th { "Hook" } th { "Replica" } th { "Started" } th { "Ended" } th { "Result" } }
                @for hook in figures["hooks"].as_array().into_iter().flatten() {
                    tr {
                        td { (shown(hook.get("kind"))) " " (shown(hook.get("hook"))) }
                        td { (shown(hook.get("replica"))) }
                        td { (shown(hook.get("started_at"))) }
                        td { (shown(hook.get("ended_at"))) }
                        td {
                            (shown(hook.get("outcome")))
                            @if let Some(detail) = hook["detail"].as_str() { ": " (detail) }
                        }
                    }
                }
            }
        }
    }
}

/// The figures of a node, by their names for people.
const FIGURES: [(&str, &str); 9] = [
    ("Window, seconds", "/window_seconds"),
    ("Notice to first action, seconds", "/first_action_seconds"),
    ("Until capacity was back, seconds", "/capacity_back_seconds"),
    ("Share of the window used, percent", "/window_used_percent"),
    ("Checkpoints completed", "/checkpoints"),
    ("Requests completed there", "/requests/completed"),
    ("Requests moved", "/requests/moved"),
    ("Requests cut", "/requests/cut"),
    ("Extra instance-seconds", "/billing/extra_instance_seconds"),
];

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map)) if map.contains_key("of") => {
            format!("{} of {}", shown(map.get("completed")), shown(map.get("of")))
        }
        Some(other) => other.to_string(),
    }
}
