//! A metadata service as data: what it is asked, and what its answers mean. Sources do no I/O of
//! their own, so that their wire is tested from files (`tests/notices/`).

use std::net::IpAddr;
use std::time::Duration;

use wharfage_shared::notice::{Certainty, NoticeKind, NoticeSource};
use wharfage_shared::time::{Millis, Timestamp};

use super::client::Answer;
use crate::notices::settings::Notices;

/// One metadata service.
pub trait Source: Send + Sync {
    /// Its name in notices.
    fn name(&self) -> NoticeSource;

    /// Where it is, and the host that requests name.
    fn address(&self) -> (IpAddr, &'static str);

    /// What it is asked, each by a task of its own.
    fn questions(&self, settings: &Notices) -> Vec<Question>;

    /// What the answer to a question says is in force. An answer that cannot be understood is an
    /// error in one sentence; what was heard before stays.
    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String>;

    /// How a token is had that every question shows; nothing where none is needed.
    fn token(&self) -> Option<Token> {
        None
    }

    /// The request whose answer is this machine's own name; nothing where no event names one.
    fn own_name(&self) -> Option<Request> {
        None
    }

    /// The request that says that the node is done with an event.
    fn approval(&self, _key: &str) -> Option<Request> {
        None
    }
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, `POST`.
    pub method: &'static str,
    /// With its query.
    pub path: String,
    /// Besides the host.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, or nothing.
    pub body: String,
}

impl Request {
    /// A `GET` with one header.
    pub fn get(path: impl Into<String>, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { method: "GET", path: path.into(), headers, body: String::new() }
    }
}

/// How a token is had, and where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The request whose answer is the token.
    pub request: Request,
    /// The header that shows it.
    pub header: &'static str,
    /// It is had anew after this long, well before it ends.
    pub renew_after: Duration,
}

/// Something that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What it is called on the status page.
    pub name: &'static str,
    /// The request.
    pub request: Request,
    /// When.
    pub pace: Pace,
    /// Whether the node is blind without it.
    pub is_vital: bool,
    /// The first answer may take this long instead.
    pub first_within: Option<Duration>,
}

/// When a question is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So long after it was asked before.
    Every(Duration),
    /// At once: the service holds it until there is something new, at most so long. The question's
    /// path goes on with the mark of the last answer.
    Held(Duration),
}

/// An answer, and what is needed to understand it.
#[derive(Clone, Copy)]
pub struct Heard<'a> {
    /// The question's name.
    pub question: &'a str,
    /// What came back.
    pub answer: &'a Answer,
    /// This machine's own name, where the source has one.
    pub own_name: &'a str,
    /// `[notices]`.
    pub settings: &'a Notices,
}

/// Something that a source says will happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Tells it from other events of the source.
    pub key: String,
    /// Whether the key is never used again; if not, the notice's id has a time too.
    pub is_unique: bool,
    /// Why.
    pub kind: NoticeKind,
    /// How sure.
    pub certainty: Certainty,
    /// A hint that becomes certain when its deadline is this near.
    pub certain_within: Option<Millis>,
    /// The deadline.
    pub gone: Gone,
    /// Whether an "I am done" lets the source act early.
    pub can_acknowledge: bool,
    /// What is wrong with how it is said: one sentence.
    pub odd: Option<String>,
    /// It is taken back when so many right answers in a row do not name it; absent = never.
    pub withdrawn_after: Option<u32>,
}

impl Event {
    /// One that is certain and is taken back by not being named.
    pub fn certain(key: impl Into<String>, kind: NoticeKind, gone: Gone) -> Self {
        Self {
            key: key.into(),
            is_unique: false,
            kind,
            certainty: Certainty::Certain,
            certain_within: None,
            gone,
            can_acknowledge: false,
            odd: None,
            withdrawn_after: Some(1),
        }
    }

    /// A hint.
    pub fn likely(key: impl Into<String>, kind: NoticeKind, gone: Gone) -> Self {
        Self { certainty: Certainty::Likely, ..Self::certain(key, kind, gone) }
    }
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The source states it, by its own clock.
    At {
        /// The deadline.
        at: Timestamp,
        /// The window that this source usually gives.
        usual: Millis,
        /// What lies further ahead is not believed: the usual window counts.
        furthest: Millis,
    },
    /// It does not: so long after it was first heard.
    Within(Millis),
}
