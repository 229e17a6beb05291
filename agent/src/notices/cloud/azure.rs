//! Azure's Scheduled Events. Every machine of a set is told of every event: one that does not name
//! this machine is another's.
//!
//! An event is approved only after the node is empty, and only where no other machine is named:
//! approving is for all of them. What disappears was withdrawn or is over.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use wharfage_shared::notice::{NoticeKind, NoticeSource};
use wharfage_shared::time::Millis;

use super::aws::json as read_json;
use super::link_local;
use super::source::{Event, Gone, Heard, Pace, Question, Request, Source};
use super::time::{rfc1123, rfc3339};
use crate::notices::settings::Notices;

const EVENTS: &str = "scheduledevents";
const PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const NAME: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const METADATA: (&str, &str) = ("metadata", "true");

/// The first question switches the service on, which takes up to two minutes.
const FIRST: Duration = Duration::from_secs(130);

/// Nothing is announced a month before.
const FURTHEST: Millis = Millis::from_seconds(31 * 86_400);

/// The metadata service of Azure.
pub struct Azure;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    events: Vec<Scheduled>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scheduled {
    event_id: String,
    #[serde(default)]
    event_status: String,
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    not_before: String,
}

impl Source for Azure {
    fn name(&self) -> NoticeSource {
        NoticeSource::Azure
    }

    fn address(&self) -> (IpAddr, &'static str) {
        link_local()
    }

    fn own_name(&self) -> Option<Request> {
        Some(Request::get(NAME, &[METADATA]))
    }

    fn questions(&self, settings: &Notices) -> Vec<Question> {
        vec![Question {
            name: EVENTS,
            request: Request::get(PATH, &[METADATA]),
            pace: Pace::Every(settings.poll()),
            is_vital: true,
            first_within: Some(FIRST),
        }]
    }

    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String> {
        let answer = heard.answer;
        if answer.status != 200 {
            return Err(format!("the answer {} `{}`", answer.status, answer.words()));
        }
        let document: Document = read_json(&answer.text)?;
        let is_own = |name: &String| name.eq_ignore_ascii_case(heard.own_name);
        let own = document.events.iter().filter(|event| event.resources.iter().any(is_own));
        Ok(own.map(event).collect())
    }

    fn approval(&self, key: &str) -> Option<Request> {
        let mut request = Request::get(PATH, &[METADATA]);
        request.method = "POST";
        request.body = json!({"StartRequests": [{"EventId": key}]}).to_string();
        Some(request)
    }
}

fn event(scheduled: &Scheduled) -> Event {
    let (kind, usual, is_end) = match scheduled.event_type.as_str() {
        "Preempt" => (NoticeKind::Preempt, Millis::from_seconds(30), true),
        "Terminate" => (NoticeKind::Shutdown, Millis::from_seconds(300), true),
        "Redeploy" => (NoticeKind::Maintenance, Millis::from_seconds(600), true),
        "Reboot" => (NoticeKind::Maintenance, Millis::from_seconds(900), true),
        // A pause of seconds ends nothing; a kind that only a newer Azure knows is reported.
        _ => (NoticeKind::Maintenance, Millis::from_seconds(900), false),
    };
    let not_before = scheduled.not_before.trim();
    let has_begun = scheduled.event_status.eq_ignore_ascii_case("Started");
    let read = rfc1123(not_before).or_else(|_| rfc3339(not_before));
    let (gone, odd) = match (has_begun, read) {
        (true, _) => (Gone::Within(Millis(0)), None),
        (false, Ok(at)) => (Gone::At { at, usual, furthest: FURTHEST }, None),
        // It has not begun and does not say when it will: at the earliest that it may.
        (false, Err(why)) => {
            let kind = &scheduled.event_type;
            let odd =
                format!("`{kind}` is scheduled and {why}: its least notice of {usual} counts");
            (Gone::Within(usual), Some(odd))
        }
    };
    let id = scheduled.event_id.as_str();
    let event = match is_end {
        true => Event::certain(id, kind, gone),
        false => Event::likely(id, kind, gone),
    };
    let can_acknowledge = is_end && scheduled.resources.len() == 1;
    Event { is_unique: true, can_acknowledge, odd, ..event }
}
