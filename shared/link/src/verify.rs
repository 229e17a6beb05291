//! Whose certificate is accepted, for each of the three kinds of connection.
//!
//! Signatures and chains are webpki's work; what is decided here is which authority counts, which
//! name is wanted, and how long after its end a certificate is still worth something.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::peer::{Facts, PeerName};

/// The name in the scheduler's certificate, whatever address it is reached at.
pub(crate) const SCHEDULER_NAME: &str = "scheduler.wharfage";

/// How long after its end a certificate may still be renewed.
pub const RENEWABLE_AFTER_END: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long after its end a certificate still opens the data path: an outage of the scheduler, in
/// which nobody can renew, must not cut requests.
const DATA_PATH_TOLERANCE: Duration = RENEWABLE_AFTER_END;

/// SHA-256 of a SubjectPublicKeyInfo as join strings spell it.
pub(crate) fn spki_sha256(spki: &[u8]) -> String {
    hex::encode(Sha256::digest(spki))
}

/// A provider for configurations, independent of what the process has installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A root store of exactly these certificates.
pub(crate) fn roots(authority: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate.clone().into_owned())?;
    }
    Ok(Arc::new(roots))
}

/// Which authority a server must belong to.
#[derive(Debug)]
enum Trust {
    /// The one whose public key has this hash; it comes with the handshake.
    Pin(String),
    /// The one we know.
    Known(Arc<WebPkiServerVerifier>),
}

/// Which name a server must have.
#[derive(Debug)]
enum Wanted {
    /// `scheduler.wharfage`, whatever was dialled.
    Scheduler,
    /// The name that the dialler asked for.
    Dialled,
}

/// Accepts a server of our authority.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: Trust,
    wanted: Wanted,
    tolerance: Duration,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// The scheduler, known only by the hash of its authority's key: the first contact.
    pub fn pinned(authority: &str) -> Self {
        Self {
            trust: Trust::Pin(authority.to_ascii_lowercase()),
            wanted: Wanted::Scheduler,
            tolerance: Duration::ZERO,
            provider: provider(),
        }
    }

    /// The scheduler, by an authority that we hold.
    pub fn scheduler(roots: Arc<RootCertStore>) -> Result<Self, Error> {
        Self::known(roots, Wanted::Scheduler, Duration::ZERO)
    }

    /// A guard: the name that was dialled.
    pub fn guard(roots: Arc<RootCertStore>) -> Result<Self, Error> {
        Self::known(roots, Wanted::Dialled, DATA_PATH_TOLERANCE)
    }

    fn known(
        roots: Arc<RootCertStore>,
        wanted: Wanted,
        tolerance: Duration,
    ) -> Result<Self, Error> {
        let provider = provider();
        let inner = server_verifier(roots, &provider)?;
        Ok(Self { trust: Trust::Known(inner), wanted, tolerance, provider })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let inner = match &self.trust {
            Trust::Known(inner) => Arc::clone(inner),
            Trust::Pin(pin) => {
                let pinned = intermediates.iter().find(|certificate| {
                    Facts::read(certificate).is_some_and(|facts| spki_sha256(&facts.spki) == *pin)
                });
                let pinned =
                    pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                server_verifier(roots(std::slice::from_ref(pinned))?, &self.provider)?
            }
        };
        let scheduler = ServerName::try_from(SCHEDULER_NAME)
            .map_err(|_| Error::General("the scheduler's name is no DNS name".into()))?;
        let name = match self.wanted {
            Wanted::Scheduler => &scheduler,
            Wanted::Dialled => server_name,
        };
        with_tolerance(self.tolerance, now, |now| {
            inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whom a server lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Everybody; who shows a certificate must have it from our authority. A certificate that has
    /// ended passes and is marked, so that its holder can renew.
    AnyMachine,
    /// Gateways only.
    Gateways,
}

/// Accepts a client of our authority.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    admits: Admits,
}

impl ClientVerifier {
    /// A verifier over one authority.
    pub fn new(roots: Arc<RootCertStore>, admits: Admits) -> Result<Self, Error> {
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner, admits })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        match self.admits {
            Admits::AnyMachine => false,
            Admits::Gateways => true,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let tolerance = match self.admits {
            Admits::AnyMachine => Duration::MAX,
            Admits::Gateways => DATA_PATH_TOLERANCE,
        };
        let verified = with_tolerance(tolerance, now, |now| {
            self.inner.verify_client_cert(end_entity, intermediates, now)
        })?;
        let name = Facts::read(end_entity).and_then(|facts| facts.name);
        let welcome = match (self.admits, name) {
            (Admits::AnyMachine, Some(PeerName::Node(_) | PeerName::Gateway(_)))
            | (Admits::Gateways, Some(PeerName::Gateway(_))) => true,
            (Admits::Gateways, Some(PeerName::Node(_)))
            | (Admits::AnyMachine | Admits::Gateways, None) => false,
        };
        if welcome {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn server_verifier(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Verifies; what ended no longer ago than `tolerance` is judged as on its last second.
fn with_tolerance<T>(
    tolerance: Duration,
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    match verify(now) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }))
            if time.as_secs().saturating_sub(not_after.as_secs()) <= tolerance.as_secs() =>
        {
            verify(not_after)
        }
        decided => decided,
    }
}
