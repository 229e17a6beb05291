//! The health part of the page: brakes, gates that do not pass, open incidents, what nodes ask for.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::fragment::word;
use crate::http::rows::health::{BrakeRow, GateRow};
use crate::http::rows::node::Row;

/// Gates of one node that are listed; the row of the API has all.
const MOST_GATES: usize = 6;

/// Brakes that are on: nothing is emptied by itself.
pub(super) fn brakes(brakes: &[BrakeRow]) -> Markup {
    html! {
        @if !brakes.is_empty() {
            section.notices {
                h2 { "Brakes" }
                @for brake in brakes {
                    div.notice role="status" {
                        b { (brake.rule) }
                        span {
                            "hit " (brake.nodes) " of " (brake.of) " nodes since " (brake.since)
                            ": nothing is drained or reset by itself"
                        }
                    }
                }
            }
        }
    }
}

/// What a node's card says of its health.
pub(super) fn of_node(node: &Row) -> Markup {
    let gates = &node.health_report.gates;
    let bad = gates.iter().filter(|gate| matches!(gate.state, "fail" | "unknown"));
    // A gate is off for the whole node, also where it is about each GPU: it is said once.
    let off: BTreeMap<&str, &GateRow> = gates
        .iter()
        .filter(|gate| gate.state == "off")
        .map(|gate| (gate.id.as_str(), gate))
        .collect();
    let open = node.health_report.incidents.iter().filter(|incident| incident.closed.is_none());
    html! {
        @for gate in bad.take(MOST_GATES) {
            p.because title=(gate.since) {
                (gate.id) " " (gate.about) " " (gate.state)
                @if let Some(gpu) = &gate.gpu { " on " (gpu) }
                ": " (gate.evidence)
            }
        }
        @for gate in off.values() {
            p.said { (gate.id) " " (gate.about) " is off: " (gate.evidence) }
        }
        @for incident in open {
            p.because {
                @if let Some(gpu) = &incident.gpu { (gpu) ": " }
                (incident.because)
            }
        }
        @for ask in &node.health_report.asks {
            p.said {
                "asks for " (word(&ask.what).replace('_', " "))
                @if let Some(gpu) = &ask.gpu { " of " (gpu) }
                @if ask.injected { " (injected)" }
                @if ask.braked { ", held by a brake" }
                @if let Some(because) = &ask.waits { ", waits: " (because) }
            }
        }
    }
}
