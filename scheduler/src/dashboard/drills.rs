//! The page of drills: what is scheduled, and each drill with its timeline, drawn anew as it grows.

use maud::{Markup, html};
use wharfage_scheduler_core::explain::drill::judge;
use wharfage_scheduler_core::fleet::rows::drill::{DrillRow, Run, ScheduleRow};
use wharfage_scheduler_core::words::principal::Caller;

use super::fragment::{badge, word};
use crate::drills::next;
use crate::http::Shared;
use crate::http::rows::drill::{html as report, sentence};
use crate::http::rows::instant;

/// Most drills on the page: the API has all.
const MOST_DRILLS: usize = 20;

/// Most nodes of a drill that are drawn.
const MOST_NODES: usize = 12;

/// Everything that changes.
pub(super) fn render(shared: &Shared, caller: &Caller) -> Markup {
    let (view, now) = (shared.handle.view(), shared.handle.now());
    let fleet = view.fleet();
    if !caller.is_provider() {
        return html! { p.note { "Drills are run, and seen, by who owns the nodes." } };
    }
    let mut drills: Vec<&DrillRow> = fleet.drills().collect();
    drills.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.drill.id.clone())));
    let schedules: Vec<&ScheduleRow> =
        fleet.schedules().filter(|row| row.ended_at.is_none()).collect();
    html! {
        @if !schedules.is_empty() {
            section {
                h2 { "Scheduled" }
                @for row in &schedules {
                    p {
                        b { (row.drill.name) } " " (row.drill.profile.as_str()) ": "
                        (row.schedule.cron) ", " (row.schedule.time_zone) ", next at "
                        (next(row, now).map_or_else(|| "no time".to_owned(), instant))
                    }
                }
            }
        }
        h2 { "Drills" }
        @if drills.is_empty() {
            p.note { "There was none. `wharfage drill run` begins one." }
        }
        @for row in drills.iter().take(MOST_DRILLS) {
            @let verdict = judge(row).0;
            section.drill {
                h3 { (row.drill.name) " " (badge("verdict", &word(&verdict))) }
                p.where { (row.drill.profile.as_str()) " · " (instant(row.created_at)) " · " (row.drill.id) }
                p { (sentence(row, verdict)) }
                @if let Some(worse) = &row.worse {
                    p.because { "worse than " (worse.than) ": " (worse.because) }
                }
                @for (node, run) in row.runs.iter().take(MOST_NODES) {
                    @match run {
                        Run::Waiting => { p.said { (node) " waits for its turn" } }
                        Run::Skipped(why) => { p.said { (node) " is left out: " (why.because) } }
                        Run::Begun(begun) => {
                            h4 { (node) }
                            (report::body(fleet, row, node, begun, now))
                        }
                    }
                }
            }
        }
        @if drills.len() > MOST_DRILLS {
            p.note { (drills.len() - MOST_DRILLS) " more drills: see /api/v1/drills" }
        }
        footer.state { "State of " time datetime=(instant(now)) { (instant(now)) } }
    }
}
