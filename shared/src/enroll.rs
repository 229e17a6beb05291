//! Joining: the join string, and the exchange of a secret for a short-lived certificate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, PoolId};

/// What an operator hands to a new host: where to dial, which authority to trust, one secret.
///
/// `wharfage-join:v1:<host:port>:<sha-256 of the authority's public key, hex>:<secret>`
#[derive(Clone, PartialEq, Eq)]
pub struct JoinString {
    /// `host:port` of the listener for machines.
    pub address: String,
    /// SHA-256 of the authority's SubjectPublicKeyInfo, 64 hex digits.
    pub authority: String,
    /// The secret; the scheduler keeps only its hash.
    pub secret: String,
}

impl fmt::Debug for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinString").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wharfage-join:v1:{}:{}:{}", self.address, self.authority, self.secret)
    }
}

/// A text that is no join string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join string: {0}; expected wharfage-join:v1:<host:port>:<64 hex digits>:<secret>, as \
     `POST /api/v1/joins` prints it"
)]
pub struct BadJoinString(&'static str);

impl FromStr for JoinString {
    type Err = BadJoinString;

    fn from_str(text: &str) -> Result<Self, BadJoinString> {
        let rest = text
            .trim()
            .strip_prefix("wharfage-join:v1:")
            .ok_or(BadJoinString("it does not start with wharfage-join:v1:"))?;
        let (rest, secret) = rest.rsplit_once(':').ok_or(BadJoinString("the secret is missing"))?;
        let (address, authority) =
            rest.rsplit_once(':').ok_or(BadJoinString("the authority is missing"))?;
        if authority.len() != 64 || !authority.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(BadJoinString("the authority is not 64 hex digits"));
        }
        if !address.contains(':') {
            return Err(BadJoinString("the address has no port"));
        }
        if secret.is_empty() {
            return Err(BadJoinString("the secret is empty"));
        }
        Ok(Self {
            address: address.to_owned(),
            authority: authority.to_ascii_lowercase(),
            secret: secret.to_owned(),
        })
    }
}

/// `POST /agent/v1/enroll` and `POST /gateway/v1/enroll`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The version of these words.
    pub protocol: u16,
    /// The name that the host or the gateway wants.
    pub name: NodeId,
    /// The pool that the host's own configuration names; must be the join's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    /// The join string's secret.
    pub secret: String,
    /// A PKCS #10 request in PEM; the key was made on the host and never leaves it.
    pub csr_pem: String,
}

/// `POST /agent/v1/renew`, over the old certificate (which may have ended within the last 7 days).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// A PKCS #10 request in PEM for the same name.
    pub csr_pem: String,
}

/// The answer to enrolment and renewal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The client certificate in PEM; its URI name is `wharfage://node/<id>` or
    /// `wharfage://gateway/<name>`, its DNS name `<id>.node.wharfage`.
    pub certificate_pem: String,
    /// The authority in PEM.
    pub authority_pem: String,
    /// Seconds until the certificate ends; renew at two thirds of it.
    pub valid_seconds: u64,
}

/// What the machine listener answers instead of 2xx: a stable code and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineProblem {
    /// `join_unknown`, `join_used_up`, `join_expired`, `join_wrong_pool`, `name_taken`, ...
    pub code: String,
    /// What was wrong and what to do, as one sentence.
    pub detail: String,
}
