//! TCP sockets as every accepted and every dialled one must be.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Sets `TCP_NODELAY`: without it a stream's small writes wait for the peer's delayed
/// acknowledgement, 40 ms each time.
pub fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Dials `host:port`; an error says whom.
pub async fn dial(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let dialled = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let stream =
        dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot reach {address}: {error}"))
        })?;
    prepared(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn small_writes_leave_at_once_on_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let dialled = dial(&address, Duration::from_secs(5)).await.expect("it listens");
        let (accepted, _) = listener.accept().await.expect("a connection waits");
        assert!(!accepted.nodelay().expect("open"), "the kernel's default would hide the rule");
        assert!(prepared(accepted).expect("open").nodelay().expect("open"));
        assert!(dialled.nodelay().expect("open"));
    }
}
