//! A machine's own folder: the key that was made here, its certificate, the authority.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wharfage_shared::enroll::{Enrolled, JoinString};

use crate::authority::{BACK_DATED, common_name};
use crate::files::write_atomically;
use crate::peer::{Facts, PeerName};
use crate::verify::{RENEWABLE_AFTER_END, spki_sha256};

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "cert.pem";
const AUTHORITY_FILE: &str = "ca.pem";

/// The folder of one machine's identity.
#[derive(Clone, Debug)]
pub struct IdentityDir {
    dir: PathBuf,
}

/// What the folder holds once enrolled.
pub struct Identity {
    /// The name in the certificate.
    pub name: PeerName,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// The authority.
    pub authority: CertificateDer<'static>,
    /// The certificate's first second (an hour before it was issued).
    pub not_before: SystemTime,
    /// The certificate's last second.
    pub not_after: SystemTime,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the folder.
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
    /// A file does not hold what it should.
    #[error("`{path}` is unusable: {reason}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cryptographic library refused.
    #[error("cannot make a key or a request: {0}")]
    Crypto(String),
}

impl IdentityDir {
    /// The folder, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether a certificate is there.
    pub fn is_enrolled(&self) -> bool {
        self.dir.join(CERTIFICATE_FILE).exists() && self.dir.join(KEY_FILE).exists()
    }

    /// Whether the folder can still do what a fresh join would: its authority is the one that the
    /// join string names, and its certificate is not beyond renewal.
    pub fn is_usable_for(&self, join: &JoinString, now: SystemTime) -> bool {
        self.load().is_ok_and(|own| {
            Facts::read(&own.authority).is_some_and(|ca| spki_sha256(&ca.spki) == join.authority)
                && now <= own.not_after + RENEWABLE_AFTER_END
        })
    }

    /// The files whose change means a new identity.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        vec![self.dir.join(CERTIFICATE_FILE), self.dir.join(AUTHORITY_FILE)]
    }

    /// Makes the key if there is none, and a request for it. The key never leaves the folder.
    pub fn create_key_and_csr(&self, name: &str) -> Result<String, Error> {
        let path = self.dir.join(KEY_FILE);
        let key = if path.exists() {
            let pem = std::fs::read_to_string(&path).map_err(file("read", &path))?;
            KeyPair::from_pem(&pem)
                .map_err(|error| Error::Unusable { path, reason: error.to_string() })?
        } else {
            std::fs::create_dir_all(&self.dir).map_err(file("create", &self.dir))?;
            let key = KeyPair::generate().map_err(crypto)?;
            write_atomically(&path, key.serialize_pem().as_bytes(), 0o600)
                .map_err(file("write", &path))?;
            key
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        let request = params.serialize_request(&key).map_err(crypto)?;
        request.pem().map_err(crypto)
    }

    /// Keeps what enrolment or renewal answered, once it has been seen to fit the key.
    pub fn store(&self, enrolled: &Enrolled) -> Result<(), Error> {
        let certificate = self.dir.join(CERTIFICATE_FILE);
        let key_path = self.dir.join(KEY_FILE);
        let key_pem = std::fs::read_to_string(&key_path).map_err(file("read", &key_path))?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| Error::Unusable { path: key_path, reason: error.to_string() })?;
        let der = first_certificate(&certificate, enrolled.certificate_pem.as_bytes())?;
        let facts = facts(&certificate, &der)?;
        if facts.spki != rcgen::PublicKeyData::subject_public_key_info(&key) {
            let reason = "the answer's certificate is for another key".to_owned();
            return Err(Error::Unusable { path: certificate, reason });
        }
        let authority = self.dir.join(AUTHORITY_FILE);
        first_certificate(&authority, enrolled.authority_pem.as_bytes())?;
        // The certificate last: it is what says that the folder is complete.
        for (path, content) in
            [(&authority, &enrolled.authority_pem), (&certificate, &enrolled.certificate_pem)]
        {
            write_atomically(path, content.as_bytes(), 0o644).map_err(file("write", path))?;
        }
        Ok(())
    }

    /// Reads the folder.
    pub fn load(&self) -> Result<Identity, Error> {
        let read = |name: &str| {
            let path = self.dir.join(name);
            std::fs::read(&path).map_err(file("read", &path)).map(|bytes| (path, bytes))
        };
        let (key_path, key) = read(KEY_FILE)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| Error::Unusable { path: key_path, reason: error.to_string() })?;
        let (authority_path, authority) = read(AUTHORITY_FILE)?;
        let authority = first_certificate(&authority_path, &authority)?;
        let (path, certificate) = read(CERTIFICATE_FILE)?;
        let certificate = first_certificate(&path, &certificate)?;
        let facts = facts(&path, &certificate)?;
        let name = facts.name.ok_or_else(|| Error::Unusable {
            path,
            reason: "the certificate carries no wharfage:// name".to_owned(),
        })?;
        Ok(Identity {
            name,
            certificate,
            key,
            authority,
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }
}

impl Identity {
    /// Whether two thirds of the certificate's life are over.
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        let whole = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let issued_for = whole.saturating_sub(BACK_DATED);
        let left = self.not_after.duration_since(now).unwrap_or(Duration::ZERO);
        left <= issued_for / 3
    }

    /// Whether the certificate has ended.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

fn first_certificate(path: &Path, pem: &[u8]) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem)
        .map_err(|error| Error::Unusable { path: path.to_owned(), reason: error.to_string() })
}

fn facts(path: &Path, certificate: &CertificateDer<'_>) -> Result<Facts, Error> {
    Facts::read(certificate).ok_or_else(|| Error::Unusable {
        path: path.to_owned(),
        reason: "it is no X.509 certificate".to_owned(),
    })
}

fn crypto(error: rcgen::Error) -> Error {
    Error::Crypto(error.to_string())
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
