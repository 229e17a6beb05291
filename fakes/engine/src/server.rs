//! Connections: accepted one by one, ended gently or at once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::meter::Meter;
use crate::report::{Progress, print};

/// Connections at once; more wait in the backlog, so that a flood cannot take all descriptors.
const MOST_CONNECTIONS: usize = 4096;

/// A client that sends no request head for this long is not coming back.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What is in flight at the end gets this long.
const GRACE: Duration = Duration::from_secs(30);

/// After a failed accept (no descriptors left), time for some connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, then lets what is in flight finish, or cuts it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    cuts: bool,
    meter: &Meter,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    // Whoever drops this future takes the connections with it.
    let _cut_at_the_end = cut.clone().drop_guard();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, seat)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stop, cut) = (router.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = converse(stream, router, stop) => {}
                () = cut.cancelled() => {}
            }
            drop(seat);
        });
    }
    drop(listener);
    connections.close();
    print(&Progress::Stopping { in_flight: meter.running() });
    if cuts {
        cut.cancel();
    }
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(room).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    stream.set_nodelay(true).ok()?;
    Some((stream, seat))
}

/// One connection to its end; after `stop` it ends with the request that it is in.
async fn converse(stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        // How a connection ended is the client's business.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
