//! Alibaba's instance metadata: a token, and a key that is missing until a preemptible instance is
//! to be released. Its wire is from documents; it was not seen on a machine of theirs.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use wharfage_shared::notice::{NoticeKind, NoticeSource};
use wharfage_shared::time::{Millis, Timestamp};

use super::source::{Event, Gone, Heard, Pace, Question, Request, Source, Token};
use super::time::rfc3339;
use crate::notices::settings::Notices;

const KEY: &str = "instance/spot/termination-time";

/// Commonly stated, not confirmed.
const USUAL: Millis = Millis::from_seconds(300);

/// No interruption is announced longer before.
const FURTHEST: Millis = Millis::from_seconds(3600);

/// Answers in a row that do not name it before it is over.
const ABSENT: u32 = 3;

/// The metadata service of Alibaba Cloud.
pub struct Alibaba;

impl Source for Alibaba {
    fn name(&self) -> NoticeSource {
        NoticeSource::Alibaba
    }

    fn address(&self) -> (IpAddr, &'static str) {
        (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), "100.100.100.200")
    }

    fn token(&self) -> Option<Token> {
        let ttl = ("x-aliyun-ecs-metadata-token-ttl-seconds", "21600");
        let mut request = Request::get("/latest/api/token", &[ttl]);
        request.method = "PUT";
        let renew_after = Duration::from_secs(3 * 3600);
        Some(Token { request, header: "x-aliyun-ecs-metadata-token", renew_after })
    }

    fn questions(&self, settings: &Notices) -> Vec<Question> {
        vec![key_question(KEY, settings)]
    }

    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String> {
        termination(heard, rfc3339, USUAL, FURTHEST)
    }
}

/// A key that is asked all the time.
pub(super) fn key_question(name: &'static str, settings: &Notices) -> Question {
    Question {
        name,
        request: Request::get(format!("/latest/meta-data/{name}"), &[]),
        pace: Pace::Every(settings.poll()),
        is_vital: true,
        first_within: None,
    }
}

/// What a key says that holds nothing but a time.
pub(super) fn termination(
    heard: Heard<'_>,
    read: fn(&str) -> Result<Timestamp, String>,
    usual: Millis,
    furthest: Millis,
) -> Result<Vec<Event>, String> {
    match heard.answer.status {
        404 => Ok(Vec::new()),
        200 => {
            let gone = Gone::At { at: read(&heard.answer.text)?, usual, furthest };
            let event = Event::certain("spot", NoticeKind::Preempt, gone);
            Ok(vec![Event { withdrawn_after: Some(ABSENT), ..event }])
        }
        status => Err(format!("the answer {status} `{}`", heard.answer.words())),
    }
}
