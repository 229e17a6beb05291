//! Who speaks: by the certificate, and only as long as that is the machine's newest one.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use wharfage_link::{Peer, PeerName};
use wharfage_shared::ids::{GatewayName, NodeId};

use super::State;
use super::problem::Problem;

/// The node at the other end: enrolled, with a valid certificate of its newest enrolment.
pub struct Node(pub NodeId);

/// The gateway process at the other end, likewise.
pub struct Gateway(pub GatewayName);

/// Whoever shows a certificate, perhaps one that has ended.
pub struct Certified {
    /// Its name.
    pub name: PeerName,
    /// SHA-256 of its public key.
    pub key: String,
    /// The certificate.
    pub peer: Peer,
}

impl FromRequestParts<State> for Certified {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().cloned();
        let shown =
            peer.and_then(|peer| Some((peer.name.clone()?, peer.key_sha256.clone()?, peer)));
        let Some((name, key, peer)) = shown else {
            let detail = "no client certificate was shown: enrol with a join string first";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "no_certificate", detail));
        };
        check_newest(state, &name, &key)?;
        Ok(Self { name, key, peer })
    }
}

/// A name that was enrolled anew, or is not known any more, has no say with its old certificate.
fn check_newest(state: &State, name: &PeerName, key: &str) -> Result<(), Problem> {
    let view = state.handle.view();
    let known = match name {
        PeerName::Node(id) => view.fleet().node(id).map(|row| &*row.key),
        PeerName::Gateway(name) => view.fleet().gateway_process(name).map(|row| row.key.as_str()),
    };
    match known {
        Some(known) if known == key => Ok(()),
        Some(_) => {
            let detail = format!("{name} was enrolled anew since: this certificate has no say");
            Err(Problem::new(StatusCode::FORBIDDEN, "identity_replaced", detail))
        }
        None => {
            let detail = format!("{name} is not enrolled here: enrol it with a new join string");
            Err(Problem::new(StatusCode::FORBIDDEN, "not_enrolled", detail))
        }
    }
}

async fn valid(parts: &mut Parts, state: &State) -> Result<PeerName, Problem> {
    let certified = Certified::from_request_parts(parts, state).await?;
    if certified.peer.expired {
        let detail = "the certificate has ended: renew it at /agent/v1/renew within 7 days of its \
                      end, after that enrol anew";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "certificate_ended", detail));
    }
    Ok(certified.name)
}

impl FromRequestParts<State> for Node {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        match valid(parts, state).await? {
            PeerName::Node(id) => Ok(Self(id)),
            PeerName::Gateway(name) => {
                Err(Problem::not_yours(format!("gateway {name} cannot speak for a node")))
            }
        }
    }
}

impl FromRequestParts<State> for Gateway {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        match valid(parts, state).await? {
            PeerName::Gateway(name) => Ok(Self(name)),
            PeerName::Node(id) => {
                Err(Problem::not_yours(format!("node {id} cannot speak for a gateway")))
            }
        }
    }
}
