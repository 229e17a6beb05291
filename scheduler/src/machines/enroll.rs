//! Enrolment and renewal: a secret, or the old certificate, for a new certificate.
//!
//! The certificate is made before the join is used up and handed out after that is in the log, so
//! neither a bad request nor a crash wastes a use or leaves a machine that nobody admitted.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use wharfage_link::authority::{Error as AuthorityError, MACHINE_CERTIFICATE};
use wharfage_link::enroll::authority_pin;
use wharfage_link::{PeerName, RENEWABLE_AFTER_END};
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::command::{Action, Command, nodes};
use wharfage_scheduler_core::{Caller, Fleet};
use wharfage_shared::enroll::{EnrollRequest, Enrolled, RenewRequest};
use wharfage_shared::ids::{GatewayName, JoinId, PoolId};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::PROTOCOL_VERSION;

use super::State;
use super::peer::Certified;
use super::problem::{Problem, whole};
use crate::secrets::sha256_hex;

/// `POST /agent/v1/enroll`: a host becomes a node.
pub async fn node(
    Shared(state): Shared<State>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Enrolled>, Problem> {
    let request: EnrollRequest = state.read("enroll", &whole(body)?)?;
    check_protocol(request.protocol)?;
    let wants = Wants::Node { pool: request.pool.clone() };
    let join = admitted(state.handle.view().fleet(), state.handle.now(), &request.secret, &wants)?;
    let name = PeerName::Node(request.name.clone());
    let (enrolled, key) = certify(&state, &request.csr_pem, &name)?;
    let action = nodes::Action::Enroll { node: request.name, join, pool: request.pool, key };
    submit(&state, Action::Node(action)).await?;
    tracing::info!(peer.name = %name, "a node has enrolled");
    Ok(Json(enrolled))
}

/// `POST /gateway/v1/enroll`: a process becomes a gateway.
pub async fn gateway(
    Shared(state): Shared<State>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Enrolled>, Problem> {
    let request: EnrollRequest = state.read("enroll", &whole(body)?)?;
    check_protocol(request.protocol)?;
    let view = state.handle.view();
    let join = admitted(view.fleet(), state.handle.now(), &request.secret, &Wants::Gateway)?;
    let gateway = GatewayName::from(request.name.as_str());
    let name = PeerName::Gateway(gateway.clone());
    let (enrolled, key) = certify(&state, &request.csr_pem, &name)?;
    let action = access::Action::EnrollGateway { gateway, join, key };
    submit(&state, Action::Access(action)).await?;
    tracing::info!(peer.name = %name, "a gateway has enrolled");
    Ok(Json(enrolled))
}

/// `POST /agent/v1/renew`, `POST /gateway/v1/renew`: the next certificate for the same key.
pub async fn renew(
    Shared(state): Shared<State>,
    certified: Certified,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Enrolled>, Problem> {
    let request: RenewRequest = state.read("renew", &whole(body)?)?;
    let ended = certified.peer.not_after.and_then(|end| SystemTime::now().duration_since(end).ok());
    if ended.is_some_and(|since| since > RENEWABLE_AFTER_END) {
        let detail = "the certificate ended more than 7 days ago: enrol with a new join string \
                      after an operator has allowed the name to rejoin";
        return Err(Problem::new(StatusCode::FORBIDDEN, "certificate_ended", detail));
    }
    let (enrolled, key) = certify(&state, &request.csr_pem, &certified.name)?;
    if key != certified.key {
        let detail = "csr_pem is for another key; accepted: the key that was enrolled";
        return Err(Problem::new(StatusCode::FORBIDDEN, "another_key", detail));
    }
    Ok(Json(enrolled))
}

/// What a join is presented for.
enum Wants {
    Node { pool: Option<PoolId> },
    Gateway,
}

/// The join that a secret belongs to, if it admits what is wanted. The controller decides again,
/// in order with all others; this look says what to do in words for an operator.
fn admitted(fleet: &Fleet, now: Timestamp, secret: &str, wants: &Wants) -> Result<JoinId, Problem> {
    let refused = |code, detail: String| Err(Problem::new(StatusCode::FORBIDDEN, code, detail));
    let Some(join) = fleet.join_by_sha256(&sha256_hex(secret)) else {
        let detail = "no join has this secret: ask an operator for a new join string \
                      (POST /api/v1/joins)";
        return refused("join_unknown", detail.to_owned());
    };
    match (&join.admits, wants) {
        (Admits::Nodes { pool }, Wants::Node { pool: Some(named) }) if pool != named => {
            let detail = format!(
                "the join admits to pool {pool}, this host's configuration names {named}: change \
                 the configuration, or ask for a join of {named}"
            );
            return refused("join_wrong_pool", detail);
        }
        (Admits::Nodes { .. }, Wants::Node { .. }) | (Admits::Gateways, Wants::Gateway) => {}
        (Admits::Nodes { pool }, Wants::Gateway) => {
            let detail = format!("the join admits nodes of pool {pool}: ask for one for gateways");
            return refused("join_wrong_pool", detail);
        }
        (Admits::Gateways, Wants::Node { .. }) => {
            let detail = "the join admits gateways: ask for one of the node's pool".to_owned();
            return refused("join_wrong_pool", detail);
        }
    }
    if now >= join.expires {
        let at = wharfage_billing::timestamp::to_rfc3339(join.expires);
        let detail = format!("the join ended at {at}: ask an operator for a new join string");
        return refused("join_expired", detail);
    }
    if join.used >= join.uses {
        let detail = format!(
            "the join was used {} of {} times: ask an operator for a new join string",
            join.used, join.uses
        );
        return refused("join_used_up", detail);
    }
    Ok(join.id.clone())
}

/// A certificate for the request's key, and that key's hash.
fn certify(state: &State, csr_pem: &str, name: &PeerName) -> Result<(Enrolled, String), Problem> {
    let signed = state.authority.sign_client(csr_pem, name, MACHINE_CERTIFICATE, SystemTime::now());
    let certificate_pem = signed.map_err(|error| match error {
        AuthorityError::Request(_) | AuthorityError::Name(_) => {
            Problem::malformed(error.to_string())
        }
        AuthorityError::File { .. }
        | AuthorityError::Half { .. }
        | AuthorityError::Unusable { .. }
        | AuthorityError::Crypto(_) => {
            tracing::error!(%error, peer.name = %name, "a certificate could not be made");
            let detail = "the scheduler could not make a certificate; its log says why";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }
    })?;
    let key = authority_pin(&certificate_pem).expect("a certificate made here can be read here");
    let enrolled = Enrolled {
        certificate_pem,
        authority_pem: state.authority.pem().to_owned(),
        valid_seconds: MACHINE_CERTIFICATE.as_secs(),
    };
    Ok((enrolled, key))
}

async fn submit(state: &State, action: Action) -> Result<(), Problem> {
    state.handle.submit(Command { caller: Caller::provider(), action }).await?;
    Ok(())
}

/// The release before and the release after this one speak with it too.
pub(super) fn check_protocol(protocol: u16) -> Result<(), Problem> {
    let (least, most) = (PROTOCOL_VERSION.saturating_sub(1).max(1), PROTOCOL_VERSION + 1);
    if (least..=most).contains(&protocol) {
        return Ok(());
    }
    let detail = format!("protocol {protocol}; this scheduler speaks {least} to {most}");
    Err(Problem::new(StatusCode::BAD_REQUEST, "protocol_unsupported", detail))
}
