//! Refusals in the shape that OpenAI's clients read: what was wrong, which field, a stable code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// After which a client may try again when nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A request that is not answered by a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
    /// The field of the request that is to blame.
    pub param: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// 400: the body is not what the path expects.
    pub fn bad_body(code: &'static str, param: Option<&'static str>, message: String) -> Self {
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// 401: no token, or one that no organization has.
    pub fn unauthorized() -> Self {
        let message = "No valid API key was given: send `Authorization: Bearer <token>`.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// 404: nothing of the caller's organization answers to that name.
    pub fn model_not_found(model: &str) -> Self {
        let message = format!(
            "The model `{model}` does not exist or you do not have access to it; GET /v1/models \
             lists what there is."
        );
        Self {
            param: Some("model"),
            ..Self::new(StatusCode::NOT_FOUND, "model_not_found", message)
        }
    }

    /// 404: no such path.
    pub fn unknown_path(path: &str) -> Self {
        let message = format!(
            "There is nothing at `{path}`; requests go to /v1/chat/completions, /v1/completions or \
             /v1/embeddings."
        );
        Self::new(StatusCode::NOT_FOUND, "unknown_url", message)
    }

    /// 405: the path exists, the method is another.
    pub fn wrong_method() -> Self {
        let message = "This path does not take this method: POST requests, GET /v1/models.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 408: the body did not come in time.
    pub fn slow_body() -> Self {
        let message = "The request's body did not arrive within 60 seconds.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    /// 413: the body is too long.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The request's body is longer than {} MiB.", limit >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// 502: the replica went away before it answered.
    pub fn replica_lost() -> Self {
        let message = "The replica went away before it answered; the request can be sent again.";
        Self::new(StatusCode::BAD_GATEWAY, "replica_lost", message)
    }

    /// The last event of a stream whose replica went away.
    pub fn replica_lost_midway() -> Self {
        let message = "The replica went away in the middle of the answer; what came is not all.";
        Self::new(StatusCode::BAD_GATEWAY, "replica_lost", message)
    }

    /// 503: nobody could take the request in the time it may wait.
    pub fn no_replica(model: &str) -> Self {
        let message = format!("No replica of `{model}` is ready; try again later.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_ready_replica", message)
    }

    /// 503: as many wait as may wait.
    pub fn queue_full(limit: u32) -> Self {
        let message = format!("{limit} requests wait already; try again later.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", message)
    }

    /// 503: the gateway has not heard from its scheduler yet.
    pub fn no_routes() -> Self {
        let message = "The gateway has just started and has no routes yet; try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_routes", message)
    }

    /// 504: the replica did not begin its answer in time.
    pub fn too_slow() -> Self {
        let message = "The replica did not begin its answer in time.";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// The body, also used as the last event of a stream that broke.
    pub fn body(&self) -> String {
        let kind =
            if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        serde_json::json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
