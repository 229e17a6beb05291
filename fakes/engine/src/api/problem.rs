//! Errors in OpenAI's shape with vLLM's words.

use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A request that cannot be answered.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
    /// The field of the body that is wrong.
    field: Option<&'static str>,
}

impl Problem {
    /// A field is missing or has a value that is not accepted.
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        let message = format!("{field}: {}", message.into());
        Self { status: StatusCode::BAD_REQUEST, message, field: Some(field) }
    }

    /// The body as a whole is wrong.
    pub fn body(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None }
    }

    /// Another model than the one that is served.
    pub fn no_such_model(name: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: format!("The model `{name}` does not exist."),
            field: Some("model"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = match self.status {
            StatusCode::NOT_FOUND => "NotFoundError",
            _ => "BadRequestError",
        };
        let body = json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.field,
            "code": self.status.as_u16(),
        }});
        (self.status, Json(body)).into_response()
    }
}

/// Any path that is not served.
pub async fn no_such_path(uri: Uri) -> Problem {
    let message = format!("The path `{}` does not exist.", uri.path());
    Problem { status: StatusCode::NOT_FOUND, message, field: None }
}
