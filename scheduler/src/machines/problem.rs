//! What a machine is told instead of an answer: a stable code, and what to do.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use wharfage_scheduler_core::Refusal;
use wharfage_scheduler_core::words::refusal::Kind;
use wharfage_shared::enroll::MachineProblem;

use crate::driver::SubmitError;

/// A refusal with its HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    problem: MachineProblem,
}

impl Problem {
    /// A refusal.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self { status, problem: MachineProblem { code: code.to_owned(), detail: detail.into() } }
    }

    /// A body that cannot be taken as it is.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// Somebody else's affairs.
    pub fn not_yours(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_yours", detail)
    }
}

impl From<MachineProblem> for Problem {
    fn from(problem: MachineProblem) -> Self {
        Self { status: StatusCode::CONFLICT, problem }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut detail = refusal.to_string();
        if let Refusal::NameTaken { kind: Kind::Node, name } = &refusal {
            detail.push_str(&format!(
                ": give this host another name, or, if it takes that node's place, ask an operator \
                 to allow it (POST /api/v1/nodes/{name}/rejoin)"
            ));
        }
        let (status, code) = match &refusal {
            Refusal::NotFound { kind, .. } => (StatusCode::NOT_FOUND, format!("{kind}_unknown")),
            Refusal::NameTaken { .. } => (StatusCode::CONFLICT, "name_taken".to_owned()),
            Refusal::Invalid { .. } => (StatusCode::BAD_REQUEST, "malformed".to_owned()),
            Refusal::Precondition { subject, .. } | Refusal::Exhausted { subject, .. } => {
                (StatusCode::FORBIDDEN, code_of(subject))
            }
            Refusal::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden".to_owned()),
        };
        Self::new(status, &code, detail)
    }
}

/// The controller names what a refusal is about; of a join it is the code itself.
fn code_of(subject: &str) -> String {
    if subject.starts_with("join_") { subject.to_owned() } else { "refused".to_owned() }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let (status, code) = match error {
            SubmitError::Refused(refusal) => return refusal.into(),
            SubmitError::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused"),
            SubmitError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            SubmitError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            SubmitError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// What a path that does not exist answers.
pub async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!("there is no `{}` on the listener for machines", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", detail)
}

/// The body, if it came whole and within its limit.
pub fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        let status = rejection.status();
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "malformed",
        };
        Problem::new(status, code, rejection.body_text())
    })
}
