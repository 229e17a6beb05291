//! Talks to the scheduler's public listener.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::exit::Failure;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Where the scheduler is and who asks.
pub struct Client {
    url: String,
    token: String,
    http: reqwest::Client,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    token: Option<String>,
}

impl Client {
    /// From `WHARFAGE_URL` and `WHARFAGE_TOKEN`, else `~/.config/wharfage/config.toml`.
    pub fn from_environment() -> Result<Self, Failure> {
        let (path, file) = file()?;
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let of_file = file.url.map(|url| (format!("{}: url", path.display()), url));
        let url = set("WHARFAGE_URL").map(|url| ("WHARFAGE_URL".to_owned(), url)).or(of_file);
        let token = set("WHARFAGE_TOKEN").or(file.token);
        let (Some((source, url)), Some(token)) = (url, token) else {
            return Err(Failure::usage(
                "which scheduler? Set WHARFAGE_URL and WHARFAGE_TOKEN, or write url and token to \
                 ~/.config/wharfage/config.toml",
            ));
        };
        check_url(&source, &url)?;
        Self::new(url, token)
    }

    /// For this scheduler and token.
    pub fn new(url: String, token: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Failure::check(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, http })
    }

    /// Who asks.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.http.get(format!("{}{path}", self.url)).timeout(ANSWER_WITHIN);
        self.answer(request).await
    }

    /// `POST path`.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.http.post(format!("{}{path}", self.url)).timeout(ANSWER_WITHIN);
        self.answer(request.json(body)).await
    }

    /// `PATCH path`.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.http.patch(format!("{}{path}", self.url)).timeout(ANSWER_WITHIN);
        self.answer(request.json(body)).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        let request = self.http.delete(format!("{}{path}", self.url)).timeout(ANSWER_WITHIN);
        self.answer(request).await
    }

    /// `GET path` as a stream that does not end by itself.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response, Failure> {
        let request = self.http.get(format!("{}{path}", self.url));
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(answer).await)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        request.bearer_auth(&self.token).send().await.map_err(|error| {
            Failure::unavailable(format!(
                "the scheduler at {} does not answer ({}); is it running, and is WHARFAGE_URL \
                 right?",
                self.url,
                root_cause(&error)
            ))
        })
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        let body = answer.bytes().await.map_err(|error| {
            Failure::unavailable(format!("the answer broke off: {}", root_cause(&error)))
        })?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|error| Failure::check(format!("the answer is no JSON: {error}")))
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A problem document as one sentence.
async fn refused(answer: reqwest::Response) -> Failure {
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
    let sentence = [text("detail"), text("message"), text("title")]
        .into_iter()
        .find(|sentence| !sentence.is_empty())
        .map_or_else(|| format!("the scheduler answered {status}"), str::to_owned);
    let field = match text("field") {
        "" => String::new(),
        field => format!(" (field {field})"),
    };
    Failure::check(format!("{sentence}{field} [{}]", status.as_u16()))
}

/// The file of settings and what stands in it; nothing where it is not there.
fn file() -> Result<(PathBuf, File), Failure> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let path = PathBuf::from(home).join(".config/wharfage/config.toml");
    let bad = |error: String| Failure::configuration(format!("{}: {error}", path.display()));
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| bad(error.to_string()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => File::default(),
        Err(error) => return Err(bad(format!("cannot be read: {error}"))),
    };
    Ok((path, file))
}

fn check_url(source: &str, url: &str) -> Result<(), Failure> {
    let parsed = reqwest::Url::parse(url).ok();
    if parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "{source}: `{url}` is no address of a scheduler; accepted: http:// or https:// and a host, \
         as in http://127.0.0.1:7070"
    )))
}
