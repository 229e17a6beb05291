//! The exchange of a join string's secret for a certificate, and of a certificate for the next one.
//!
//! The secret is sent only inside a connection whose other end has proven that it belongs to the
//! authority in the join string.

use std::time::Duration;

use wharfage_shared::enroll::{EnrollRequest, Enrolled, JoinString, MachineProblem, RenewRequest};

use crate::client::{ClientError, MachineClient, exchange, http_client, parse, url};
use crate::decode::Decoder;
use crate::identity::{self, IdentityDir};
use crate::tls::{self, pinned_config};
use crate::verify::spki_sha256;

/// For the whole exchange: the scheduler writes to its log before it answers.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a machine could not join or renew.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The scheduler said no, and what to do about it.
    #[error("{} ({})", .0.detail, .0.code)]
    Refused(MachineProblem),
    /// Nobody of the wanted authority answered.
    #[error("cannot reach the scheduler: {0}")]
    Unreachable(#[source] ClientError),
    /// What was answered is not of the authority that the join string names.
    #[error("the answer's authority is not the one that the join string names: nothing was kept")]
    WrongAuthority,
    /// The folder of the machine's identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Posts `request` to `path` (`/agent/v1/enroll` or `/gateway/v1/enroll`) of the join's scheduler.
pub async fn enroll(
    join: &JoinString,
    path: &str,
    request: &EnrollRequest,
    decoder: &Decoder,
) -> Result<Enrolled, EnrollError> {
    let client = http_client(pinned_config(&join.authority)?, &join.address).map_err(sort)?;
    let call = client.post(url(&join.address, path)).json(request).timeout(EXCHANGE_TIMEOUT);
    let answer = exchange(call, &join.address, path, decoder).await.map_err(sort)?;
    let enrolled: Enrolled = parse(path, &answer.unwrap_or_default(), decoder).map_err(sort)?;
    if authority_pin(&enrolled.authority_pem).as_deref() == Some(join.authority.as_str()) {
        Ok(enrolled)
    } else {
        Err(EnrollError::WrongAuthority)
    }
}

/// Whether the scheduler of this join string answers there: who does has proven that it belongs to the
/// authority. Nothing is sent that counts.
pub async fn is_answered(join: &JoinString) -> Result<(), EnrollError> {
    let client = http_client(pinned_config(&join.authority)?, &join.address).map_err(sort)?;
    let path = "/agent/v1/enroll";
    let call = client.get(url(&join.address, path)).timeout(EXCHANGE_TIMEOUT);
    match exchange(call, &join.address, path, &Decoder::default()).await {
        // It is asked with the wrong method: any word of it will do.
        Ok(_) | Err(ClientError::Refused { .. } | ClientError::BadAnswer { .. }) => Ok(()),
        Err(error) => Err(sort(error)),
    }
}

/// Asks for the next certificate over the present one and keeps it.
pub async fn renew(
    client: &MachineClient,
    path: &str,
    identity: &IdentityDir,
) -> Result<(), EnrollError> {
    let name = identity.load()?.name;
    let request = RenewRequest { csr_pem: identity.create_key_and_csr(name.as_str())? };
    let enrolled: Enrolled =
        client.post_json(path, &request, EXCHANGE_TIMEOUT).await.map_err(sort)?;
    identity.store(&enrolled)?;
    Ok(())
}

/// The SHA-256 of the public key of a certificate in PEM, as join strings spell it.
pub fn authority_pin(pem: &str) -> Option<String> {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    crate::peer::Facts::read(&der).map(|facts| spki_sha256(&facts.spki))
}

fn sort(error: ClientError) -> EnrollError {
    match error {
        ClientError::Refused { problem, .. } => EnrollError::Refused(problem),
        ClientError::Tls(error) => EnrollError::Tls(error),
        error @ (ClientError::Unreachable { .. } | ClientError::BadAnswer { .. }) => {
            EnrollError::Unreachable(error)
        }
    }
}
