//! Amazon's instance metadata, version 2: the interruption of a spot instance, the recommendation to
//! leave early, planned maintenance, and an auto scaling group that lets the instance go.
//!
//! A missing key is 404 and means "nothing"; 401 is a token that ended. A drained instance is not
//! ended from here: who waits to be terminated within its first hour is not billed for it.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use wharfage_shared::notice::{NoticeKind, NoticeSource};
use wharfage_shared::time::Millis;

use super::link_local;
use super::source::{Event, Gone, Heard, Pace, Question, Request, Source, Token};
use super::time::{rfc1123, rfc3339};
use crate::notices::settings::Notices;

const SPOT: &str = "spot/instance-action";
const REBALANCE: &str = "events/recommendations/rebalance";
const MAINTENANCE: &str = "events/maintenance/scheduled";
const GROUP: &str = "autoscaling/target-lifecycle-state";

/// What Amazon says of a hint, and of a group's decision.
const HINTS_EVERY: Duration = Duration::from_secs(5);

/// Maintenance is announced days before.
const PLANS_EVERY: Duration = Duration::from_secs(60);

/// A spot instance has two minutes.
const SPOT_WINDOW: Millis = Millis::from_seconds(120);

/// No interruption is announced longer before.
const SPOT_FURTHEST: Millis = Millis::from_seconds(900);

/// Maintenance is announced weeks before, not a year.
const PLAN_FURTHEST: Millis = Millis::from_seconds(180 * 86_400);

/// A recommendation names no time; it is a hint for about as long.
const REBALANCE_WINDOW: Millis = Millis::from_seconds(3600);

/// An answer without the key counts when it comes so many times in a row: a service that fails now
/// and then must not start and stop an evacuation.
const ABSENT: u32 = 3;

/// The metadata service of EC2.
pub struct Aws;

#[derive(Deserialize)]
struct InstanceAction {
    action: String,
    #[serde(default)]
    time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recommendation {
    notice_time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Maintenance {
    not_before: String,
    code: String,
    #[serde(default)]
    description: String,
    event_id: String,
    state: String,
}

impl Source for Aws {
    fn name(&self) -> NoticeSource {
        NoticeSource::Aws
    }

    fn address(&self) -> (IpAddr, &'static str) {
        link_local()
    }

    fn token(&self) -> Option<Token> {
        let mut request = Request::get("/latest/api/token", &[(TTL, LIFE)]);
        request.method = "PUT";
        let renew_after = Duration::from_secs(3 * 3600);
        Some(Token { request, header: "x-aws-ec2-metadata-token", renew_after })
    }

    fn questions(&self, settings: &Notices) -> Vec<Question> {
        let question = |name, every, is_vital| Question {
            name,
            request: Request::get(format!("/latest/meta-data/{name}"), &[]),
            pace: Pace::Every(every),
            is_vital,
            first_within: None,
        };
        vec![
            question(SPOT, settings.poll(), true),
            question(REBALANCE, HINTS_EVERY, false),
            question(MAINTENANCE, PLANS_EVERY, false),
            question(GROUP, HINTS_EVERY, false),
        ]
    }

    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String> {
        let answer = heard.answer;
        match (answer.status, heard.question) {
            (404, _) => Ok(Vec::new()),
            (200, SPOT) => spot(&answer.text).map(|event| vec![event]),
            (200, REBALANCE) => rebalance(&answer.text).map(|event| vec![event]),
            (200, MAINTENANCE) => maintenance(&answer.text, heard.settings),
            (200, GROUP) => group(&answer.text, heard.settings),
            (status, _) => Err(format!("the answer {status} `{}`", answer.words())),
        }
    }
}

/// The header that asks how long a token shall live, and the longest that is given.
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const LIFE: &str = "21600";

fn spot(text: &str) -> Result<Event, String> {
    let said: InstanceAction = json(text)?;
    let (gone, odd) = match (said.action.as_str(), rfc3339(&said.time)) {
        // It begins with the notice.
        ("hibernate", _) => (Gone::Within(Millis(0)), None),
        // An action that only a newer EC2 knows ends the instance as well.
        (_, Ok(at)) => (Gone::At { at, usual: SPOT_WINDOW, furthest: SPOT_FURTHEST }, None),
        (action, Err(why)) => {
            let odd = format!("`{action}` is announced and {why}: the usual {SPOT_WINDOW} count");
            (Gone::Within(SPOT_WINDOW), Some(odd))
        }
    };
    let event = Event::certain("spot", NoticeKind::Preempt, gone);
    Ok(Event { odd, withdrawn_after: Some(ABSENT), ..event })
}

fn rebalance(text: &str) -> Result<Event, String> {
    let said: Recommendation = json(text)?;
    rfc3339(&said.notice_time)?;
    let gone = Gone::Within(REBALANCE_WINDOW);
    let event = Event::likely("rebalance", NoticeKind::Preempt, gone);
    Ok(Event { withdrawn_after: Some(ABSENT), ..event })
}

fn maintenance(text: &str, settings: &Notices) -> Result<Vec<Event>, String> {
    let said: Vec<Maintenance> = json(text)?;
    let is_over = |event: &&Maintenance| {
        let description = event.description.to_ascii_lowercase();
        let marks = ["[completed]", "[canceled]"];
        event.state != "active" || marks.iter().any(|mark| description.starts_with(mark))
    };
    let planned = said.iter().filter(|event| !is_over(event));
    planned
        .map(|planned| {
            let at = rfc1123(&planned.not_before)?;
            let usual = Millis::from_seconds(settings.certain_within_seconds.into());
            let gone = Gone::At { at, usual, furthest: PLAN_FURTHEST };
            let kind = match planned.code.as_str() {
                "instance-retirement" | "instance-stop" => NoticeKind::Shutdown,
                _ => NoticeKind::Maintenance,
            };
            let event = Event::likely(planned.event_id.as_str(), kind, gone);
            Ok(Event { is_unique: true, certain_within: Some(usual), ..event })
        })
        .collect()
}

fn group(text: &str, settings: &Notices) -> Result<Vec<Event>, String> {
    let is_state = |c: char| c.is_ascii_alphanumeric() || c == ':';
    match text {
        "Terminated" => {
            let gone = Gone::Within(settings.unstated());
            let event = Event::certain("group", NoticeKind::Shutdown, gone);
            Ok(vec![Event { withdrawn_after: Some(ABSENT), ..event }])
        }
        state if !state.is_empty() && state.chars().all(is_state) => Ok(Vec::new()),
        _ => Err("an answer that is no state of an instance".to_owned()),
    }
}

/// JSON, or one sentence.
pub fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("an answer that is not understood: {error}"))
}
