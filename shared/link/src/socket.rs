//! TCP sockets as every accepted and every dialled one must be.

use std::io;
use std::net::SocketAddr;
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

/// Why a program cannot have the address that the key of its configuration names, as one sentence.
/// Whoever has the port may be gone in a moment: that is a service not there (69), which a service
/// manager tries again, and no second instance (75).
pub fn cannot_listen(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let (port, ip) = (address.port(), address.ip());
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{key}: port {port} on {ip} is in use: end the process that has it, or choose another \
             port"
        ),
        _ => format!("{key}: cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_port_in_use_is_told_from_an_address_that_is_not_ours() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let in_use = std::net::TcpListener::bind(address).expect_err("it is taken");
        let said = cannot_listen("listen", address, &in_use);
        let port = address.port();
        assert!(said.starts_with(&format!("listen: port {port} on 127.0.0.1 is in use")), "{said}");
        // An address of the documentation: no host has it.
        let foreign = "192.0.2.1:80".parse().expect("an address");
        let not_ours = std::net::TcpListener::bind(foreign).expect_err("not ours");
        let said = cannot_listen("listen", foreign, &not_ours);
        assert!(said.starts_with("listen: cannot listen on 192.0.2.1:80: "), "{said}");
    }

    #[tokio::test]
    async fn small_writes_leave_at_once_on_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let dialled = dial(&address, Duration::from_secs(60)).await.expect("it listens");
        let (accepted, _) = listener.accept().await.expect("a connection waits");
        assert!(!accepted.nodelay().expect("open"), "the kernel's default would hide the rule");
        assert!(prepared(accepted).expect("open").nodelay().expect("open"));
        assert!(dialled.nodelay().expect("open"));
    }
}
