//! Why a request was not carried out, before it is put into the words of the API it came through.
//!
//! A handler answers `Result<_, Fault>`; the route's [`Style`] turns it into a body. So one
//! refusal reads right as problem+json, as google.rpc, as Connect and as Baseten's error.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use wharfage_scheduler_core::words::refusal::Refusal;
use wharfage_shared::causes::with_causes;

use super::fields::Wrong;

/// The words of which API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Our own: RFC 9457.
    Problem,
    /// CoreWeave's REST paths: google.rpc in JSON.
    Rest,
    /// CoreWeave's Connect paths.
    Connect,
    /// Baseten's paths.
    Baseten,
    /// Pages for people.
    Page,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of reason.
    pub reason: Reason,
    /// One sentence: what was wrong and what to do.
    pub detail: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

/// The kinds of reasons, each with what a program needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No token, or one that nobody has.
    Unauthenticated,
    /// The token does not allow it.
    Forbidden,
    /// There is no such thing, or not for this caller.
    NotFound {
        /// Of what kind, if the path names one.
        kind: &'static str,
        /// Which.
        id: String,
    },
    /// The path exists for other methods.
    WrongMethod {
        /// Which.
        accepted: String,
    },
    /// The name or id is in use.
    NameTaken {
        /// Of what kind.
        kind: &'static str,
        /// Which.
        name: String,
    },
    /// The body is not JSON or not an object.
    Unreadable,
    /// Fields that cannot be taken as they are.
    Invalid(Vec<Wrong>),
    /// Not in the state that things are in.
    Precondition {
        /// What it is about.
        subject: String,
    },
    /// There is not enough.
    Exhausted {
        /// Of what.
        subject: String,
    },
    /// The body is too large.
    TooLarge,
    /// The body is of a type that is not read here.
    MediaType,
    /// An idempotency key was used before with another request.
    KeyReused,
    /// Too many requests of one key.
    RateLimited,
    /// The product does not do this.
    Unimplemented,
    /// The scheduler cannot take more at this moment.
    Busy,
    /// The scheduler's disk is full: nothing can be written.
    DiskFull,
    /// Our mistake; the cause is in the scheduler's own log.
    Internal,
}

impl Fault {
    /// A reason with its sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// Another try makes sense after so many seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// One field, what is wrong and what is accepted.
    pub fn field(field: &str, problem: impl Into<String>, accepted: impl Into<String>) -> Self {
        let (problem, accepted) = (problem.into(), accepted.into());
        let accepted = Some(accepted).filter(|text| !text.is_empty());
        Self::from(vec![Wrong { field: field.to_owned(), problem, accepted }])
    }

    /// There is no such thing.
    pub fn not_found(kind: &'static str, id: &str) -> Self {
        let detail = format!("there is no {kind} `{id}`");
        Self::new(Reason::NotFound { kind, id: id.to_owned() }, detail)
    }

    /// Our own mistake: logged here with its cause, told without it.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %with_causes(error), "a request failed by our own mistake");
        let detail = "the scheduler could not answer this; its log says why";
        Self::new(Reason::Internal, detail)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match &self.reason {
            Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
            Reason::Forbidden => StatusCode::FORBIDDEN,
            Reason::NotFound { .. } => StatusCode::NOT_FOUND,
            Reason::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Reason::NameTaken { .. } => StatusCode::CONFLICT,
            Reason::Unreadable | Reason::Invalid(_) => StatusCode::BAD_REQUEST,
            Reason::Precondition { .. } => StatusCode::CONFLICT,
            Reason::Exhausted { .. } | Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Reason::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable code of our own API.
    pub fn code(&self) -> &'static str {
        match &self.reason {
            Reason::Unauthenticated => "unauthenticated",
            Reason::Forbidden => "forbidden",
            Reason::NotFound { .. } => "not_found",
            Reason::WrongMethod { .. } => "method_not_allowed",
            Reason::NameTaken { .. } => "name_taken",
            Reason::Unreadable => "unreadable_body",
            Reason::Invalid(_) => "invalid",
            Reason::Precondition { .. } => "precondition_failed",
            Reason::Exhausted { .. } => "exhausted",
            Reason::TooLarge => "body_too_large",
            Reason::MediaType => "unsupported_media_type",
            Reason::KeyReused => "idempotency_key_reused",
            Reason::RateLimited => "rate_limited",
            Reason::Unimplemented => "unimplemented",
            Reason::Busy => "busy",
            Reason::DiskFull => "disk_full",
            Reason::Internal => "internal",
        }
    }
}

impl From<Vec<Wrong>> for Fault {
    fn from(wrongs: Vec<Wrong>) -> Self {
        let sentences: Vec<String> =
            wrongs.iter().map(|w| format!("{}: {}", w.field, w.sentence())).collect();
        Self::new(Reason::Invalid(wrongs), sentences.join("; "))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound { kind, id } => {
                Self::new(Reason::NotFound { kind: kind.as_str(), id }, detail)
            }
            Refusal::NameTaken { kind, name } => {
                Self::new(Reason::NameTaken { kind: kind.as_str(), name }, detail)
            }
            Refusal::Invalid { violations } => {
                let wrongs = violations.into_iter().map(|violation| Wrong {
                    field: violation.field,
                    problem: violation.description,
                    accepted: None,
                });
                Self::from(wrongs.collect::<Vec<_>>())
            }
            Refusal::Precondition { subject, .. } => {
                Self::new(Reason::Precondition { subject }, detail)
            }
            Refusal::Exhausted { subject, .. } => Self::new(Reason::Exhausted { subject }, detail),
            Refusal::Forbidden { .. } => Self::new(Reason::Forbidden, detail),
        }
    }
}

/// A fault travels in the response's extensions until the route's style puts it into words.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
