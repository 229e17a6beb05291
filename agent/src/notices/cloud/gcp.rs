//! Compute Engine's metadata server: two values that are waited for, and planned maintenance.
//!
//! A preemption is final, and its window is not in the metadata. What does not show the server's own
//! header is not the server. The value of maintenance must have been asked for once before it
//! warns, so it is asked from the start.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use wharfage_shared::notice::{NoticeKind, NoticeSource};
use wharfage_shared::time::Millis;

use super::link_local;
use super::source::{Event, Gone, Heard, Pace, Question, Request, Source};
use super::time::rfc3339;
use crate::notices::settings::Notices;

const PREEMPTED: &str = "preempted";
const MAINTENANCE: &str = "maintenance-event";
const UPCOMING: &str = "upcoming-maintenance";

const PLANS_EVERY: Duration = Duration::from_secs(60);

/// Planned maintenance is announced weeks before, not a year.
const PLAN_FURTHEST: Millis = Millis::from_seconds(180 * 86_400);

/// A live migration comes within a minute.
const MIGRATION_WINDOW: Millis = Millis::from_seconds(60);

/// The metadata server of Compute Engine.
pub struct Gcp;

impl Source for Gcp {
    fn name(&self) -> NoticeSource {
        NoticeSource::Gcp
    }

    fn address(&self) -> (IpAddr, &'static str) {
        (link_local().0, "metadata.google.internal")
    }

    fn questions(&self, settings: &Notices) -> Vec<Question> {
        let question = |name, query, pace, is_vital| Question {
            name,
            request: Request::get(
                format!("/computeMetadata/v1/instance/{name}{query}"),
                &[("metadata-flavor", "Google")],
            ),
            pace,
            is_vital,
            first_within: None,
        };
        let held = Pace::Held(Duration::from_secs(settings.hold_seconds.into()));
        vec![
            question(PREEMPTED, "", held, true),
            question(MAINTENANCE, "", held, true),
            question(UPCOMING, "?alt=json", Pace::Every(PLANS_EVERY), false),
        ]
    }

    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String> {
        let (answer, settings) = (heard.answer, heard.settings);
        let is_answer = matches!(answer.status, 200 | 404);
        if is_answer && answer.header("metadata-flavor") != Some("Google") {
            return Err("an answer without `Metadata-Flavor: Google`: it is another's".to_owned());
        }
        let text = answer.text.as_str();
        match (answer.status, heard.question) {
            (200, PREEMPTED) => preempted(text, settings),
            (200, MAINTENANCE) => maintenance(text, settings),
            // Where nothing is planned the key is missing, or holds an error.
            (404, UPCOMING) => Ok(Vec::new()),
            (200, UPCOMING) => upcoming(text),
            (status, _) => Err(format!("the answer {status} `{}`", answer.words())),
        }
    }
}

fn preempted(text: &str, settings: &Notices) -> Result<Vec<Event>, String> {
    match text.to_ascii_uppercase().as_str() {
        "FALSE" => Ok(Vec::new()),
        "TRUE" => {
            let gone = Gone::Within(settings.unstated());
            let event = Event::certain(PREEMPTED, NoticeKind::Preempt, gone);
            Ok(vec![Event { withdrawn_after: None, ..event }])
        }
        _ => Err("an answer that is neither TRUE nor FALSE".to_owned()),
    }
}

fn maintenance(text: &str, settings: &Notices) -> Result<Vec<Event>, String> {
    match text.to_ascii_uppercase().as_str() {
        "NONE" => Ok(Vec::new()),
        "TERMINATE_ON_HOST_MAINTENANCE" => {
            let window = Millis::from_seconds(settings.maintenance_seconds.into());
            let gone = Gone::Within(window);
            Ok(vec![Event::certain("maintenance", NoticeKind::Maintenance, gone)])
        }
        "MIGRATE_ON_HOST_MAINTENANCE" => {
            let gone = Gone::Within(MIGRATION_WINDOW);
            Ok(vec![Event::likely("migration", NoticeKind::Maintenance, gone)])
        }
        _ => Err("an answer that is no maintenance event".to_owned()),
    }
}

/// Three shapes are seen: JSON with strings, JSON in camel case, and lines of words.
fn upcoming(text: &str) -> Result<Vec<Event>, String> {
    let planned = match serde_json::from_str::<Value>(text) {
        Ok(json) => {
            let inner = json.get("Upcoming maintenance").unwrap_or(&json);
            let of = |name: &str| inner.get(name).and_then(Value::as_str).map(str::to_owned);
            of("window_start_time")
                .or_else(|| of("windowStartTime"))
                .or_else(|| of("latest_window_start_time").or_else(|| of("latestWindowStartTime")))
        }
        Err(error) => {
            let of = |name: &str| {
                let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
                Some(line.trim().to_owned())
            };
            let planned = of("window_start_time ").or_else(|| of("latest_window_start_time "));
            if planned.is_none() {
                return Err(format!("an answer that is not understood: {error}"));
            }
            planned
        }
    };
    let Some(planned) = planned else { return Ok(Vec::new()) };
    let at = rfc3339(&planned)?;
    let gone = Gone::At { at, usual: PLAN_FURTHEST, furthest: PLAN_FURTHEST };
    // It is `maintenance-event` that says when it becomes certain.
    Ok(vec![Event::likely("upcoming", NoticeKind::Maintenance, gone)])
}
