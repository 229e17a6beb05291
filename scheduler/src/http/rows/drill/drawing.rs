//! The timeline of a drill on one node, drawn: a lane for the window, for the leaving, for each
//! hook and for the missing capacity, on one scale.

use maud::{Markup, html};
use serde_json::json;
use wharfage_scheduler_core::fleet::rows::drill::{Begun, Course};
use wharfage_shared::time::Timestamp;

/// The drawing's own units: the style scales it.
const WIDTH: u64 = 760;
/// What the names of the lanes have.
const NAMES: u64 = 210;
/// What is left free on the right.
const MARGIN: u64 = 10;
/// One lane.
const LANE: u64 = 22;
/// The lanes begin below the scale.
const TOP: u64 = 24;
/// Most hooks drawn: a node's replicas have a few each.
const MOST_HOOKS: usize = 40;

/// A bar of the drawing.
struct Lane {
    name: String,
    /// How it is coloured.
    kind: &'static str,
    from: Timestamp,
    /// Absent while it goes on.
    to: Option<Timestamp>,
}

/// The drawing; what still goes on is drawn up to `now`.
pub fn drawing(begun: &Begun, now: Timestamp) -> Markup {
    let lanes = lanes(begun);
    let over = match begun.course {
        Course::Ended { at, .. } => at,
        Course::Running | Course::Withdrawn { .. } => now,
    };
    let last = lanes.iter().filter_map(|lane| lane.to).max().unwrap_or(over);
    let end = last.max(over).max(begun.gone_at);
    let span = end.since(begun.at).0.max(1);
    let x = |at: Timestamp| {
        let passed = at.since(begun.at).0.min(span);
        NAMES + passed * (WIDTH - NAMES - MARGIN) / span
    };
    let height = TOP + LANE * (lanes.len() as u64) + 8;
    let box_of = format!("0 0 {WIDTH} {height}");
    html! {
        svg.timeline viewBox=(box_of) role="img" aria-label="the drill's timeline" {
            @for (text, at) in [("told", begun.at), ("deadline", begun.gone_at)] {
                line.mark x1=(x(at)) x2=(x(at)) y1="18" y2=(height) {}
                text.scale x=(x(at)) y="12" { (text) " " (seconds(at, begun.at)) }
            }
            @for (number, lane) in lanes.iter().enumerate() {
                @let y = TOP + LANE * (number as u64);
                @let (from, to) = (x(lane.from), x(lane.to.unwrap_or(over)));
                text x="0" y=(y + 15) { (lane.name) }
                rect class=(lane.kind) x=(from) y=(y + 4) width=(to.saturating_sub(from).max(2))
                    height="14" rx="3" {
                    title { (lane.name) ": " (seconds(lane.from, begun.at)) " to "
                        (lane.to.map_or_else(|| "now".to_owned(), |to| seconds(to, begun.at))) }
                }
            }
        }
    }
}

fn lanes(begun: &Begun) -> Vec<Lane> {
    let lane = |name: &str, kind, from, to| Lane { name: name.to_owned(), kind, from, to };
    let told = begun.told;
    let heard_at = told.map(|told| told.heard_at).or(begun.heard_at);
    let mut lanes = vec![lane("window", "window", begun.at, Some(begun.gone_at))];
    if let Some(heard_at) = heard_at {
        let empty_at = told.and_then(|told| told.empty_at);
        lanes.push(lane("replicas leave", "leaving", heard_at, empty_at));
    }
    for run in begun.hooks.iter().take(MOST_HOOKS) {
        let name = format!("{} {} `{}`", run.replica, run.kind, run.hook);
        let outcome = json!(run.outcome);
        let kind = match outcome.as_str() {
            Some("done") => "done",
            Some("running") => "running",
            _ => "missed",
        };
        lanes.push(lane(&name, kind, run.started_at, run.ended_at));
    }
    if !begun.stood.is_empty() {
        lanes.push(lane("until capacity is back", "short", begun.at, begun.back_at));
    }
    lanes
}

/// `+12.3 s`.
fn seconds(at: Timestamp, from: Timestamp) -> String {
    let passed = at.since(from).0;
    format!("+{}.{} s", passed / 1000, passed % 1000 / 100)
}
