//! The report of a rehearsal as one page with drawings, which needs nothing else and can be kept.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::practise::Practised;
use super::report::Report;
use super::tally::Tally;
use super::watch::Seen;
use crate::output::cell;

const STYLE: &str = include_str!("page.css");

/// The drawings' own units: the style scales them.
const WIDTH: f64 = 760.0;
/// What the scale on the left has.
const LEFT: f64 = 60.0;
/// The height of a drawing.
const HEIGHT: f64 = 150.0;
/// What the scale below has.
const BELOW: f64 = 20.0;
/// What is free above.
const ABOVE: f64 = 14.0;

/// What the drawings are made from.
pub struct Drawn<'a> {
    /// Requests by slices of time.
    pub tally: &'a Tally,
    /// Replicas over time.
    pub seen: &'a Seen,
    /// Drills.
    pub drills: &'a [Practised],
    /// How long it was.
    pub length: Duration,
}

/// The whole page.
pub fn page(report: &Report, drawn: &Drawn<'_>) -> String {
    let of = &report.0;
    let at = |pointer: &str| cell(of.pointer(pointer));
    let verdict = at("/verdict");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Rehearsal of " (at("/deployment/name")) ": " (verdict) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 {
                    "Rehearsal of " (at("/deployment/name")) " "
                    span class=(format!("verdict {verdict}")) { (verdict) }
                }
                p { (at("/sentence")) }
                p.soft {
                    (at("/load/file")) " at " (at("/load/speed")) " times its pace, "
                    (at("/seconds")) " s, begun at " (at("/began_at"))
                }
                h2 { "Requests" }
                (requests(drawn))
                (figures(of, "/requests", &["sent", "completed", "failed", "cut", "unfinished", "late"]))
                h2 { "Latency of whole answers" }
                (latency(drawn))
                table {
                    tr { th { "Milliseconds" } th { "p50" } th { "p90" } th { "p99" } th { "Most" } }
                    @for (name, key) in [("First byte", "first_byte"), ("Whole answer", "total")] {
                        tr {
                            th { (name) }
                            @for of in ["p50", "p90", "p99", "max"] {
                                td { (at(&format!("/latency_ms/{key}/{of}"))) }
                            }
                        }
                    }
                }
                h2 { "Replicas" }
                (replicas(drawn))
                h2 { "Interruptions" }
                (rows(of.get("interruptions"), &INTERRUPTIONS))
                h2 { "Cost" }
                (rows(of.get("cost"), &COST))
            }
        }
    };
    page.into_string()
}

const INTERRUPTIONS: [(&str, &str); 5] = [
    ("After, s", "at_seconds"),
    ("Drill", "profile"),
    ("Window, s", "window_seconds"),
    ("Verdict", "verdict"),
    ("", "sentence"),
];

const COST: [(&str, &str); 6] = [
    ("Plan", "plan"),
    ("Amount", "amount"),
    ("An hour", "per_hour"),
    ("1000 requests", "per_1000_requests"),
    ("Currency", "currency"),
    ("", "because"),
];

fn rows(rows: Option<&Value>, columns: &[(&str, &str)]) -> Markup {
    let rows = rows.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    html! {
        @if rows.is_empty() { p { "None." } } @else {
            table {
                tr { @for (title, _) in columns { th { (title) } } }
                @for row in rows {
                    tr { @for (_, key) in columns { td { (cell(row.get(key))) } } }
                }
            }
        }
    }
}

fn figures(of: &Value, at: &str, keys: &[&str]) -> Markup {
    html! {
        table {
            tr { @for key in keys { th { (key) } } }
            tr { @for key in keys { td { (cell(of.pointer(&format!("{at}/{key}")))) } } }
        }
    }
}

/// One drawing: its scale, the drills behind it, and what is drawn into it.
struct Sheet<'a> {
    drawn: &'a Drawn<'a>,
    most: f64,
    unit: &'a str,
}

impl Sheet<'_> {
    fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.drawn.length.as_secs_f64().max(0.001);
        LEFT + share.min(1.0) * (WIDTH - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        ABOVE + (1.0 - value / self.most.max(0.001)) * (HEIGHT - ABOVE - BELOW)
    }

    fn draw(&self, label: &str, inner: &Markup) -> Markup {
        let bottom = HEIGHT - BELOW;
        let length = self.drawn.length;
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                @for drill in self.drawn.drills {
                    @let window = window_of(drill);
                    @let (from, to) = (self.x(drill.at), self.x(drill.at + window));
                    rect.drill x=(round(from)) y=(ABOVE) height=(bottom - ABOVE)
                        width=(round((to - from).max(2.0))) {
                        title { "drill " (drill.planned.profile) ": " (drill.verdict()) }
                    }
                }
                line.axis x1=(LEFT) x2=(WIDTH) y1=(bottom) y2=(bottom) {}
                text x="0" y=(ABOVE + 4.0) { (round(self.most)) " " (self.unit) }
                text x="0" y=(bottom) { "0" }
                @for quarter in 0..=3u32 {
                    @let at = length * quarter / 4;
                    text x=(round(self.x(at))) y=(HEIGHT - 4.0) { (at.as_secs()) " s" }
                }
                (inner)
            }
        }
    }
}

fn window_of(drill: &Practised) -> Duration {
    let report = drill.report.as_ref().ok();
    let told = report.and_then(|report| report["drill"]["window_seconds"].as_u64());
    Duration::from_secs(told.unwrap_or_default())
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Bars: requests of each slice, those without a whole answer on top.
fn requests(drawn: &Drawn<'_>) -> Markup {
    let tally = drawn.tally;
    let most = tally.slices.iter().map(|slice| slice.sent).max().unwrap_or_default();
    let sheet = Sheet { drawn, most: most as f64, unit: "sent" };
    let width = (sheet.x(tally.slice) - LEFT - 0.5).max(1.0);
    let bars = html! {
        @for (number, slice) in (0u32..).zip(&tally.slices) {
            @if slice.sent > 0 {
                @let (x, lost) = (sheet.x(tally.slice * number), slice.failed + slice.cut);
                @let (top, bad) = (sheet.y(slice.sent as f64), sheet.y(lost as f64));
                @let bottom = HEIGHT - BELOW;
                rect.sent x=(round(x)) y=(round(top)) width=(round(width))
                    height=(round(bottom - top)) {
                    title { (slice.sent) " sent, " (slice.failed) " failed, " (slice.cut) " cut" }
                }
                @if lost > 0 {
                    rect.lost x=(round(x)) y=(round(bad)) width=(round(width))
                        height=(round(bottom - bad)) {}
                }
            }
        }
    };
    sheet.draw("requests over time", &bars)
}

/// Two lines: the median and the slowest hundredth of each slice.
fn latency(drawn: &Drawn<'_>) -> Markup {
    let tally = drawn.tally;
    let of = |permille: u64| -> Vec<(Duration, f64)> {
        let slices = (0u32..).zip(&tally.slices);
        let found = slices.filter_map(|(number, slice)| {
            let value = slice.total.permille(permille)?.as_secs_f64() * 1_000.0;
            Some((tally.slice * number, value))
        });
        found.collect()
    };
    let (half, slow) = (of(500), of(990));
    let most = slow.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let sheet = Sheet { drawn, most, unit: "ms" };
    let line = |values: &[(Duration, f64)]| {
        let points = values
            .iter()
            .map(|(at, value)| format!("{},{}", round(sheet.x(*at)), round(sheet.y(*value))));
        points.collect::<Vec<_>>().join(" ")
    };
    let lines = html! {
        polyline.slow points=(line(&slow)) { title { "p99" } }
        polyline.half points=(line(&half)) { title { "p50" } }
    };
    sheet.draw("latency over time: p50 and p99", &lines)
}

/// Steps: replicas on a node, and those of them that are ready.
fn replicas(drawn: &Drawn<'_>) -> Markup {
    let changes = &drawn.seen.changes;
    let most = changes.iter().map(|(_, replicas)| replicas.placed.max(replicas.desired)).max();
    let sheet = Sheet { drawn, most: most.unwrap_or_default() as f64, unit: "replicas" };
    let steps = |of: fn(&super::watch::Replicas) -> u64| {
        let mut points = Vec::new();
        for (number, (at, replicas)) in changes.iter().enumerate() {
            let until = changes.get(number + 1).map_or(drawn.length, |(next, _)| *next);
            let y = round(sheet.y(of(replicas) as f64));
            points.push(format!("{},{y}", round(sheet.x(*at))));
            points.push(format!("{},{y}", round(sheet.x(until))));
        }
        points.join(" ")
    };
    let lines = html! {
        polyline.placed points=(steps(|replicas| replicas.placed)) { title { "on a node" } }
        polyline.half points=(steps(|replicas| replicas.ready)) { title { "ready" } }
    };
    sheet.draw("replicas over time: on a node and ready", &lines)
}

#[cfg(test)]
mod tests {
    use super::{Drawn, Duration, Practised, Report, Seen, Tally, page};
    use crate::args::rehearse::Planned;
    use crate::rehearse::tally::Outcome;
    use serde_json::json;

    #[test]
    fn the_page_draws_what_was_measured_and_escapes_what_it_was_told() {
        let second = Duration::from_secs(1);
        let mut tally = Tally::new(second * 60);
        tally.send(second * 3, Duration::ZERO);
        tally.end(second * 3, &Outcome::Completed { first_byte: second, total: second * 2 });
        tally.send(second * 4, Duration::ZERO);
        tally.end(second * 4, &Outcome::Cut);
        let planned =
            Planned { profile: "gcp-30".to_owned(), window_seconds: None, at: Some(second) };
        let report = json!({"verdict": "failed", "sentence": "", "drill": {"window_seconds": 30}});
        let drills = [Practised { planned, at: second * 10, report: Ok(report) }];
        let drawn =
            Drawn { tally: &tally, seen: &Seen::default(), drills: &drills, length: second * 60 };
        let report = Report(json!({"deployment": {"name": "<b>chat</b>"}, "verdict": "failed"}));
        let text = page(&report, &drawn);
        assert!(text.contains("&lt;b&gt;chat") && !text.contains("<b>chat"), "{text}");
        assert!(!text.contains("<script") && !text.contains("http"), "it loads nothing");
        for drawn in ["1 sent, 0 failed, 1 cut", "class=\"lost\"", "class=\"drill\"", "polyline"] {
            assert!(text.contains(drawn), "{drawn} is drawn: {text}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        let nothing = Tally::new(Duration::ZERO);
        let drawn =
            Drawn { tally: &nothing, seen: &Seen::default(), drills: &[], length: Duration::ZERO };
        let text = page(&report, &drawn);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
