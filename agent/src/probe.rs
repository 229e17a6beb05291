//! Looks at an engine: its health, one real generation as the only proof of readiness, and its
//! metrics.
//!
//! Engines lie differently while they load: a refused connection, 503 and Triton's 400 all mean
//! "not yet"; an answer without a generated token means nothing at all. What a status means is in
//! the engine's definition.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use wharfage_agent_core::input::Probe;
use wharfage_shared::replica::EngineLoad;

use crate::engines::load;
use crate::engines::wire::Wire;
use crate::engines::{Engine, Prove, ProveKind};
use crate::guard::record::Params;

/// Health and metrics must answer within this long.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// An engine that does not answer a drain is not waited for: its deadline runs.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Eight large GPUs copy their weights to the host within this long; the step's deadline is earlier.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(600);

/// No engine's answer to a probe is larger.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// A metrics page with every histogram of many models may be large.
const LARGEST_PAGE: usize = 8 * 1024 * 1024;

/// Where and how one engine is probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its loopback port.
    pub port: u16,
    /// The port of its metrics.
    pub metrics_port: u16,
    /// The path of its health.
    pub health: String,
    /// How it proves that it works.
    pub prove: Prove,
    /// What its statuses and metrics mean.
    pub wire: Wire,
    /// The name that requests use.
    pub model: String,
    /// It is a member that does not serve: that its process runs is all that can be proven of it.
    pub follows: bool,
}

impl Target {
    /// An engine of this definition on these ports.
    pub fn of(engine: &Engine, model: &str, port: u16, metrics_port: Option<u16>) -> Self {
        Self {
            port,
            metrics_port: metrics_port.unwrap_or(port),
            health: engine.health.clone(),
            prove: engine.prove.clone(),
            wire: engine.wire(),
            model: model.to_owned(),
            follows: false,
        }
    }
}

impl From<Params> for Target {
    fn from(params: Params) -> Self {
        let named = params.wire.metrics.as_ref().and_then(|metrics| metrics.port.as_ref());
        let metrics_port = named.and_then(|name| params.further_ports.get(name)).copied();
        Self {
            port: params.engine_port,
            metrics_port: metrics_port.unwrap_or(params.engine_port),
            health: params.health,
            prove: params.prove,
            wire: params.wire,
            follows: params.order.gang.as_ref().is_some_and(|gang| !gang.leads()),
            model: params.order.model_name,
        }
    }
}

/// Looks once.
pub async fn look(target: &Target, prove: bool) -> Probe {
    if target.follows {
        // Its end is told by its guard; the leader's generation proves all of them.
        return if prove { Probe::Proven } else { Probe::Healthy };
    }
    let paths = [Some(&target.health), target.wire.readiness.path.as_ref()];
    for path in paths.into_iter().flatten() {
        if let Some(saw) = not_up(target, path).await {
            return saw;
        }
    }
    if !prove {
        return Probe::Healthy;
    }
    let (path, body) = question(target);
    let timeout = Duration::from_secs(u64::from(target.prove.timeout_seconds));
    let asked = Asked { port: target.port, path: &path, limit: LARGEST_ANSWER };
    match ask(asked, Some(body), timeout).await {
        Err(Trouble::Refused) => Probe::Loading,
        Err(Trouble::Other(why)) => Probe::Failed(format!("the one-token generation {why}")),
        Ok((status, _)) if target.prove.loading.contains(&status.as_u16()) => Probe::Loading,
        Ok((status, _)) if target.prove.busy.contains(&status.as_u16()) => Probe::Busy,
        Ok((status, _)) if !status.is_success() => {
            Probe::Failed(format!("the one-token generation answers {status}"))
        }
        Ok((_, body)) if is_proof(&target.prove, &body) => Probe::Proven,
        Ok(_) => Probe::Failed("the one-token generation answers without a token".to_owned()),
    }
}

/// What its health (or readiness) says, unless that is good.
async fn not_up(target: &Target, path: &str) -> Option<Probe> {
    let path = path.replace("{model_name}", &in_path(&target.model));
    let asked = Asked { port: target.port, path: &path, limit: LARGEST_ANSWER };
    let readiness = &target.wire.readiness;
    match ask(asked, None, HEALTH_TIMEOUT).await {
        Err(Trouble::Refused) => Some(Probe::Loading),
        Err(Trouble::Other(why)) => Some(Probe::Failed(format!("its health {why}"))),
        Ok((status, _)) if status.is_success() => None,
        Ok((status, _)) if readiness.loading.contains(&status.as_u16()) => Some(Probe::Loading),
        Ok((status, _)) if readiness.dead.contains(&status.as_u16()) => {
            Some(Probe::Dead(format!("its health answers {status}: it will not serve again")))
        }
        Ok((status, _)) => Some(Probe::Failed(format!("its health answers {status}"))),
    }
}

/// Reads its metrics once; nothing where it has none or does not answer.
pub async fn measure(target: &Target) -> Option<EngineLoad> {
    let metrics = target.wire.metrics.as_ref().filter(|_| !target.follows)?;
    let asked = Asked { port: target.metrics_port, path: &metrics.path, limit: LARGEST_PAGE };
    let (status, page) = ask(asked, None, HEALTH_TIMEOUT).await.ok()?;
    let said = load::read(&String::from_utf8_lossy(&page), metrics);
    (status.is_success() && said != EngineLoad::default()).then_some(said)
}

/// Tells it to take nothing more, where its definition says how. It is ended soon after, whatever
/// it answers.
pub async fn drain(target: &Target) {
    if let Some(path) = &target.wire.stop.drain {
        let asked = Asked { port: target.port, path, limit: LARGEST_ANSWER };
        drop(ask(asked, Some(json!({})), DRAIN_TIMEOUT).await);
    }
}

/// Lets vLLM give its GPU memory back, weights kept in the host's; it may take long.
pub async fn sleep(target: &Target) -> Result<(), String> {
    let asked = Asked { port: target.port, path: "/sleep?level=1", limit: LARGEST_ANSWER };
    match ask(asked, Some(json!({})), SLEEP_TIMEOUT).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((StatusCode::NOT_FOUND, _)) => Err("the engine knows no sleep: vLLM does with \
                                               --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
            .to_owned()),
        Ok((status, _)) => Err(format!("the engine answers {status} to sleep")),
        Err(Trouble::Refused) => Err("the engine does not listen".to_owned()),
        Err(Trouble::Other(why)) => Err(format!("the engine {why}")),
    }
}

/// Lets vLLM take its GPU memory again.
pub async fn wake(target: &Target) -> Result<(), String> {
    let asked = Asked { port: target.port, path: "/wake_up", limit: LARGEST_ANSWER };
    match ask(asked, Some(json!({})), SLEEP_TIMEOUT).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, _)) => Err(format!("the engine answers {status} to wake_up")),
        Err(Trouble::Refused) => Err("the engine does not listen".to_owned()),
        Err(Trouble::Other(why)) => Err(format!("the engine {why}")),
    }
}

enum Trouble {
    /// Nobody listens yet.
    Refused,
    /// Half a sentence.
    Other(String),
}

fn question(target: &Target) -> (String, Value) {
    let model = &target.model;
    let (usual, body) = match target.prove.kind {
        ProveKind::Completions => (
            "/v1/completions".to_owned(),
            json!({"model": model, "prompt": "Hello", "max_tokens": 1}),
        ),
        ProveKind::Chat => (
            "/v1/chat/completions".to_owned(),
            json!({
                "model": model,
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 1,
            }),
        ),
        ProveKind::Embeddings => {
            ("/v1/embeddings".to_owned(), json!({"model": model, "input": "Hello"}))
        }
        ProveKind::Generate => (
            "/generate".to_owned(),
            json!({"inputs": "Hello", "parameters": {"max_new_tokens": 1}}),
        ),
        ProveKind::TritonGenerate => (
            "/v2/models/{model_name}/generate".to_owned(),
            json!({"text_input": "Hello", "max_tokens": 1}),
        ),
        ProveKind::Request => {
            let body = target.prove.body.as_deref().unwrap_or_default();
            let body = serde_json::from_str(body).unwrap_or_default();
            ("/".to_owned(), with_model(body, model))
        }
    };
    let path = target.prove.path.as_ref().unwrap_or(&usual);
    (path.replace("{model_name}", &in_path(model)), body)
}

/// Fills the model's name into the texts of a body, so that no name can change its shape.
fn with_model(body: Value, model: &str) -> Value {
    match body {
        Value::String(text) => Value::String(text.replace("{model_name}", model)),
        Value::Array(items) => items.into_iter().map(|item| with_model(item, model)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, with_model(value, model))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

/// A model's name as one segment of a path.
fn in_path(model: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = model.bytes().map(|byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    });
    escaped.collect()
}

/// A well-formed answer with something generated in it.
fn is_proof(prove: &Prove, body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return false };
    match prove.kind {
        ProveKind::Completions => answer["choices"][0]["text"].is_string(),
        ProveKind::Chat => answer["choices"][0]["message"].is_object(),
        ProveKind::Embeddings => {
            answer["data"][0]["embedding"].as_array().is_some_and(|numbers| !numbers.is_empty())
        }
        // TGI answers one object, or a list of them when it was asked so.
        ProveKind::Generate => {
            answer["generated_text"].is_string() || answer[0]["generated_text"].is_string()
        }
        ProveKind::TritonGenerate => answer["text_output"].is_string(),
        ProveKind::Request => {
            let expected = prove.expect.as_deref().unwrap_or_default();
            answer.pointer(expected).is_some_and(|found| !found.is_null())
        }
    }
}

/// Where a question goes and how large its answer may be.
struct Asked<'a> {
    port: u16,
    path: &'a str,
    limit: usize,
}

/// Asks with GET, or with POST where there is a body.
async fn ask(
    asked: Asked<'_>,
    body: Option<Value>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), Trouble> {
    match tokio::time::timeout(timeout, exchange(asked, body)).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Other(format!("did not answer within {} s", timeout.as_secs()))),
    }
}

async fn exchange(asked: Asked<'_>, body: Option<Value>) -> Result<(StatusCode, Bytes), Trouble> {
    let Asked { port, path, limit } = asked;
    let stream = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(Trouble::Refused);
        }
        Err(error) => return Err(Trouble::Other(format!("cannot be reached: {error}"))),
    };
    // Without it the last part of a small request waits for an acknowledgement (40 ms).
    drop(stream.set_nodelay(true));
    let broke = |error: hyper::Error| Trouble::Other(format!("broke off: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let connection = tokio::spawn(connection);
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("127.0.0.1:{port}"))
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(body))
        .map_err(|error| Trouble::Other(format!("cannot be asked: {error}")))?;
    let answer = sender.send_request(request).await.map_err(broke)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), limit).collect().await;
    connection.abort();
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => Err(Trouble::Other(format!("broke off: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Serves each canned answer to one connection, in order.
    async fn engine(answers: &'static [(&'static str, &'static str)]) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.expect("a probe");
                let mut asked = [0; 4096];
                drop(stream.read(&mut asked).await);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Target {
            port,
            metrics_port: port,
            health: "/health".into(),
            prove: Prove { timeout_seconds: 5, ..Prove::default() },
            wire: Wire::default(),
            model: "small".into(),
            follows: false,
        }
    }

    #[tokio::test]
    async fn engines_that_are_loading_in_their_own_ways_are_loading() {
        // Bound and not listening: it refuses, and no other test can be given it.
        let closed = TcpSocket::new_v4().expect("a socket");
        closed.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let port = closed.local_addr().expect("bound").port();
        let refused = Target { port, ..engine(&[]).await };
        assert_eq!(look(&refused, true).await, Probe::Loading);
        for status in ["503 Service Unavailable", "400 Bad Request"] {
            let answers: &'static [(&str, &str)] = Box::leak(Box::new([(status, "")]));
            assert_eq!(look(&engine(answers).await, true).await, Probe::Loading, "{status}");
        }
    }

    #[tokio::test]
    async fn only_a_generated_token_is_proof() {
        let healthy = engine(&[("200 OK", "")]).await;
        assert_eq!(look(&healthy, false).await, Probe::Healthy);
        let liar = engine(&[("200 OK", ""), ("200 OK", r#"{"choices":[]}"#)]).await;
        assert!(matches!(look(&liar, true).await, Probe::Failed(_)));
        let broken = engine(&[("200 OK", ""), ("500 Internal Server Error", "")]).await;
        assert!(matches!(look(&broken, true).await, Probe::Failed(_)));
        let honest = engine(&[("200 OK", ""), ("200 OK", r#"{"choices":[{"text":" a"}]}"#)]).await;
        assert_eq!(look(&honest, true).await, Probe::Proven);
    }
}
