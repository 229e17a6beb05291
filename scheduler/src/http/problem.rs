//! Errors on our own paths: RFC 9457 `application/problem+json` with a stable `code`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use serde::Serialize;

use super::fault::{Fault, Reason};

/// The body.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation<'a>>,
}

/// One field, when several are wrong.
#[derive(Debug, Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'a str>,
}

/// The fault as problem+json.
pub fn render(fault: &Fault) -> Response<Body> {
    let wrongs = match &fault.reason {
        Reason::Invalid(wrongs) => wrongs.as_slice(),
        _other => &[],
    };
    let first = wrongs.first();
    let accepted = match &fault.reason {
        Reason::WrongMethod { accepted } => Some(accepted.as_str()),
        _other => first.and_then(|wrong| wrong.accepted.as_deref()),
    };
    let problem = Problem {
        r#type: format!("urn:wharfage:problem:{}", fault.code()),
        title: title(fault),
        status: fault.status().as_u16(),
        code: fault.code(),
        detail: &fault.detail,
        field: first.map(|wrong| wrong.field.as_str()),
        accepted,
        violations: wrongs
            .iter()
            .map(|wrong| Violation {
                field: &wrong.field,
                description: wrong.problem.clone(),
                accepted: wrong.accepted.as_deref(),
            })
            .collect(),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = fault.status();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn title(fault: &Fault) -> &'static str {
    match &fault.reason {
        Reason::Unauthenticated => "a valid token is needed",
        Reason::Forbidden => "the token does not allow this",
        Reason::NotFound { .. } => "there is no such thing",
        Reason::WrongMethod { .. } => "the path does not know this method",
        Reason::NameTaken { .. } => "the name is in use",
        Reason::Unreadable => "the body cannot be read",
        Reason::Invalid(_) => "the request has invalid fields",
        Reason::Precondition { .. } => "it cannot be done in the present state",
        Reason::Exhausted { .. } => "there is not enough",
        Reason::TooLarge => "the body is too large",
        Reason::MediaType => "the body is of another type",
        Reason::KeyReused => "the idempotency key was used for another request",
        Reason::RateLimited => "too many requests",
        Reason::Unimplemented => "the product does not do this",
        Reason::Busy => "the scheduler cannot take more at this moment",
        Reason::DiskFull => "the scheduler's disk is full",
        Reason::Internal => "the scheduler made a mistake",
    }
}
