//! Looks at an engine: its health, and one real generation as the only proof of readiness.
//!
//! Engines lie differently while they load: a refused connection, 503 and Triton's 400 all mean
//! "not yet"; an answer without a generated token means nothing at all.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wharfage_agent_core::input::Probe;

use crate::engines::{Prove, ProveKind};

/// Health must answer within this long.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// No engine's answer to a probe is larger.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Where and how one engine is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its loopback port.
    pub port: u16,
    /// The path of its health.
    pub health: String,
    /// How it proves that it works.
    pub prove: Prove,
    /// The name that requests use.
    pub model: String,
}

/// Looks once.
pub async fn look(target: &Target, prove: bool) -> Probe {
    match ask(target, Method::GET, &target.health, None, HEALTH_TIMEOUT).await {
        Err(Trouble::Refused) => return Probe::Loading,
        Err(Trouble::Other(why)) => return Probe::Failed(format!("its health {why}")),
        Ok((StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_REQUEST, _)) => {
            return Probe::Loading;
        }
        Ok((status, _)) if !status.is_success() => {
            return Probe::Failed(format!("its health answers {status}"));
        }
        Ok(_) if !prove => return Probe::Healthy,
        Ok(_) => {}
    }
    let (path, body) = question(target);
    let timeout = Duration::from_secs(u64::from(target.prove.timeout_seconds));
    match ask(target, Method::POST, &path, Some(body), timeout).await {
        Err(Trouble::Refused) => Probe::Loading,
        Err(Trouble::Other(why)) => Probe::Failed(format!("the one-token generation {why}")),
        Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => Probe::Loading,
        Ok((status, _)) if !status.is_success() => {
            Probe::Failed(format!("the one-token generation answers {status}"))
        }
        Ok((_, body)) if is_proof(target.prove.kind, &body) => Probe::Proven,
        Ok(_) => Probe::Failed("the one-token generation answers without a token".to_owned()),
    }
}

enum Trouble {
    /// Nobody listens yet.
    Refused,
    /// Half a sentence.
    Other(String),
}

fn question(target: &Target) -> (String, serde_json::Value) {
    let model = &target.model;
    let (usual, body) = match target.prove.kind {
        ProveKind::Completions => (
            "/v1/completions",
            serde_json::json!({"model": model, "prompt": "Hello", "max_tokens": 1}),
        ),
        ProveKind::Chat => (
            "/v1/chat/completions",
            serde_json::json!({
                "model": model,
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 1,
            }),
        ),
        ProveKind::Embeddings => {
            ("/v1/embeddings", serde_json::json!({"model": model, "input": "Hello"}))
        }
    };
    (target.prove.path.clone().unwrap_or_else(|| usual.to_owned()), body)
}

/// A well-formed answer with something generated in it.
fn is_proof(kind: ProveKind, body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    match kind {
        ProveKind::Completions => answer["choices"][0]["text"].is_string(),
        ProveKind::Chat => answer["choices"][0]["message"].is_object(),
        ProveKind::Embeddings => {
            answer["data"][0]["embedding"].as_array().is_some_and(|numbers| !numbers.is_empty())
        }
    }
}

async fn ask(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), Trouble> {
    match tokio::time::timeout(timeout, exchange(target.port, method, path, body)).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Other(format!("did not answer within {} s", timeout.as_secs()))),
    }
}

async fn exchange(
    port: u16,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<(StatusCode, Bytes), Trouble> {
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
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    connection.abort();
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => Err(Trouble::Other(format!("broke off: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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
            health: "/health".into(),
            prove: Prove { timeout_seconds: 5, ..Prove::default() },
            model: "small".into(),
        }
    }

    #[tokio::test]
    async fn engines_that_are_loading_in_their_own_ways_are_loading() {
        let refused = {
            let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = closed.local_addr().expect("bound").port();
            Target { port, ..engine(&[]).await }
        };
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
