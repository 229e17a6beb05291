//! How a request says which model it wants.

use axum::http::HeaderMap;
use serde::Deserialize;
use wharfage_shared::ids::OrganizationId;

use crate::errors::Problem;
use crate::routes::Table;

/// The paths that engines serve.
pub const INFERENCE_PATHS: [&str; 3] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// What was asked for, and by which means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `model` in the body.
    Body {
        /// The model's name.
        model: String,
    },
    /// A header that a front door of the organization names.
    Header {
        /// The header, in lower case.
        name: String,
        /// The model's name.
        model: String,
    },
    /// The part of the path before `/v1/`.
    Path {
        /// The model's name.
        model: String,
    },
    /// Baseten's `/models/{model}/production` and the like.
    Environment {
        /// The model's name, or a deployment's id.
        model: String,
        /// `production`, `development` or an environment.
        environment: String,
    },
    /// Baseten's `/models/{model}/deployment/{id}`.
    Deployment {
        /// The model's name, or a deployment's id.
        model: String,
        /// The deployment's id.
        id: String,
    },
}

impl Asked {
    /// The model's name, for messages.
    pub fn model(&self) -> &str {
        match self {
            Asked::Body { model }
            | Asked::Header { model, .. }
            | Asked::Path { model }
            | Asked::Environment { model, .. }
            | Asked::Deployment { model, .. } => model,
        }
    }

    /// What a request to one of the inference paths asks for: a header that a front door of the
    /// organization names goes before the body.
    pub fn from_request(
        table: &Table,
        organization: &OrganizationId,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Problem> {
        for name in table.headers(organization) {
            if let Some(value) = headers.get(name) {
                let model = value.to_str().map_err(|_| {
                    let message = format!("The header {name} is not plain text.");
                    Problem::bad_body("invalid_header", None, message)
                })?;
                return Ok(Asked::Header { name: name.clone(), model: model.trim().to_owned() });
            }
        }
        model_of(body).map(|model| Asked::Body { model })
    }
}

/// The one field that the gateway reads.
#[derive(Deserialize)]
struct Named {
    model: Option<serde_json::Value>,
}

/// The body's `model`.
fn model_of(body: &[u8]) -> Result<String, Problem> {
    let named: Named = object(body)?;
    match named.model {
        Some(serde_json::Value::String(model)) if !model.is_empty() => Ok(model),
        None | Some(serde_json::Value::Null) => {
            let message = "You must provide `model`; GET /v1/models lists the names.".to_owned();
            Err(Problem::bad_body("missing_model", Some("model"), message))
        }
        Some(_) => {
            let message = "`model` must be a string that is not empty.".to_owned();
            Err(Problem::bad_body("invalid_model", Some("model"), message))
        }
    }
}

/// Reads some members of a JSON object. An array would pass for an object whose members come in
/// order, so the first byte is looked at.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let refused = |reason: String| {
        Problem::bad_body("invalid_json", None, format!("The body is no JSON object: {reason}."))
    };
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused("it does not begin with {".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| refused(error.to_string()))
}

/// The path of the engine that a Baseten `predict` body is meant for, by what the body holds.
pub fn predict_path(body: &[u8]) -> Result<&'static str, Problem> {
    #[derive(Deserialize)]
    struct Shape {
        messages: Option<serde::de::IgnoredAny>,
        prompt: Option<serde::de::IgnoredAny>,
        input: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = object(body)?;
    match (shape.messages, shape.prompt, shape.input) {
        (Some(_), _, _) => Ok("/v1/chat/completions"),
        (None, Some(_), _) => Ok("/v1/completions"),
        (None, None, Some(_)) => Ok("/v1/embeddings"),
        (None, None, None) => {
            let message = "The body holds none of `messages`, `prompt`, `input`.".to_owned();
            Err(Problem::bad_body("invalid_request", None, message))
        }
    }
}

/// Splits `/<model>/v1/chat/completions` into the model and the engine's path.
pub fn split_path(path: &str) -> Option<(String, &'static str)> {
    let (model, rest) = INFERENCE_PATHS
        .iter()
        .find_map(|known| path.strip_suffix(known).map(|model| (model, *known)))?;
    let model = percent_decoded(model.strip_prefix('/')?)?;
    (!model.is_empty()).then_some((model, rest))
}

/// Undoes percent-encoding; `None` when it is broken.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        rest = tail;
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_usable_model_says_what_is_wrong() {
        for (body, code) in [
            ("", "invalid_json"),
            ("[\"a\"]", "invalid_json"),
            ("{\"model\":", "invalid_json"),
            ("{\"model\":\"a\",\"model\":\"b\"}", "invalid_json"),
            ("{}", "missing_model"),
            ("{\"model\":null}", "missing_model"),
            ("{\"model\":7}", "invalid_model"),
            ("{\"model\":\"\"}", "invalid_model"),
        ] {
            assert_eq!(model_of(body.as_bytes()).expect_err(body).code, code, "{body}");
        }
        let deep = format!("{{\"model\":\"a\",\"x\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
        // What is not read is skipped without recursion.
        assert_eq!(model_of(deep.as_bytes()).as_deref(), Ok("a"));
        assert_eq!(
            model_of(b"{\"x\":[1,{\"model\":\"no\"}],\"model\":\"yes\"}").as_deref(),
            Ok("yes")
        );
    }

    #[test]
    fn the_path_before_v1_names_the_model() {
        let split = |path| split_path(path).map(|(model, rest)| format!("{model} {rest}"));
        assert_eq!(split("/chat/v1/completions").as_deref(), Some("chat /v1/completions"));
        assert_eq!(
            split("/meta%2Fllama%203/v1/chat/completions").as_deref(),
            Some("meta/llama 3 /v1/chat/completions")
        );
        assert_eq!(
            split("/meta/llama/v1/embeddings").as_deref(),
            Some("meta/llama /v1/embeddings")
        );
        for path in ["/v1/completions", "//v1/completions", "/a/v1/models", "/%f/v1/completions"] {
            assert_eq!(split(path), None, "{path}");
        }
    }
}
