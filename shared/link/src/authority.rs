//! The installation's own certificate authority: one key in the scheduler's state folder.
//!
//! A certificate says only what the scheduler decided: from a request nothing but the public key is
//! taken, never a name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::write_atomically;
use crate::peer::{BadName, Facts, PeerName};
use crate::verify::{SCHEDULER_NAME, spki_sha256};

/// How long a machine's certificate lasts.
pub const MACHINE_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);

/// How far back a machine's certificate begins, for hosts whose clock is behind.
pub const BACK_DATED: Duration = Duration::from_secs(3600);

/// The authority lives as long as an installation may: its key cannot be replaced without a new
/// join of every machine.
const AUTHORITY_CERTIFICATE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The authority begins this far back, so that no clock makes a first contact impossible.
const AUTHORITY_BACK_DATED: Duration = Duration::from_secs(365 * 24 * 3600);

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";

/// Signs the machines of one installation.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    pin: String,
}

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the authority.
    #[error("cannot {doing} `{path}`")]
    File {
        /// `read`, `write`, `create`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One file of the pair is missing.
    #[error("`{present}` is there but `{missing}` is not: restore both files of the authority")]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The files do not hold an authority.
    #[error("`{path}` does not hold the authority: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The request is no PKCS #10 request in PEM, or its signature is not its key's.
    #[error("csr_pem is no usable certificate request: {0}; expected PKCS #10 in PEM, self-signed")]
    Request(String),
    /// The name cannot be certified.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The cryptographic library refused.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

/// A certificate chain with its key, for a listener.
pub struct ServerIdentity {
    /// The listener's certificate, then the authority's (which a first contact is pinned to).
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`, or makes one if neither of its files is there.
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let (certificate, key) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
        match (certificate.exists(), key.exists()) {
            (true, true) => Self::open(&certificate, &key),
            (false, false) => {
                std::fs::create_dir_all(dir).map_err(file("create", dir))?;
                Self::create(&certificate, &key)
            }
            (true, false) => Err(Error::Half { present: certificate, missing: key }),
            // The key is written first; without a certificate it has signed nothing yet.
            (false, true) => Self::create(&certificate, &key),
        }
    }

    fn open(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let pem = std::fs::read_to_string(certificate).map_err(file("read", certificate))?;
        let key_pem = std::fs::read_to_string(key).map_err(file("read", key))?;
        let unusable = |path: &Path, reason: String| Error::Unusable { path: path.into(), reason };
        let key_pair =
            KeyPair::from_pem(&key_pem).map_err(|error| unusable(key, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unusable(certificate, error.to_string()))?;
        let facts = Facts::read(&der)
            .ok_or_else(|| unusable(certificate, "it is no certificate".to_owned()))?;
        if facts.spki != rcgen::PublicKeyData::subject_public_key_info(&key_pair) {
            return Err(unusable(key, format!("it is not the key of {CERTIFICATE_FILE}")));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key_pair)
            .map_err(|error| unusable(certificate, error.to_string()))?;
        Ok(Self { issuer, certificate: der, pem, pin: spki_sha256(&facts.spki) })
    }

    fn create(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let key_pair = KeyPair::generate().map_err(crypto)?;
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("wharfage authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = (now - AUTHORITY_BACK_DATED).into();
        params.not_after = (now + AUTHORITY_CERTIFICATE).into();
        params.serial_number = Some(serial()?);
        let signed = params.self_signed(&key_pair).map_err(crypto)?;
        write_atomically(key, key_pair.serialize_pem().as_bytes(), 0o600)
            .map_err(file("write", key))?;
        write_atomically(certificate, signed.pem().as_bytes(), 0o644)
            .map_err(file("write", certificate))?;
        Self::open(certificate, key)
    }

    /// The pin of join strings: SHA-256 of the authority's SubjectPublicKeyInfo, in hex.
    pub fn spki_sha256(&self) -> String {
        self.pin.clone()
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Certifies the request's public key under `name`, from an hour ago until `valid` from `now`.
    ///
    /// It serves both ways: agents and gateways dial with it, guards serve with it.
    pub fn sign_client(
        &self,
        csr_pem: &str,
        name: &PeerName,
        valid: Duration,
        now: SystemTime,
    ) -> Result<String, Error> {
        name.check()?;
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| Error::Request(error.to_string()))?;
        let mut params = leaf(name.as_str(), now - BACK_DATED, now + valid)?;
        params.subject_alt_names = vec![
            SanType::URI(name.uri().try_into().map_err(crypto)?),
            SanType::DnsName(name.dns().try_into().map_err(crypto)?),
        ];
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(crypto)?;
        Ok(signed.pem())
    }

    /// A certificate for the scheduler's own listeners with a key that never touches the disk.
    ///
    /// It always carries `scheduler.wharfage` and `localhost`; `names` are further DNS names or IP
    /// addresses that people's clients dial.
    pub fn server_identity(&self, names: &[String]) -> Result<ServerIdentity, Error> {
        let key = KeyPair::generate().map_err(crypto)?;
        let now = SystemTime::now();
        let mut params =
            leaf("scheduler", now - AUTHORITY_BACK_DATED, now + AUTHORITY_CERTIFICATE)?;
        let fixed = [SCHEDULER_NAME, "localhost", "127.0.0.1", "::1"];
        for name in fixed.into_iter().chain(names.iter().map(String::as_str)) {
            let name = match IpAddr::from_str(name) {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.to_owned().try_into().map_err(|_| Error::Name(BadName(name.into())))?,
                ),
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        let signed = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| Error::Crypto(reason.to_owned()))?;
        Ok(ServerIdentity { chain: vec![signed.der().clone(), self.certificate.clone()], key })
    }
}

fn leaf(name: &str, from: SystemTime, until: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = from.into();
    params.not_after = until.into();
    params.serial_number = Some(serial()?);
    Ok(params)
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A random serial: two certificates of one key must differ.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Crypto(error.to_string()))?;
    // Positive and without a leading zero, as DER wants it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn crypto(error: rcgen::Error) -> Error {
    Error::Crypto(error.to_string())
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
