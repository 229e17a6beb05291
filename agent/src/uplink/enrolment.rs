//! Joining: exchanges the join string's secret for a short-lived certificate; the key never leaves
//! the host.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use wharfage_link::enroll::{self, EnrollError};
use wharfage_link::identity::IdentityDir;
use wharfage_link::{Decoder, RENEWABLE_AFTER_END};
use wharfage_shared::causes::with_causes;
use wharfage_shared::enroll::EnrollRequest;
use wharfage_shared::version::PROTOCOL_VERSION;

use crate::config::Config;
use crate::exit::Failure;

/// The first pause while nobody answers; doubled up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause while nobody answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Makes sure that the node has an identity. Waits for the scheduler as long as nobody answers; a
/// refusal is final and says what to do.
pub async fn enrol(
    config: &Config,
    identity: &IdentityDir,
    decoder: &Decoder,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    if identity.is_enrolled() {
        let known = identity.load().map_err(|error| Failure::config(with_causes(&error)))?;
        if known.name.as_str() != config.node {
            return Err(Failure::config(format!(
                "this state folder belongs to node `{}`, the configuration says `{}`: give the \
                 node its old name or another state_dir",
                known.name.as_str(),
                config.node
            )));
        }
        // An older certificate cannot be renewed any more: the node must join again.
        if SystemTime::now() <= known.not_after + RENEWABLE_AFTER_END {
            return Ok(());
        }
    }
    let join = config.join_string().map_err(Failure::config)?.ok_or_else(|| {
        Failure::config(
            "this node has no valid certificate: set join or join_file to a join string of its \
             pool (POST /api/v1/joins)",
        )
    })?;
    let csr_pem = identity
        .create_key_and_csr(&config.node)
        .map_err(|error| Failure::config(with_causes(&error)))?;
    let request = EnrollRequest {
        protocol: PROTOCOL_VERSION,
        name: config.node_id(),
        pool: config.pool_id(),
        secret: join.secret.clone(),
        csr_pem,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        match enroll::enroll(&join, "/agent/v1/enroll", &request, decoder).await {
            Ok(enrolled) => {
                identity.store(&enrolled).map_err(|error| Failure::config(with_causes(&error)))?;
                std::fs::write(address_file(identity.path()), &join.address).map_err(|error| {
                    Failure::config(format!("cannot keep the address: {error}"))
                })?;
                tracing::info!(node.id = %config.node, "the node has joined the fleet");
                return Ok(());
            }
            Err(EnrollError::Unreachable(error)) => {
                tracing::warn!("the scheduler is not reached, trying again: {error}");
            }
            Err(error) => {
                let why = with_causes(&error);
                return Err(Failure::config(format!("joining was refused: {why}")));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Err(Failure::unavailable("ended before it had joined")),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where the scheduler is: as the join string says it, else as it was when the node joined.
pub fn address(config: &Config, identity: &IdentityDir) -> Result<String, Failure> {
    if let Ok(Some(join)) = config.join_string() {
        return Ok(join.address);
    }
    let path = address_file(identity.path());
    std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|error| {
        Failure::config(format!(
            "the scheduler's address is not known (`{}`: {error}): set join or join_file",
            path.display()
        ))
    })
}

fn address_file(identity: &Path) -> PathBuf {
    identity.join("scheduler")
}
