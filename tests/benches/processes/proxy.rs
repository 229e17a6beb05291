//! The least that a Rust proxy can do: parse the body for the model's name and pass both ways.
//!
//! A process of its own (this program again), so that its CPU is counted apart.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Names the engine's port to the child.
const CHILD: &str = "WHARFAGE_BENCH_PROXY";

/// The running proxy.
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    child: Child,
}

impl Proxy {
    /// Starts it before the engine of this port.
    pub async fn start(engine: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(CHILD, engine.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let line = BufReader::new(stdout).lines().next_line().await;
        let address = line.expect("readable").expect("its address");
        Self { url: format!("http://{address}"), child }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id().expect("it runs") as i32
    }
}

/// The engine's port, if this process is the proxy.
pub fn is_child() -> Option<u16> {
    std::env::var(CHILD).ok()?.parse().ok()
}

/// Serves until the end of standard input.
pub async fn serve(engine: u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let engine = SocketAddr::from(([127, 0, 0, 1], engine));
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let client = client.clone();
            let service = service_fn(move |request| pass(client.clone(), engine, request));
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                // A caller that goes away ends its connection only.
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    };
    let mut input = [0; 16];
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        () = accept => {}
        _ = stdin.read(&mut input) => {}
    }
}

type Forward = Client<HttpConnector, Full<Bytes>>;

async fn pass(
    client: Forward,
    engine: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let parsed: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(parsed["model"].is_string(), "a request names its model");
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = format!("http://{engine}{path}").parse().expect("a URI");
    let mut forward = Request::new(Full::new(body));
    *forward.method_mut() = head.method;
    *forward.uri_mut() = uri;
    forward.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(client.request(forward).await.expect("the engine answers"))
}
