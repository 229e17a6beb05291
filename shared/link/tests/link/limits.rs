//! The listener sheds clients that stall, and refuses heads that two parsers could read differently.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharfage_link::{Limits, serve};

/// Longer than anything takes; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    address: String,
    shutdown: CancellationToken,
    started: Arc<Notify>,
    go_on: Arc<Notify>,
    ended: JoinHandle<()>,
}

async fn server(limits: Limits) -> Server {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (started.clone(), go_on.clone());
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/", post(async |body: String| body))
        .route(
            "/slow",
            get(async move || {
                tell.notify_one();
                wait.notified().await;
                "done"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let shutdown = CancellationToken::new();
    let ended = tokio::spawn(serve(listener, router, None, limits, shutdown.clone()));
    Server { address, shutdown, started, go_on, ended }
}

/// Sends `bytes`, keeps the connection open, and reads what comes until the server closes.
async fn until_closed(server: &Server, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&server.address).await.expect("it listens");
    stream.write_all(bytes.as_bytes()).await.expect("open");
    let mut heard = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard));
    // A reset is an end as well.
    let _ = closed.await.expect("the server closes the connection by itself");
    String::from_utf8_lossy(&heard).into_owned()
}

fn impatient() -> Limits {
    let short = Duration::from_millis(40);
    Limits { head: short, body_silence: short, ..Limits::default() }
}

#[tokio::test]
async fn a_client_that_stalls_is_closed_in_every_phase() {
    let server = server(impatient()).await;
    assert_eq!(until_closed(&server, "").await, "", "a connection without a byte");
    assert_eq!(until_closed(&server, "GET / HTTP/1.1\r\nHost:").await, "", "half a head");
    let idle = until_closed(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(idle.ends_with("hello"), "idle after an answer: {idle}");
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    let stalled = until_closed(&server, body).await;
    assert!(stalled.starts_with("HTTP/1.1 400"), "a body that stops: {stalled}");
}

#[tokio::test]
async fn an_ambiguous_request_is_answered_400_and_nothing_behind_it_is_read() {
    let server = server(Limits::default()).await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let heard = until_closed(&server, &format!("{head}{inner}")).await;
        assert!(heard.contains(" 400 Bad Request\r\n"), "{head:?} gave {heard:?}");
        assert_eq!(heard.matches("\r\ndate: ").count(), 1, "{head:?} gave {heard:?}");
    }
}

#[tokio::test]
async fn pipelined_honest_requests_are_all_answered() {
    let server = server(impatient()).await;
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nho";
    let heard = until_closed(&server, &format!("{chunked}{sized}{chunked}")).await;
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 3, "{heard}");
}

#[tokio::test]
async fn a_request_in_flight_at_shutdown_is_answered_and_nothing_new_is_taken() {
    let server = server(Limits::default()).await;
    let mut stream = TcpStream::connect(&server.address).await.expect("it listens");
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("open");
    server.started.notified().await;
    server.shutdown.cancel();
    // The listener is closed before the wait for requests in flight begins.
    let refused = async { while TcpStream::connect(&server.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("the port is given back");
    server.go_on.notify_one();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("a whole answer");
    assert!(heard.ends_with("done"), "{heard}");
    tokio::time::timeout(PATIENCE, server.ended).await.expect("ends").expect("well");
}
