//! The accept loop of every listener: HTTP/1.1 with limits on time, size and number.
//!
//! `axum::serve` waits for ever on a client that never finishes its head; here each phase of a
//! connection that the client could stretch has an end. How long an answer may take is the router's
//! own business, because long polls and event streams are answers too.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::authority::Authority;
use crate::head::{LONGEST_HEAD, Verdicts, Watched};
use crate::identity::IdentityDir;
use crate::peer::{Facts, Peer};
use crate::reload::Reloaded;
use crate::socket;
use crate::tls::{self, guard_config, machines_config, public_config};
use crate::verify::spki_sha256;

/// How much a listener bears.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections from one address at one time, loopback and machines with a certificate exempt;
    /// `None` where many clients share one address.
    pub per_address: Option<u32>,
    /// For the TLS handshake, for a request's head, and between requests.
    pub head: Duration,
    /// The longest silence inside a request's body.
    pub body_silence: Duration,
    /// How long requests may go on after shutdown was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: Some(64),
            head: Duration::from_secs(10),
            body_silence: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// For the listener of agents and gateways: each holds a connection or two all the time.
    pub fn machines() -> Self {
        Self { connections: 65_536, ..Self::default() }
    }
}

/// The TLS side of a listener.
pub struct ServerTls {
    config: Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>,
}

impl ServerTls {
    /// For agents and gateways: a client certificate may be shown (enrolment has none) and then
    /// must be of `authority`. Handlers decide by [`Peer`]. `names` are further names or addresses
    /// at which the listener is reached.
    pub fn machines(authority: &Authority, names: &[String]) -> Result<Self, tls::Error> {
        let config = machines_config(authority, names)?;
        Ok(Self { config: Box::new(move || Arc::clone(&config)) })
    }

    /// With a node's certificate, for gateways only; read again when renewed.
    pub fn guard(identity: IdentityDir) -> Result<Self, tls::Error> {
        let current = Reloaded::open(identity.watched(), move || guard_config(&identity))?;
        Ok(Self { config: Box::new(move || Arc::clone(&*current.current())) })
    }

    /// With a certificate chain and key in PEM files that people provide; read again when changed.
    pub fn public(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, tls::Error> {
        let (certificate, key) = (certificate.into(), key.into());
        let files = vec![certificate.clone(), key.clone()];
        let current = Reloaded::open(files, move || public_config(&certificate, &key))?;
        Ok(Self { config: Box::new(move || Arc::clone(&*current.current())) })
    }
}

/// Serves `router` on `listener` until `shutdown`, then lets requests in flight end within the
/// grace. Handlers find an `Extension<Peer>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<ServerTls>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let shared = Arc::new(Shared {
        router,
        tls,
        per_address: Mutex::new(HashMap::new()),
        shutdown: shutdown.clone(),
        limits,
    });
    let permits = Arc::new(Semaphore::new(shared.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => {
                if let Some((stream, addr, permit)) = accepted {
                    connections.spawn(connection(Arc::clone(&shared), stream, addr, permit));
                }
            }
        }
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.limits.grace, all_done).await.is_err() {
        tracing::warn!("requests were still in flight at the end of the shutdown's grace");
        connections.shutdown().await;
    }
}

struct Shared {
    router: Router,
    tls: Option<ServerTls>,
    limits: Limits,
    per_address: Mutex<HashMap<IpAddr, u32>>,
    shutdown: CancellationToken,
}

/// The next connection once there is room for it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, addr)) => Some((stream, addr, permit)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of file descriptors: a short pause instead of a busy loop.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let Ok(stream) = socket::prepared(stream) else { return };
    let Some(tls) = &shared.tls else {
        let Ok(_seat) = Seat::take(&shared, addr.ip()) else { return };
        return speak(&shared, stream, addr, None).await;
    };
    // A seat for the handshake already: it is what a flood would cost us.
    let Ok(seat) = Seat::take(&shared, addr.ip()) else { return };
    let acceptor = TlsAcceptor::from((tls.config)());
    let handshake = tokio::time::timeout(shared.limits.head, acceptor.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(peer.addr = %addr, %error, "the TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(Facts::read);
    // Who has a certificate of ours does not count among the strangers of its address.
    let _seat = if shown.is_some() { None } else { Some(seat) };
    speak(&shared, stream, addr, shown).await;
}

/// One place among the connections of an address.
struct Seat {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Seat {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Result<Self, ()> {
        let limit = match shared.limits.per_address {
            Some(limit) if !address.is_loopback() => limit,
            _ => return Ok(Self { shared: Arc::clone(shared), address: None }),
        };
        let mut seats = shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(address).or_insert(0);
        if *taken >= limit {
            return Err(());
        }
        *taken += 1;
        Ok(Self { shared: Arc::clone(shared), address: Some(address) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut seats = self.shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&address);
            }
        }
    }
}

/// HTTP/1.1 on one connection.
async fn speak<S>(shared: &Arc<Shared>, stream: S, addr: SocketAddr, shown: Option<Facts>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let verdicts = Verdicts::default();
    let io = TokioIo::new(Watched::new(stream, verdicts.clone()));
    let shown = shown.map(|facts| {
        let key_sha256 = spki_sha256(&facts.spki);
        (facts, key_sha256)
    });
    let shown = Arc::new(shown);
    let service = service_fn(|request: Request<Incoming>| {
        let verdict = verdicts.next();
        let shared = Arc::clone(shared);
        let shown = Arc::clone(&shown);
        async move {
            if let Some(objection) = verdict {
                return Ok::<_, Infallible>(malformed(objection));
            }
            let silence = shared.limits.body_silence;
            let mut request = request.map(|body| Body::new(Patient::new(body, silence)));
            request.extensions_mut().insert(peer(addr, shown.as_ref().as_ref()));
            shared.router.clone().oneshot(request).await
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head)
        .max_buf_size(LONGEST_HEAD);
    let connection = http.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer.addr = %addr, %error, "a connection ended early");
    }
}

fn peer(addr: SocketAddr, shown: Option<&(Facts, String)>) -> Peer {
    let facts = shown.map(|(facts, _)| facts);
    Peer {
        addr,
        name: facts.and_then(|facts| facts.name.clone()),
        expired: facts.is_some_and(|facts| SystemTime::now() > facts.not_after),
        not_after: facts.map(|facts| facts.not_after),
        key_sha256: shown.map(|(_, key_sha256)| key_sha256.clone()),
    }
}

/// The answer to a head that could be read in two ways; the connection ends with it.
fn malformed(objection: &str) -> Response<Body> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "malformed_request",
        "detail": format!("{objection}."),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A request body that ends with an error when the client falls silent in the middle of it.
struct Patient {
    body: Incoming,
    silence: Duration,
    /// Made at the first wait: most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(body: Incoming, silence: Duration) -> Self {
        Self { body, silence, timer: None }
    }
}

impl HttpBody for Patient {
    type Data = bytes::Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let silence = self.silence;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client fell silent in the middle of the request",
            )))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
