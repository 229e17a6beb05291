//! What comes with a write: who asks, the body as a JSON object, the idempotency key, dry runs.
//!
//! A body is bounded before it is read and checked for depth before it is looked at.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::command::{Action, Command};
use wharfage_scheduler_core::words::event::request::RequestKey;
use wharfage_scheduler_core::words::principal::Caller;

use super::fault::{Fault, Reason, Style};
use super::gate::Who;
use super::route::style_of;
use super::{Shared, query};
use crate::driver::{Once, Outcome, SubmitError};
use crate::secrets::{self, Opens};

/// Longest body: specs are small, and what is larger is no spec.
pub const LONGEST_BODY: usize = 256 * 1024;

/// Deepest nesting of a body.
const DEEPEST: usize = 32;

/// Longest idempotency key.
const LONGEST_KEY: usize = 255;

/// Stands in an answer for a secret, which is shown once and never kept.
const SECRET: &str = "@@secret@@";

/// One write.
pub struct Write {
    /// Who asks.
    pub caller: Caller,
    /// The body; empty when there was none.
    pub body: Map<String, Value>,
    /// Whether only to say what would happen.
    pub dry_run: bool,
    method: Method,
    uri: Uri,
    key: Option<String>,
    digest: String,
}

impl FromRequest<Shared> for Write {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Response> {
        let write = Self::read(request).await.map_err(IntoResponse::into_response)?;
        match write.repeated(shared) {
            Ok(None) => Ok(write),
            Ok(Some(answer)) => Err(answer),
            Err(fault) => Err(fault.into_response()),
        }
    }
}

impl Write {
    async fn read(request: Request) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        let style = style_of(parts.uri.path());
        let Some(Who(caller)) = parts.extensions.get::<Who>().cloned() else {
            return Err(Fault::new(Reason::Unauthenticated, "a valid token is needed"));
        };
        let key = key(&parts.headers)?;
        let dry_run = query::flag(&parts.uri, "dryRun")?;
        let bytes = to_bytes(body, LONGEST_BODY).await.map_err(unread)?;
        if !bytes.is_empty() {
            check_content_encoding(&parts.headers)?;
            if style != Style::Baseten {
                check_content_type(&parts.headers)?;
            }
        }
        let digest = digest(&parts.uri, &bytes);
        let body = object(&bytes)?;
        Ok(Self { caller, body, dry_run, method: parts.method, uri: parts.uri, key, digest })
    }

    /// The answer that this very request was given before, if it was.
    fn repeated(&self, shared: &Shared) -> Result<Option<Response>, Fault> {
        let Some(key) = &self.key else { return Ok(None) };
        let key = RequestKey {
            token: self.caller.token.clone(),
            method: self.method.to_string(),
            path: self.uri.path().to_owned(),
            key: key.clone(),
        };
        let view = shared.handle.view();
        match view.fleet().request(&key) {
            None => Ok(None),
            Some(answered) if answered.body_sha256 != self.digest => Err(reused()),
            Some(answered) => {
                let body = self.with_secret(shared, answered.body.clone())?;
                Ok(Some(json_response(answered.status, body, true)))
            }
        }
    }

    /// Carries out `action` and answers what `render` makes of the fleet after it. With a key the
    /// answer is kept in the same record as the effect.
    pub async fn carry_out<F>(
        self,
        shared: &Shared,
        action: Action,
        render: F,
    ) -> Result<Response, Fault>
    where
        F: FnOnce(&Fleet, &Outcome) -> (StatusCode, Value) + Send + 'static,
    {
        let command = Command { caller: self.caller.clone(), action };
        if self.dry_run {
            let caller = command.caller.clone();
            let outcome = shared.handle.what_if(command)?;
            return Ok(super::dry_run::show(shared.handle.view().fleet(), &caller, &outcome));
        }
        let (status, body, repeated) = match &self.key {
            None => {
                let done = shared.handle.submit(command).await?;
                let (status, body) = render(done.view.fleet(), &done.outcome);
                (status.as_u16(), body.to_string(), false)
            }
            Some(key) => {
                let once = Once {
                    method: self.method.to_string(),
                    path: self.uri.path().to_owned(),
                    key: key.clone(),
                    body_sha256: self.digest.clone(),
                    render: Box::new(|fleet, outcome| {
                        let (status, body) = render(fleet, outcome);
                        (status.as_u16(), body.to_string())
                    }),
                };
                let done = shared.handle.submit_once(command, once).await?;
                (done.status, done.body, done.is_repeated)
            }
        };
        let body = self.with_secret(shared, body)?;
        Ok(json_response(status, body, repeated))
    }

    /// How a secret stands in the answer that is kept: not at all where there is a key.
    pub fn shown_secret<'a>(&self, secret: &'a str) -> &'a str {
        if self.key.is_some() { SECRET } else { secret }
    }

    /// The secret that this request makes: with a key always the same, so that a repetition can
    /// show it although it is not kept anywhere.
    pub fn secret(&self, shared: &Shared, opens: Opens) -> Result<String, Fault> {
        let made = match &self.key {
            None => secrets::fresh(opens),
            Some(key) => {
                let token = self.caller.token.as_ref().map_or("", |token| token.as_str());
                let named = [token, self.uri.path(), key, &self.digest].join("\n");
                Ok(shared.sealer.secret(opens, &named))
            }
        };
        made.map_err(|error| Fault::internal(&error))
    }

    fn with_secret(&self, shared: &Shared, body: String) -> Result<String, Fault> {
        if !body.contains(SECRET) || self.key.is_none() {
            return Ok(body);
        }
        let opens = if self.uri.path().ends_with("/joins") { Opens::Join } else { Opens::Api };
        Ok(body.replace(SECRET, &self.secret(shared, opens)?))
    }
}

impl From<SubmitError> for Fault {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::Refused(refusal) => Fault::from(refusal),
            SubmitError::KeyReused => reused(),
            SubmitError::Busy => Fault::new(Reason::Busy, detail).retry_after(1),
            SubmitError::DiskFull => Fault::new(Reason::DiskFull, detail).retry_after(30),
            SubmitError::ShuttingDown => Fault::new(Reason::Busy, detail).retry_after(5),
        }
    }
}

fn reused() -> Fault {
    Fault::new(
        Reason::KeyReused,
        "this idempotency key was used within 24 hours for a request with another body: send a \
         new key for a new request",
    )
}

/// A JSON answer.
fn json_response(status: u16, body: String, repeated: bool) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if repeated {
        let yes = axum::http::HeaderValue::from_static("true");
        response.headers_mut().insert("idempotency-replayed", yes);
    }
    response
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let good = |key: &&str| {
        (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic())
    };
    match value.to_str().ok().filter(good) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Fault::field(
            "Idempotency-Key",
            "it is no key",
            format!("1 to {LONGEST_KEY} visible ASCII characters"),
        )),
    }
}

/// Why a body could not be read to its end.
fn unread(error: axum::Error) -> Fault {
    let error = error.into_inner();
    if error.is::<http_body_util::LengthLimitError>() {
        let detail = format!("the body is too large: accepted are {LONGEST_BODY} bytes");
        return Fault::new(Reason::TooLarge, detail);
    }
    Fault::new(Reason::Unreadable, format!("the body does not arrive whole: {error}"))
}

/// A body of another type was made for somebody else; a missing type is forgiven.
fn check_content_type(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(kind) = content_type(headers) else { return Ok(()) };
    if kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("Content-Type: it is `{kind}`; accepted: application/json");
    Err(Fault::new(Reason::MediaType, detail))
}

/// Whoever speaks another of Connect's encodings could not read the answer either, so this is asked
/// of an empty body too.
pub fn check_connect(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(kind) = content_type(headers).filter(|kind| kind != "application/json") else {
        return Ok(());
    };
    let detail = format!(
        "Content-Type: it is `{kind}`; accepted: application/json. Connect is spoken in JSON here, \
         not in binary protobuf, in streams or as gRPC: have the client use its JSON codec"
    );
    Err(Fault::new(Reason::MediaType, detail))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A small body gains nothing by compression, and one that grows when it is opened is a trap.
fn check_content_encoding(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(coding) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    let coding = coding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    if coding == "identity" {
        return Ok(());
    }
    let detail =
        format!("Content-Encoding: it is `{coding}`; accepted: bodies without compression");
    Err(Fault::new(Reason::MediaType, detail))
}

/// What the request asks for beside its path: a key stands for this and nothing else.
fn digest(uri: &Uri, bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(uri.query().unwrap_or_default().as_bytes());
    hash.update([0]);
    hash.update(bytes);
    hex::encode(hash.finalize())
}

/// The body as an object; nothing at all counts as an empty one.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let unreadable = |detail: String| Fault::new(Reason::Unreadable, detail);
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| unreadable(format!("the body is not JSON: {error}")))?;
    if depth(&value) > DEEPEST {
        return Err(unreadable(format!("the body is nested deeper than {DEEPEST} levels")));
    }
    match value {
        Value::Object(map) => Ok(map),
        other => {
            let kind = super::fields::kind(&other);
            Err(unreadable(format!("the body is {kind}; accepted: a JSON object")))
        }
    }
}

/// How deep a value nests; its recursion is bounded by the JSON parser's own limit.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
