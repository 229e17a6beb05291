//! The report of a drill as JUnit's XML: a suite for each node, a case for each demand.

use maud::{Markup, PreEscaped, html};
use wharfage_scheduler_core::explain::drill::{Judged, Verdict, judge};
use wharfage_scheduler_core::fleet::rows::drill::{DrillRow, Run};
use wharfage_shared::ids::NodeId;

use super::sentence;

/// The whole document.
pub fn document(row: &DrillRow) -> String {
    let (verdict, judged) = judge(row);
    let missed = judged.iter().filter(|one| !one.met).count();
    let whole = usize::from(verdict != Verdict::Passed);
    let name = format!("drill {}", plain(&row.drill.name));
    let said = plain(&sentence(row, verdict));
    let document = html! {
        (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
        testsuites name=(name) tests=(judged.len() + 1) failures=(missed + whole) {
            testsuite name="drill" tests="1" failures=(whole) {
                testcase classname=(class(row, None)) name="verdict" {
                    @if verdict != Verdict::Passed { failure message=(said) {} }
                }
            }
            @for (node, run) in &row.runs { (suite(row, node, run, &judged)) }
        }
    };
    document.into_string()
}

fn suite(row: &DrillRow, node: &NodeId, run: &Run, judged: &[Judged]) -> Markup {
    let cases: Vec<&Judged> = judged.iter().filter(|one| one.node == *node).collect();
    let missed = cases.iter().filter(|one| !one.met).count();
    let at = run.begun().map(|begun| super::instant(begun.at));
    html! {
        testsuite name=(node) tests=(cases.len()) failures=(missed) timestamp=[at] {
            @for one in cases {
                testcase classname=(class(row, Some(node))) name=(one.target) {
                    @if one.met { system-out { (plain(&one.sentence)) } }
                    @else { failure message=(plain(&one.sentence)) {} }
                }
            }
        }
    }
}

fn class(row: &DrillRow, node: Option<&NodeId>) -> String {
    let node = node.map(|node| format!(".{node}")).unwrap_or_default();
    format!("wharfage.drill.{}{node}", plain(&row.drill.name))
}

/// Without the characters that no XML may hold.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c > '\u{fffd}' && c < '\u{10000}' { ' ' } else { c })
        .collect()
}
