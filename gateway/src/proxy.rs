//! One request: wait for a replica if none is ready, send, try another while nothing of an answer
//! has gone to the client.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use wharfage_shared::ids::ReplicaId;

use crate::counts::{Wait, Waiting};
use crate::errors::Problem;
use crate::gateway::Gateway;
use crate::pick::{Load, least_loaded, share};
use crate::relay::Relay;
use crate::routes::{Deployment, Key, Table};
use crate::selection::Asked;
use crate::upstream::{Failure, Link, Seat, Upstream};

/// How many replicas a request is sent to at most.
const MOST_TRIES: usize = 3;

/// How long a request waits for a replica that should be there: long enough for the routes to
/// follow a replica's end, short enough for a client to hear of a standing failure.
const FAILOVER_WAIT: Duration = Duration::from_secs(30);

/// Headers that concern one connection, or the caller's credentials, and never go further.
const NOT_FORWARDED: [HeaderName; 14] = [
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// A request that has been read and whose caller is known.
pub struct Call {
    /// Who asks.
    pub key: Arc<Key>,
    /// For what.
    pub asked: Asked,
    /// The engine's path.
    pub path: &'static str,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Gets the call answered.
pub async fn answer(gateway: &Arc<Gateway>, call: Call) -> Result<Response<Body>, Problem> {
    let arrived = Instant::now();
    let headers = forwarded(call.headers);
    let request = || outgoing(call.path, &headers, &call.body);
    let ticket = gateway.ticket();
    let mut tried: Vec<ReplicaId> = Vec::new();
    let mut failed: Option<Problem> = None;
    // Where it was last, without an answer.
    let mut left: Option<Arc<Upstream>> = None;
    let mut queue: Option<Queue> = None;
    loop {
        let table = gateway.table();
        let found = table.find(&call.key.organization, &call.asked);
        if found.is_empty() {
            return Err(Problem::model_not_found(call.asked.model()));
        }
        let Some((deployment, seat)) = take_seat(gateway, &found, &tried, ticket) else {
            let known = match queue.take() {
                Some(known) => known,
                None => Queue::enter(gateway, &found, ticket)?,
            };
            let queue = queue.insert(known);
            if queue.next(gateway, &table).await.is_err() {
                if let Some(left) = left {
                    left.cut();
                }
                return Err(failed.unwrap_or_else(|| Problem::no_replica(call.asked.model())));
            }
            continue;
        };
        // It is at a replica now; how long it has waited is forgotten.
        queue = None;
        if !tried.is_empty() {
            gateway.metrics.retried();
        }
        if let Some(left) = left.take() {
            left.moved();
        }
        let replica = seat.upstream().id;
        tried.push(replica);
        let patience = gateway.bounds.answer_timeout;
        let sent = seat.upstream().send(&gateway.connector, request, patience).await;
        let last = tried.len() >= MOST_TRIES;
        match sent {
            Ok((response, link)) => {
                let again = !last && is_refusal(response.status());
                if again && ready(&found, &tried).next().is_some() {
                    left = Some(Arc::clone(seat.upstream()));
                    continue;
                }
                gateway.metrics.first_byte(arrived.elapsed());
                return Ok(relayed(gateway, &call.key, deployment, response, link, seat));
            }
            Err(failure) => {
                tracing::warn!(
                    replica.id = %replica,
                    node.id = %seat.upstream().node(),
                    %failure,
                    "a replica did not answer"
                );
                let problem = match failure {
                    // It may be working on it: a second replica would do the work twice.
                    Failure::Silent => {
                        seat.upstream().cut();
                        return Err(Problem::too_slow());
                    }
                    Failure::Connect(_) | Failure::Lost(_) => Problem::replica_lost(),
                };
                if last {
                    seat.upstream().cut();
                    return Err(problem);
                }
                (left, failed) = (Some(Arc::clone(seat.upstream())), Some(problem));
            }
        }
    }
}

/// Waits until the deployments that were asked for have a replica, at most for a while: so that
/// `wake` is seen as load and starts one.
pub async fn wake(gateway: Arc<Gateway>, key: Arc<Key>, asked: Asked, waiting: Waiting) {
    let deadline = Instant::now() + FAILOVER_WAIT;
    let mut tables = gateway.tables();
    loop {
        let table = tables.borrow_and_update().clone();
        let found = table.find(&key.organization, &asked);
        if found.is_empty() || found.iter().any(|deployment| !deployment.replicas.is_empty()) {
            break;
        }
        match tokio::time::timeout_at(deadline, tables.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    drop(waiting);
}

/// A request's time in the queue.
struct Queue {
    deadline: Instant,
    _waiting: Waiting,
}

impl Queue {
    fn enter(gateway: &Arc<Gateway>, found: &[&Deployment], ticket: u64) -> Result<Self, Problem> {
        let weights: Vec<u32> = found.iter().map(|deployment| deployment.weight).collect();
        let home = share(&weights, ticket).and_then(|index| found.get(index)).or(found.first());
        let home = home.ok_or_else(|| Problem::no_replica(""))?;
        let empty = found.iter().all(|deployment| deployment.replicas.is_empty());
        let (wait, patience) = if home.parks && empty {
            (Wait::Parked, gateway.bounds.queue_timeout)
        } else {
            (Wait::Queued, FAILOVER_WAIT.min(gateway.bounds.queue_timeout))
        };
        let limit = gateway.bounds.queue_limit;
        let waiting =
            gateway.counts.wait(&home.id, wait, limit).map_err(|_| Problem::queue_full(limit))?;
        Ok(Self { deadline: Instant::now() + patience, _waiting: waiting })
    }

    /// Until another table than `seen` is in use; an error when the time is over.
    async fn next(&self, gateway: &Gateway, seen: &Arc<Table>) -> Result<(), ()> {
        let mut tables = gateway.tables();
        let other = async { tables.wait_for(|table| !Arc::ptr_eq(table, seen)).await.is_ok() };
        match tokio::time::timeout_at(self.deadline, other).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(()),
        }
    }
}

/// The deployments of `found` with a replica that was not tried.
fn ready<'t>(
    found: &'t [&'t Deployment],
    tried: &'t [ReplicaId],
) -> impl Iterator<Item = &'t Deployment> {
    found
        .iter()
        .copied()
        .filter(|deployment| deployment.replicas.iter().any(|replica| is_candidate(replica, tried)))
}

fn is_candidate(replica: &crate::upstream::Upstream, tried: &[ReplicaId]) -> bool {
    !tried.contains(&replica.id) && !replica.is_retired()
}

/// Picks a replica and counts the request there, in one step against other requests.
fn take_seat<'t>(
    gateway: &Gateway,
    found: &'t [&'t Deployment],
    tried: &[ReplicaId],
    ticket: u64,
) -> Option<(&'t Deployment, Seat)> {
    loop {
        let ready: Vec<&Deployment> = ready(found, tried).collect();
        let weights: Vec<u32> = ready.iter().map(|deployment| deployment.weight).collect();
        let id = &ready.get(share(&weights, ticket)?)?.id;
        let deployment = found.iter().copied().find(|deployment| deployment.id == *id)?;
        let candidates: Vec<_> =
            deployment.replicas.iter().filter(|replica| is_candidate(replica, tried)).collect();
        let loads: Vec<Load> = candidates
            .iter()
            .map(|replica| Load {
                in_flight: replica.in_flight(),
                concurrency: deployment.concurrency,
            })
            .collect();
        // None: the last candidate was retired at this moment.
        let index = least_loaded(loads.iter().copied())?;
        if let Some(seat) = candidates[index].enter(loads[index].in_flight, &gateway.counts) {
            return Some((deployment, seat));
        }
    }
}

/// Whether a replica says that it cannot take the request, so that another may.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The client's headers as far as they go further.
fn forwarded(mut headers: HeaderMap) -> HeaderMap {
    for name in &NOT_FORWARDED {
        headers.remove(name);
    }
    headers.insert(header::HOST, HeaderValue::from_static("replica"));
    headers
}

fn outgoing(path: &'static str, headers: &HeaderMap, body: &Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = axum::http::Uri::from_static(path);
    *request.headers_mut() = headers.clone();
    request
}

/// The answer as the client gets it.
fn relayed(
    gateway: &Arc<Gateway>,
    key: &Arc<Key>,
    deployment: &Deployment,
    response: Response<Incoming>,
    link: Link,
    seat: Seat,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    parts.headers.remove("keep-alive");
    let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_event_stream = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let (gateway, key) = (Arc::clone(gateway), Arc::clone(key));
    let id = deployment.id.clone();
    let relay = Relay::new(gateway, key, id, body, is_event_stream, link, seat);
    parts.extensions.clear();
    Response::from_parts(parts, Body::new(relay))
}
