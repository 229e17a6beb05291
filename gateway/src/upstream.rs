//! One replica as the gateway knows it: its count of requests and its open connections.
//!
//! HTTP/1.1 over mTLS to the replica's guard. A connection carries one request at a time and is
//! kept for the next; one that is given up in the middle is closed, which is how the engine learns
//! that nobody waits for the rest.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use wharfage_link::socket;
use wharfage_link::tls::GuardConnector;
use wharfage_shared::gateway::{RouteReplica, Served};
use wharfage_shared::ids::{NodeId, ReplicaId};

use crate::counts::Counts;

/// For TCP and TLS together: a guard is a few network hops away or it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Engines close idle connections after 5 s; an older one would be a race.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Idle connections kept for one replica: more than an engine's usual concurrency is waste.
const MOST_IDLE: usize = 256;

/// A replica that may take requests, or still has some.
pub struct Upstream {
    /// Which.
    pub id: ReplicaId,
    node: NodeId,
    address: String,
    in_flight: AtomicU32,
    idle: Mutex<Vec<(Link, Instant)>>,
    retired: AtomicBool,
    completed: AtomicU64,
    moved: AtomicU64,
    cut: AtomicU64,
}

/// A connection to a guard. Dropped, it is closed at once.
pub struct Link {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

/// One request at a replica; counts down when it is dropped.
pub struct Seat {
    upstream: Arc<Upstream>,
    counts: Arc<Counts>,
}

impl Seat {
    /// Where it is.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let last = self.upstream.in_flight.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.upstream.is_retired() {
            // Somebody waits to hear that this replica is empty.
            self.counts.urgent.notify_one();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a replica gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection ended before the head of an answer.
    #[error("the connection ended before an answer: {0}")]
    Lost(#[source] hyper::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Silent,
}

impl Upstream {
    /// A replica that nothing was sent to yet.
    pub fn new(route: &RouteReplica) -> Self {
        Self {
            id: route.id,
            node: route.node.clone(),
            address: route.address.clone(),
            in_flight: AtomicU32::new(0),
            idle: Mutex::new(Vec::new()),
            retired: AtomicBool::new(false),
            completed: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// What became of its requests: of those that came to their end, the ones after it was taken
    /// out of the routes.
    pub fn served(&self) -> Served {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Served {
            completed: count(&self.completed),
            moved: count(&self.moved),
            cut: count(&self.cut),
        }
    }

    /// A request here has its whole answer.
    pub fn completed(&self) {
        if self.is_retired() {
            self.completed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request here goes to another replica.
    pub fn moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// A request here gets no whole answer.
    pub fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this is that replica at that address.
    pub fn is(&self, route: &RouteReplica) -> bool {
        self.id == route.id && self.node == route.node && self.address == route.address
    }

    /// The node that it runs on.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Requests there now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether it has been taken out of the routes.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// It is in the routes in use.
    pub fn admit(&self) {
        self.retired.store(false, Ordering::SeqCst);
    }

    /// Takes it out of the routes: requests there go on, no connection is kept for another.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Counts one more request, if the count is still `seen` and it is still in the routes.
    ///
    /// Count first, ask then; whoever takes it out of the routes sets the mark first and reads the
    /// count then. One of the two sees the other: nothing is sent to a replica whose removal was
    /// acknowledged with a count that lacks this request.
    pub fn enter(self: &Arc<Self>, seen: u32, counts: &Arc<Counts>) -> Option<Seat> {
        let (order, next) = (Ordering::SeqCst, seen.saturating_add(1));
        self.in_flight.compare_exchange(seen, next, order, order).ok()?;
        let seat = Seat { upstream: Arc::clone(self), counts: Arc::clone(counts) };
        (!self.is_retired()).then_some(seat)
    }

    /// Sends the request over a kept connection, or over a new one.
    ///
    /// A kept connection may have been closed by the other end at this very moment; the request
    /// then goes out once more over a new one.
    pub async fn send(
        &self,
        connector: &GuardConnector,
        request: impl Fn() -> Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<(Response<Incoming>, Link), Failure> {
        while let Some(mut link) = self.kept() {
            if link.sender.ready().await.is_err() {
                continue;
            }
            match tokio::time::timeout(patience, link.sender.send_request(request())).await {
                Ok(Ok(response)) => return Ok((response, link)),
                Ok(Err(_)) => break,
                Err(_) => return Err(Failure::Silent),
            }
        }
        let mut link = self.dial(connector).await.map_err(Failure::Connect)?;
        match tokio::time::timeout(patience, link.sender.send_request(request())).await {
            Ok(Ok(response)) => Ok((response, link)),
            Ok(Err(error)) => Err(Failure::Lost(error)),
            Err(_) => Err(Failure::Silent),
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub fn keep(&self, link: Link) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock, so that `retire` cannot run between the question and the push.
        if !self.is_retired() && !link.sender.is_closed() && idle.len() < MOST_IDLE {
            idle.push((link, Instant::now()));
        }
    }

    /// The connection that was used last, if one is young enough.
    fn kept(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((link, since)) = idle.pop() {
            if since.elapsed() >= IDLE_CONNECTION {
                // What lies below is older still.
                idle.clear();
            } else if !link.sender.is_closed() {
                return Some(link);
            }
        }
        None
    }

    async fn dial(&self, connector: &GuardConnector) -> io::Result<Link> {
        let connect = async {
            let stream = socket::dial(&self.address, CONNECT_TIMEOUT).await?;
            connector.connect(&self.node, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let task = tokio::spawn(async move {
            // How it ended is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Link { sender, task: task.abort_handle() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_picked_from_an_old_table_does_not_enter_a_removed_replica() {
        let route = RouteReplica {
            id: ReplicaId(1),
            node: NodeId::from("node-1"),
            address: "127.0.0.1:1".into(),
        };
        let (upstream, counts) = (Arc::new(Upstream::new(&route)), Arc::new(Counts::default()));
        let seat = upstream.enter(0, &counts).expect("in the routes");
        assert!(upstream.enter(0, &counts).is_none(), "another request was faster");
        upstream.retire();
        assert!(upstream.enter(1, &counts).is_none(), "removed");
        assert_eq!(upstream.in_flight(), 1, "what is there goes on");
        drop(seat);
        assert_eq!(upstream.in_flight(), 0);
        upstream.admit();
        assert!(upstream.enter(0, &counts).is_some(), "back in the routes");
    }
}
