//! TLS configurations of the data path: the guard's end and the gateway's end.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wharfage_shared::ids::NodeId;

use crate::identity::{self, IdentityDir};
use crate::peer::PeerName;
use crate::reload::Reloaded;
use crate::verify::{Admits, ClientVerifier, ServerVerifier, provider, roots};

/// Installs ring as the process's provider. Every program calls it first; calling it again does
/// nothing.
pub fn install() {
    // An error only says that a provider is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine's folder.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The TLS library refused what was in it.
    #[error("the certificate or key is unusable for TLS")]
    Tls(#[from] rustls::Error),
}

/// Acceptors for a guard's port: the node's certificate in front, gateways' certificates let in.
/// The certificate is read again when it has been renewed.
pub fn guard_acceptor(
    identity: IdentityDir,
) -> Result<impl Fn() -> TlsAcceptor + Send + Sync + 'static, Error> {
    let read = move || guard_server_config(&identity);
    let current = Reloaded::open(read_watched(&read)?, &read)?;
    Ok(move || TlsAcceptor::from(Arc::clone(&current.current(|| read().map(|c| c.0)).0)))
}
