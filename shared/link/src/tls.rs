//! TLS on the data path: the guard's end and the gateway's end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wharfage_shared::ids::NodeId;

use crate::authority::{self, Authority};
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
    /// The scheduler's own certificate.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A certificate or key file that people name in a configuration.
    #[error("`{path}` is unusable: {reason}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The TLS library refused what was in the files.
    #[error("the certificate or key is unusable for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Acceptors for a guard's port: the node's certificate in front, gateways let in and nobody else.
/// Call it for each connection; a renewed certificate is used from the next one on.
pub fn guard_acceptor(
    identity: IdentityDir,
) -> Result<impl Fn() -> TlsAcceptor + Send + Sync + 'static, Error> {
    let files = identity.watched();
    let current = Reloaded::open(files, move || guard_config(&identity))?;
    Ok(move || TlsAcceptor::from(Arc::clone(&*current.current())))
}

/// The gateway's end of the data path.
pub struct GuardConnector {
    current: Reloaded<TlsConnector, Error>,
}

/// Connections to guards with the gateway's certificate, read again when it has been renewed.
pub fn guard_connector(identity: IdentityDir) -> Result<GuardConnector, Error> {
    let files = identity.watched();
    let current = Reloaded::open(files, move || connector(&identity))?;
    Ok(GuardConnector { current })
}

impl GuardConnector {
    /// Speaks TLS over `stream` with the guard of `node`, and with nobody else.
    pub async fn connect(
        &self,
        node: &NodeId,
        stream: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(PeerName::Node(node.clone()).dns())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.current.current().connect(name, stream).await
    }
}

/// What a guard serves with.
pub(crate) fn guard_config(identity: &IdentityDir) -> Result<Arc<ServerConfig>, Error> {
    let identity = identity.load()?;
    let roots = roots(std::slice::from_ref(&identity.authority))?;
    let verifier = Arc::new(ClientVerifier::new(roots, Admits::Gateways)?);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate], identity.key)?;
    Ok(Arc::new(config))
}

/// What the machines' listener serves with.
pub(crate) fn machines_config(
    authority: &Authority,
    names: &[String],
) -> Result<Arc<ServerConfig>, Error> {
    let own = authority.server_identity(names)?;
    let roots = roots(std::slice::from_ref(authority.certificate()))?;
    let verifier = Arc::new(ClientVerifier::new(roots, Admits::AnyMachine)?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a listener for people serves with.
pub(crate) fn public_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let unusable =
        |path: &Path, reason: String| Error::File { path: path.display().to_string(), reason };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, error.to_string()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| unusable(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "it holds no certificate in PEM".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| unusable(key, format!("it holds no private key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| unusable(key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A machine's side of the connection to the scheduler.
pub(crate) fn machine_config(identity: &IdentityDir) -> Result<ClientConfig, Error> {
    let identity = identity.load()?;
    let roots = roots(std::slice::from_ref(&identity.authority))?;
    let verifier = Arc::new(ServerVerifier::scheduler(roots)?);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![identity.certificate], identity.key)?;
    Ok(config)
}

/// A machine's side of its first contact: no certificate of its own, the authority pinned.
pub(crate) fn pinned_config(authority: &str) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::pinned(authority)))
        .with_no_client_auth();
    Ok(config)
}

fn connector(identity: &IdentityDir) -> Result<TlsConnector, Error> {
    let identity = identity.load()?;
    let roots = roots(std::slice::from_ref(&identity.authority))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::guard(roots)?))
        .with_client_auth_cert(vec![identity.certificate], identity.key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
