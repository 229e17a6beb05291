//! An engine behind a guard's mTLS port: it answers as the test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use wharfage_link::IdentityDir;
use wharfage_link::tls::guard_acceptor;

/// One answer.
pub enum Act {
    /// This status, at once.
    Status(u16),
    /// Server-sent events as the test produces them; an error ends the connection.
    Stream(mpsc::Receiver<Result<Bytes, std::io::Error>>),
    /// An answer once the test says so.
    After(Arc<Notify>),
}

/// A producer of a stream's chunks.
pub type Producer = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// A request as the engine saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: axum::http::HeaderMap,
    pub body: Value,
}

/// An engine with its guard.
#[derive(Clone)]
pub struct Engine {
    pub name: &'static str,
    pub address: String,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrived: Arc<Notify>,
    connections: Arc<AtomicU32>,
}

impl Engine {
    /// Starts a guard with the node's identity.
    pub async fn start(name: &'static str, identity: IdentityDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let engine = Self {
            name,
            address,
            script: Arc::default(),
            seen: Arc::default(),
            arrived: Arc::default(),
            connections: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(engine.clone());
        let acceptor = guard_acceptor(identity).expect("a complete folder");
        let connections = engine.connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (router, acceptor) = (router.clone(), acceptor());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = TowerToHyperService::new(router);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        engine
    }

    /// What the next request gets; without it a small JSON answer.
    pub fn next(&self, act: Act) {
        self.script.lock().expect("no panic").push_back(act);
    }

    /// The next request gets a stream, produced by the returned end.
    pub fn next_streams(&self) -> Producer {
        let (producer, chunks) = mpsc::channel(1);
        self.next(Act::Stream(chunks));
        producer
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// How many connections gateways have made.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Until one more request has arrived.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

async fn answer(State(engine): State<Engine>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    let seen = Seen {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    engine.seen.lock().expect("no panic").push(seen);
    let act = engine.script.lock().expect("no panic").pop_front();
    engine.arrived.notify_one();
    match act {
        Some(Act::Status(status)) => {
            let status = axum::http::StatusCode::from_u16(status).expect("a status");
            (status, Json(json!({"by": engine.name}))).into_response()
        }
        Some(Act::Stream(chunks)) => {
            let stream = futures_util::stream::unfold(chunks, async |mut chunks| {
                chunks.recv().await.map(|chunk| (chunk, chunks))
            });
            let kind = [("content-type", "text/event-stream")];
            (kind, Body::from_stream(stream)).into_response()
        }
        Some(Act::After(go)) => {
            go.notified().await;
            completion(engine.name)
        }
        None => completion(engine.name),
    }
}

fn completion(by: &str) -> Response {
    Json(json!({"by": by, "usage": {"prompt_tokens": 3, "total_tokens": 10}})).into_response()
}
