//! Errors in Baseten's words: `{"code":"VALIDATION_ERROR","message":"..."}`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::http::fault::{Fault, Reason};

/// The fault as Baseten's clients read it.
pub fn render(fault: &Fault) -> Response<Body> {
    let body = json!({"code": code(&fault.reason), "message": fault.detail});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = match &fault.reason {
        Reason::Precondition { .. } => StatusCode::BAD_REQUEST,
        _other => fault.status(),
    };
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::Unauthenticated => "UNAUTHORIZED",
        Reason::Forbidden => "FORBIDDEN",
        Reason::NotFound { .. } => "NOT_FOUND",
        Reason::WrongMethod { .. } => "METHOD_NOT_ALLOWED",
        Reason::NameTaken { .. } => "ALREADY_EXISTS",
        Reason::Unreadable | Reason::Invalid(_) | Reason::Precondition { .. } => "VALIDATION_ERROR",
        Reason::TooLarge => "PAYLOAD_TOO_LARGE",
        Reason::MediaType => "UNSUPPORTED_MEDIA_TYPE",
        Reason::KeyReused => "IDEMPOTENCY_KEY_REUSED",
        Reason::Exhausted { .. } => "CAPACITY_EXCEEDED",
        Reason::RateLimited => "RATE_LIMITED",
        Reason::Unimplemented => "NOT_IMPLEMENTED",
        Reason::Busy | Reason::DiskFull => "SERVICE_UNAVAILABLE",
        Reason::Internal => "INTERNAL_ERROR",
    }
}
