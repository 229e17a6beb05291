//! The gateway's side of the protocol: join once, hold a question for newer routes open, report
//! what is in flight.
//!
//! Nothing here can stop requests: without a scheduler the last routes go on, also through a
//! restart of the gateway, because they are kept in its state folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use tokio_util::sync::CancellationToken;
use wharfage_link::enroll::{enroll, renew};
use wharfage_link::files::write_atomically;
use wharfage_link::{ClientError, Decoder, EnrollError, IdentityDir, MachineClient};
use wharfage_shared::causes::with_causes;
use wharfage_shared::enroll::{EnrollRequest, JoinString};
use wharfage_shared::gateway::Routes;
use wharfage_shared::ids::NodeId;
use wharfage_shared::version::PROTOCOL_VERSION;

use crate::gateway::Gateway;

/// The scheduler holds the question for routes open for 20 s.
const ROUTES_TIMEOUT: Duration = Duration::from_secs(30);

/// A report that takes longer is worth nothing: the next one is on its way.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between reports when nothing is urgent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The least time between reports, however urgent.
const REPORT_GAP: Duration = Duration::from_millis(20);

/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often the certificate's age is looked at.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

const ROUTES_FILE: &str = "routes.json";
const SCHEDULER_FILE: &str = "scheduler";
const IDENTITY_FOLDER: &str = "identity";

/// The gateway's folder: who it is, whom it reports to, what it was told last.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
}

/// Why the gateway cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not enrolled and nothing to enrol with.
    #[error("not enrolled yet: give join or join_file, as `POST /api/v1/joins` prints it")]
    NoJoin,
    /// The scheduler said no.
    #[error("the scheduler refused the join")]
    Refused(#[source] EnrollError),
    /// The state folder.
    #[error("cannot use `{path}`")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The identity in it.
    #[error(transparent)]
    Identity(#[from] wharfage_link::identity::Error),
}

impl State {
    /// The folder, made if it is not there.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir)
            .map_err(|source| Error::File { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Key and certificate.
    pub fn identity(&self) -> IdentityDir {
        IdentityDir::new(self.dir.join(IDENTITY_FOLDER))
    }

    /// The routes of an earlier life, if they are there and readable.
    pub fn routes(&self) -> Option<Routes> {
        let path = self.dir.join(ROUTES_FILE);
        let bytes = std::fs::read(&path).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(routes) => Some(routes),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the kept routes");
                None
            }
        }
    }

    /// Keeps `routes` for the next life.
    pub fn keep_routes(&self, routes: &Routes) -> io::Result<()> {
        let bytes = serde_json::to_vec(routes).map_err(io::Error::other)?;
        // Hashes of tokens are in it: for its owner alone.
        write_atomically(&self.dir.join(ROUTES_FILE), &bytes, 0o600)
    }

    /// Where the scheduler is: as the join string says, else as it was when enrolling.
    fn scheduler(&self, join: Option<&JoinString>) -> Result<String, Error> {
        let path = self.dir.join(SCHEDULER_FILE);
        if let Some(join) = join {
            write_atomically(&path, join.address.as_bytes(), 0o644)
                .map_err(|source| Error::File { path, source })?;
            return Ok(join.address.clone());
        }
        let address =
            std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
        Ok(address.trim().to_owned())
    }
}

/// Enrols unless that was done in an earlier life, and says where the scheduler is. Waits for a
/// scheduler that is not there yet; a refusal is final.
pub async fn join(
    state: &State,
    name: &str,
    join: Option<&JoinString>,
    decoder: &Decoder,
) -> Result<String, Error> {
    let identity = state.identity();
    let join = match join {
        None if identity.is_enrolled() => return state.scheduler(None),
        None => return Err(Error::NoJoin),
        Some(join) if identity.is_usable_for(join, SystemTime::now()) => {
            return state.scheduler(Some(join));
        }
        Some(join) => join,
    };
    let request = EnrollRequest {
        protocol: PROTOCOL_VERSION,
        name: NodeId::from(name),
        pool: None,
        secret: join.secret.clone(),
        csr_pem: identity.create_key_and_csr(name)?,
    };
    let mut pause = RETRY.0;
    loop {
        match enroll(join, "/gateway/v1/enroll", &request, decoder).await {
            Ok(enrolled) => {
                identity.store(&enrolled)?;
                tracing::info!(scheduler = %join.address, "joined the installation");
                return state.scheduler(Some(join));
            }
            Err(error @ EnrollError::Unreachable(_)) => {
                tracing::warn!(scheduler = %join.address, %error, "cannot join yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            Err(error) => return Err(Error::Refused(error)),
        }
    }
}

/// Follows the scheduler until `shutdown`.
pub async fn follow(
    gateway: Arc<Gateway>,
    client: Arc<MachineClient>,
    state: State,
    shutdown: CancellationToken,
) {
    let followed = async {
        tokio::join!(
            follow_routes(&gateway, &client, &state),
            report(&gateway, &client),
            keep_certificate(&client, state.identity()),
        )
    };
    shutdown.run_until_cancelled(followed).await;
}

/// Asks for newer routes, for ever.
async fn follow_routes(gateway: &Gateway, client: &MachineClient, state: &State) {
    let mut pause = RETRY.0;
    loop {
        let version = gateway.table().version;
        let path = format!("/gateway/v1/routes?term={}&number={}", version.term.0, version.number);
        match client.get_json::<Routes>(&path, ROUTES_TIMEOUT).await {
            Ok(Some(routes)) => {
                pause = RETRY.0;
                heard(gateway, None);
                if !gateway.adopt(&routes) {
                    // A scheduler that answers at once with what we have must not make us spin.
                    tokio::time::sleep(pause).await;
                    continue;
                }
                keep(state, routes).await;
            }
            Ok(None) => {
                pause = RETRY.0;
                heard(gateway, None);
            }
            Err(error) => {
                heard(gateway, Some(&error));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

/// Writes the routes down without keeping requests waiting.
async fn keep(state: &State, routes: Routes) {
    let state = state.clone();
    let kept = tokio::task::spawn_blocking(move || state.keep_routes(&routes)).await;
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot keep the routes for a restart"),
        Err(error) => tracing::warn!(%error, "cannot keep the routes for a restart"),
    }
}

/// Reports every second, and at once when something is urgent.
async fn report(gateway: &Gateway, client: &MachineClient) {
    // Above every number of an earlier life of this gateway.
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut number = u64::try_from(since_1970.as_millis()).unwrap_or(0);
    loop {
        number += 1;
        let report = gateway.report(number);
        let sent =
            client.post_json::<_, IgnoredAny>("/gateway/v1/report", &report, REPORT_TIMEOUT).await;
        if let Err(error) = &sent {
            heard(gateway, Some(error));
        } else {
            heard(gateway, None);
        }
        tokio::time::sleep(REPORT_GAP).await;
        let urgent = gateway.counts.urgent.notified();
        let _ = tokio::time::timeout(REPORT_INTERVAL - REPORT_GAP, urgent).await;
    }
}

/// Renews the certificate when two thirds of its life are over.
async fn keep_certificate(client: &MachineClient, identity: IdentityDir) {
    loop {
        let due = identity.load().map(|own| own.needs_renewal(SystemTime::now()));
        match due {
            Ok(false) => {}
            Ok(true) => match renew(client, "/gateway/v1/renew", &identity).await {
                Ok(()) => tracing::info!("renewed the certificate"),
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(%error, "cannot renew the certificate yet");
                }
            },
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(%error, "cannot read the certificate");
            }
        }
        tokio::time::sleep(RENEWAL_CHECK).await;
    }
}

/// Logs when the scheduler goes and when it comes back, not every failure in between.
fn heard(gateway: &Gateway, failure: Option<&ClientError>) {
    if !gateway.set_connected(failure.is_none()) {
        return;
    }
    match failure {
        None => tracing::info!("the scheduler answers"),
        Some(error) => tracing::warn!(%error, "lost the scheduler; the last routes stay in use"),
    }
}
