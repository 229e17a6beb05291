//! Who is at the other end of a connection, by its certificate alone.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use wharfage_shared::ids::{GatewayName, NodeId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest name: it has to fit one DNS label.
const LONGEST_NAME: usize = 63;

/// The name that a machine's certificate carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerName {
    /// An agent's host.
    Node(NodeId),
    /// A gateway process.
    Gateway(GatewayName),
}

/// The other end of one request. Every handler finds it as an `axum::Extension<Peer>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection came from.
    pub addr: SocketAddr,
    /// The name in the peer's certificate; `None` when it showed none.
    pub name: Option<PeerName>,
    /// Whether the certificate had ended when this request came. Only renewal may go on then.
    pub expired: bool,
    /// The end of the certificate.
    pub not_after: Option<SystemTime>,
    /// SHA-256 (hex) of the certificate's public key: tells a machine from one that had its name
    /// before.
    pub key_sha256: Option<String>,
}

/// A name that no certificate is issued for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a machine's name: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, beginning and ending \
     with a letter or a digit"
)]
pub struct BadName(pub String);

impl PeerName {
    /// Checks the name's spelling: it becomes part of a DNS name and of a URI.
    pub fn check(&self) -> Result<(), BadName> {
        let text = self.as_str();
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = |c: u8| plain(c) || matches!(c, b'-' | b'_' | b'.');
        let bytes = text.as_bytes();
        let good = (1..=LONGEST_NAME).contains(&bytes.len())
            && bytes.iter().all(|c| inner(*c))
            && bytes.first().is_some_and(|c| plain(*c))
            && bytes.last().is_some_and(|c| plain(*c))
            && !text.contains("..");
        if good { Ok(()) } else { Err(BadName(text.to_owned())) }
    }

    /// The name alone.
    pub fn as_str(&self) -> &str {
        match self {
            PeerName::Node(id) => id.as_str(),
            PeerName::Gateway(name) => name.as_str(),
        }
    }

    /// The URI in the certificate: `wharfage://node/<id>`.
    pub fn uri(&self) -> String {
        match self {
            PeerName::Node(id) => format!("wharfage://node/{id}"),
            PeerName::Gateway(name) => format!("wharfage://gateway/{name}"),
        }
    }

    /// The DNS name in the certificate: `<id>.node.wharfage`.
    pub fn dns(&self) -> String {
        match self {
            PeerName::Node(id) => format!("{id}.node.wharfage"),
            PeerName::Gateway(name) => format!("{name}.gateway.wharfage"),
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("wharfage://")?;
        let name = match rest.split_once('/')? {
            ("node", id) => PeerName::Node(NodeId::from(id)),
            ("gateway", name) => PeerName::Gateway(GatewayName::from(name)),
            _ => return None,
        };
        name.check().ok().map(|()| name)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::Node(id) => write!(f, "node {id}"),
            PeerName::Gateway(name) => write!(f, "gateway {name}"),
        }
    }
}

/// What we read out of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its one `wharfage://` name, if it has one.
    pub name: Option<PeerName>,
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
    /// The SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
}

impl Facts {
    /// Reads a certificate; `None` when it is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let name = names.and_then(|names| {
            names.value.general_names.iter().find_map(|name| match name {
                GeneralName::URI(uri) => PeerName::from_uri(uri),
                _ => None,
            })
        });
        let instant = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        Some(Self {
            name,
            not_before: instant(parsed.validity().not_before.timestamp()),
            not_after: instant(parsed.validity().not_after.timestamp()),
            spki: parsed.public_key().raw.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        for good in ["node-1", "gd-8xh100ib-i128.us-east-04a", "a", "0", "a_b"] {
            assert_eq!(PeerName::Node(NodeId::from(good)).check(), Ok(()), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "a..b", "é", "a\0", "*", long.as_str()] {
            assert!(PeerName::Node(NodeId::from(bad)).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uri_gives_back_the_name_it_was_made_from() {
        let node = PeerName::Node(NodeId::from("node-1"));
        let gateway = PeerName::Gateway(GatewayName::from("front"));
        assert_eq!(PeerName::from_uri(&node.uri()), Some(node));
        assert_eq!(PeerName::from_uri(&gateway.uri()), Some(gateway));
        assert_eq!(PeerName::from_uri("wharfage://node/a/b"), None);
        assert_eq!(PeerName::from_uri("https://node/a"), None);
    }
}
