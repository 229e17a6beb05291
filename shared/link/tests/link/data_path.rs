//! The data path's TLS: gateways reach the guard of the node they mean, and nobody else does.

use std::time::{Duration, SystemTime};

use crate::common::{Folder, Scheduler};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wharfage_link::tls::{guard_acceptor, guard_connector};
use wharfage_link::{IdentityDir, PeerName, socket};
use wharfage_shared::ids::{GatewayName, NodeId};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A guard that answers `hello` to whom it lets in.
async fn guard(identity: IdentityDir) -> String {
    let acceptor = guard_acceptor(identity).expect("a complete folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor().accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

/// What a machine hears from the guard at `address` when it means `node`.
async fn hear(identity: IdentityDir, address: &str, node: &str) -> Option<String> {
    let connector = guard_connector(identity).expect("a complete folder");
    let stream = socket::dial(address, Duration::from_secs(60)).await.expect("it listens");
    let mut stream = connector.connect(&NodeId::from(node), stream).await.ok()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.ok()?;
    Some(heard)
}

#[tokio::test]
async fn a_gateway_reaches_the_node_it_means_and_a_node_reaches_none() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let now = SystemTime::now();
    let machine = |name: PeerName| scheduler.machine(&folder, name, now, DAY);
    let address = guard(machine(PeerName::Node(NodeId::from("node-1")))).await;
    let gateway = machine(PeerName::Gateway(GatewayName::from("front")));
    let neighbour = machine(PeerName::Node(NodeId::from("node-2")));

    assert_eq!(hear(gateway.clone(), &address, "node-1").await.as_deref(), Some("hello"));
    assert_eq!(hear(gateway, &address, "node-2").await, None, "another node answered");
    assert_eq!(hear(neighbour, &address, "node-1").await, None, "guards are for gateways");
}

#[tokio::test]
async fn the_data_path_outlives_an_outage_in_which_nobody_could_renew() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let node = PeerName::Node(NodeId::from("node-1"));
    let gateway = PeerName::Gateway(GatewayName::from("front"));
    for (ago, heard) in [(DAY * 2, Some("hello")), (DAY * 7, Some("hello")), (DAY * 9, None)] {
        let issued = SystemTime::now() - ago;
        let address = guard(scheduler.machine(&folder, node.clone(), issued, DAY)).await;
        let gateway = scheduler.machine(&folder, gateway.clone(), issued, DAY);
        assert_eq!(hear(gateway, &address, "node-1").await.as_deref(), heard, "{ago:?} ago");
    }
}

#[tokio::test]
async fn a_renewed_certificate_serves_the_next_connection() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let now = SystemTime::now();
    let name = PeerName::Node(NodeId::from("node-1"));
    let node = scheduler.machine(&folder, name.clone(), now - DAY * 20, DAY);
    let gateway = PeerName::Gateway(GatewayName::from("front"));
    let gateway = scheduler.machine(&folder, gateway, now, DAY);
    let address = guard(node.clone()).await;
    assert_eq!(hear(gateway.clone(), &address, "node-1").await, None, "three weeks old");
    scheduler.issue(&node, &name, now, DAY);
    assert_eq!(hear(gateway, &address, "node-1").await.as_deref(), Some("hello"));
}
