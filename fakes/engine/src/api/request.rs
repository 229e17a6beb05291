//! Bodies of requests: checked once, here, with the field named that is wrong.
//!
//! Keys that are not known are left alone, as OpenAI-compatible engines do.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::answer::{Bounds, CONTEXT_TOKENS, count};

use super::problem::Problem;

/// Longest list of stop words that OpenAI accepts, and then some.
const MOST_STOPS: usize = 16;

/// The object of a body.
pub struct Body(Map<String, Value>);

impl Body {
    /// Reads the body; `served` is the only model there is.
    pub fn parse(body: Result<Bytes, BytesRejection>, served: &str) -> Result<Self, Problem> {
        let body = body.map_err(|refused| Problem::body(refused.status(), refused.body_text()))?;
        let wrong = |message: String| Problem::body(StatusCode::BAD_REQUEST, message);
        let fields = match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(wrong("the body must be a JSON object".to_owned())),
            Err(error) => return Err(wrong(format!("the body is not valid JSON: {error}"))),
        };
        let body = Self(fields);
        match body.value("model") {
            None => Ok(body),
            Some(Value::String(name)) if name == served => Ok(body),
            Some(Value::String(name)) => Err(Problem::no_such_model(name)),
            Some(_) => Err(Problem::field("model", "must be a string")),
        }
    }

    /// A field that is there and not null.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// True or false; absent is false.
    pub fn is_set(&self, field: &'static str) -> Result<bool, Problem> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(Problem::field(field, "must be true or false")),
        }
    }

    fn count(&self, field: &'static str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|value| u32::try_from(value).ok()) {
            Some(value) if value >= 1 => Ok(Some(value)),
            Some(_) | None => Err(Problem::field(field, "must be a whole number of at least 1")),
        }
    }

    fn number(&self, field: &'static str, least: f64, most: f64) -> Result<(), Problem> {
        match self.value(field).map(Value::as_f64) {
            None => Ok(()),
            Some(Some(value)) if (least..=most).contains(&value) => Ok(()),
            Some(_) => {
                Err(Problem::field(field, format!("must be a number from {least} to {most}")))
            }
        }
    }

    fn stop(&self) -> Result<Vec<String>, Problem> {
        let wrong = || Problem::field("stop", "must be a string or a list of up to 16 strings");
        let stops = match self.value("stop") {
            None => return Ok(Vec::new()),
            Some(Value::String(stop)) => vec![stop.clone()],
            Some(Value::Array(stops)) if stops.len() <= MOST_STOPS => {
                let texts = stops.iter().map(|stop| stop.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<String>>>().ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        if stops.iter().any(String::is_empty) {
            return Err(Problem::field("stop", "must not be empty"));
        }
        Ok(stops)
    }
}

/// What a request for a generation asks.
pub struct Ask {
    /// All of the prompt.
    pub prompt: String,
    /// What the answer repeats when no other text was ordered.
    pub echo: String,
    /// Its bounds.
    pub bounds: Bounds,
    /// Whether to send token by token.
    pub streams: bool,
    /// Whether a stream ends with the usage.
    pub tells_usage: bool,
}

impl Ask {
    /// `/v1/chat/completions`.
    pub fn chat(body: &Body) -> Result<Self, Problem> {
        let wrong = || Problem::field("messages", "must be a non-empty list of messages");
        let messages = body.value("messages").and_then(Value::as_array).ok_or_else(wrong)?;
        if messages.is_empty() {
            return Err(wrong());
        }
        let mut prompt = String::new();
        let mut echo = String::new();
        for message in messages {
            let role = message.get("role").and_then(Value::as_str);
            let role = role.ok_or_else(|| Problem::field("messages", "each needs a `role`"))?;
            let text = content(message)?;
            prompt.push_str(&text);
            prompt.push('\n');
            if role == "user" {
                echo = text;
            }
        }
        let limit = match body.count("max_completion_tokens")? {
            Some(limit) => Some(limit),
            None => body.count("max_tokens")?,
        };
        Self::new(body, prompt, echo, limit)
    }

    /// `/v1/completions`; without a limit it makes 16 tokens, as OpenAI's does.
    pub fn text(body: &Body) -> Result<Self, Problem> {
        const DEFAULT_TOKENS: u32 = 16;
        let wrong = || Problem::field("prompt", "must be one string or one list of token ids");
        let prompt = match body.value("prompt").ok_or_else(wrong)? {
            Value::String(prompt) => prompt.clone(),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(prompt)] => prompt.clone(),
                [] => return Err(wrong()),
                ids if ids.iter().all(Value::is_u64) => vec!["token"; ids.len()].join(" "),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        let limit = body.count("max_tokens")?.unwrap_or(DEFAULT_TOKENS);
        Self::new(body, prompt.clone(), prompt, Some(limit))
    }

    fn new(
        body: &Body,
        prompt: String,
        echo: String,
        max_tokens: Option<u32>,
    ) -> Result<Self, Problem> {
        body.number("temperature", 0.0, 2.0)?;
        body.number("top_p", 0.0, 1.0)?;
        if body.count("n")?.is_some_and(|choices| choices != 1) {
            return Err(Problem::field("n", "must be 1: this engine makes one choice"));
        }
        let streams = body.is_set("stream")?;
        let options = body.value("stream_options");
        if options.is_some() && !streams {
            return Err(Problem::field("stream_options", "needs `stream` to be true"));
        }
        let tells_usage = options.and_then(|options| options.get("include_usage"));
        let asked = u64::from(count(&prompt)) + u64::from(max_tokens.unwrap_or(1));
        if asked > u64::from(CONTEXT_TOKENS) {
            let message = format!(
                "This model's maximum context length is {CONTEXT_TOKENS} tokens, the request \
                 needs {asked}."
            );
            return Err(Problem::body(StatusCode::BAD_REQUEST, message));
        }
        let goes_on = max_tokens.is_some();
        let bounds = Bounds { max_tokens, goes_on, stop: body.stop()? };
        let tells_usage = tells_usage.and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { prompt, echo, bounds, streams, tells_usage })
    }
}

/// The text of a message: a string, or the text parts of a list. A tool call may have none.
fn content(message: &Value) -> Result<String, Problem> {
    let wrong = || Problem::field("messages", "`content` must be a string or a list of parts");
    match message.get("content") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let mut texts = Vec::new();
            for part in parts {
                let kind = part.get("type").and_then(Value::as_str).ok_or_else(wrong)?;
                if kind == "text" {
                    texts.push(part.get("text").and_then(Value::as_str).ok_or_else(wrong)?);
                }
            }
            Ok(texts.join(" "))
        }
        Some(_) => Err(wrong()),
    }
}
