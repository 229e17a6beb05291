//! The replica's one mTLS port: admits gateways' certificates and pumps bytes to the engine's
//! loopback port, so that an agent's restart cuts nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at one time: more than any gateway fleet pools for one replica.
const MOST_CONNECTIONS: usize = 4096;

/// Out of descriptors, or the client was gone already: a moment later it goes on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client that does not finish its handshake is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stop`; connections that stand go on to their end.
pub async fn serve<A>(
    listener: TcpListener,
    acceptor: A,
    engine_port: Arc<AtomicU16>,
    stop: CancellationToken,
) where
    A: Fn() -> TlsAcceptor + Send + Sync + 'static,
{
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let acceptor = acceptor();
        let engine_port = engine_port.load(Ordering::Relaxed);
        tokio::spawn(async move {
            let _permit = permit;
            carry(stream, acceptor, engine_port).await;
        });
    }
}

async fn carry(stream: TcpStream, acceptor: TlsAcceptor, engine_port: u16) {
    // Tokens are small packets: without it each waits for an acknowledgement.
    drop(stream.set_nodelay(true));
    let Ok(Ok(mut client)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await
    else {
        return;
    };
    let engine = SocketAddr::from(([127, 0, 0, 1], engine_port));
    let Ok(mut engine) = TcpStream::connect(engine).await else { return };
    drop(engine.set_nodelay(true));
    // Whichever side ends first ends both; there is nobody to tell.
    drop(copy_bidirectional(&mut client, &mut engine).await);
}
