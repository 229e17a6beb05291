//! The whole process: what is started in which order, and what ends it.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wharfage_link::socket::cannot_listen;
use wharfage_link::{Authority, Limits, ServerTls, serve, tls};
use wharfage_shared::causes::with_causes;

use crate::config::Config;
use crate::driver::{self, Driver};
use crate::telemetry::Telemetry;
use crate::{bootstrap, drills, http, log, machines, webhooks};

/// How often the writer's thread is looked at: it has no other way to say that it has failed.
const WATCH: Duration = Duration::from_secs(1);

/// The log holds what cannot be read.
const DATA: u8 = 65;
/// A needed service, port or file is not there.
const UNAVAILABLE: u8 = 69;
/// A mistake of our own.
const INTERNAL: u8 = 70;
/// Another scheduler has the log.
const ANOTHER_RUNS: u8 = 75;
/// The configuration must be changed.
const CONFIGURATION: u8 = 78;

/// Why the process ended other than by being asked to.
#[derive(Debug)]
pub struct Failure {
    /// The exit code, as in `docs/operating.md`.
    pub code: u8,
    /// One sentence with all causes.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// What the configuration is to blame for.
    pub fn configuration(error: &dyn std::error::Error) -> Self {
        Self { code: CONFIGURATION, message: with_causes(error) }
    }

    /// What is not there that is needed.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, message: message.into() }
    }
}

impl From<driver::Error> for Failure {
    fn from(error: driver::Error) -> Self {
        let code = match &error {
            driver::Error::Log(log::Error::InUse { .. }) => ANOTHER_RUNS,
            driver::Error::Log(log::Error::Remote { .. }) => CONFIGURATION,
            driver::Error::Log(error) if error.is_bad_data() => DATA,
            driver::Error::Log(_) | driver::Error::Append(_) | driver::Error::Thread(_) => {
                UNAVAILABLE
            }
        };
        Self { code, message: with_causes(&error) }
    }
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(config: Config) -> Result<(), Failure> {
    tls::install();
    make_state_dir(&config.state_dir)?;
    let authority = Authority::open_or_create(&config.state_dir.join("authority"))
        .map_err(|error| Failure::unavailable(with_causes(&error)))?;
    let authority = Arc::new(authority);
    let machines_tls = ServerTls::machines(&authority, &advertised_names(&config))
        .map_err(|error| Failure::unavailable(with_causes(&error)))?;
    let public_tls = match &config.tls {
        Some(tls) => Some(
            ServerTls::public(&tls.certificate, &tls.key)
                .map_err(|error| Failure::configuration(&error))?,
        ),
        None => None,
    };
    let driver = driver::start(driver::Options::of(&config)).await?;
    let listening = listen(&config).await;
    let (public, for_machines) = match listening {
        Ok(listeners) => listeners,
        Err(failure) => {
            driver.stop().await;
            return Err(failure);
        }
    };
    let currency = config.billing.currency;
    if let Err(error) = bootstrap::provide(&driver.handle, &config.state_dir, currency).await {
        driver.stop().await;
        return Err(Failure::unavailable(with_causes(&error)));
    }
    let shutdown = CancellationToken::new();
    let senders = webhooks::start(&config.webhooks, &driver.handle, &shutdown)
        .map_err(|error| Failure::unavailable(with_causes(&error)));
    let senders = match senders {
        Ok(senders) => senders,
        Err(failure) => {
            driver.stop().await;
            return Err(failure);
        }
    };
    let scheduled = drills::start(&driver.handle, &shutdown);
    let telemetry = Telemetry::default();
    let state = machines::State::new(
        driver.handle.clone(),
        telemetry.clone(),
        Arc::clone(&authority),
        shutdown.clone(),
    );
    let machines_router = machines::router(state);
    let address = match &config.machines_advertise {
        Some(address) => address.clone(),
        None => for_machines.1.to_string(),
    };
    let state = http::State {
        handle: driver.handle.clone(),
        telemetry,
        config: Arc::new(config),
        machines: http::Machines { address, authority: authority.spki_sha256() },
        shutdown: shutdown.clone(),
    };
    let public_router = http::router(state)
        .map_err(|error| Failure::unavailable(format!("cannot set up the HTTP API: {error}")))?;
    tracing::info!(
        listen = %public.1,
        machines.listen = %for_machines.1,
        "the scheduler listens"
    );
    let serving = async {
        tokio::join!(
            serve(public.0, public_router, public_tls, Limits::default(), shutdown.clone()),
            serve(
                for_machines.0,
                machines_router,
                Some(machines_tls),
                Limits::machines(),
                shutdown.clone()
            ),
        )
    };
    tokio::pin!(serving);
    let failed = tokio::select! {
        _ = &mut serving => None,
        asked = asked_to_end() => asked.err(),
        () = writer_ended(&driver) => {
            Some(Failure { code: INTERNAL, message: "the writer ended by itself".to_owned() })
        }
    };
    shutdown.cancel();
    serving.await;
    for sender in senders.into_iter().chain([scheduled]) {
        // One that panicked has told so; the others ended with `shutdown`.
        let _ = sender.await;
    }
    driver.stop().await;
    failed.map_or(Ok(()), Err)
}

fn make_state_dir(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Failure {
        code: CONFIGURATION,
        message: format!("state_dir: cannot create `{}`: {error}", dir.display()),
    })
}

/// Further names in the certificate of the listener for machines.
fn advertised_names(config: &Config) -> Vec<String> {
    let host =
        |address: &str| Some(address.rsplit_once(':')?.0.trim_matches(['[', ']']).to_owned());
    let mut names = vec![config.machines_listen.ip().to_string()];
    names.extend(config.machines_advertise.as_deref().and_then(host));
    names
}

type Bound = (TcpListener, SocketAddr);

async fn listen(config: &Config) -> Result<(Bound, Bound), Failure> {
    let public = bind("listen", config.listen).await?;
    let machines = bind("machines_listen", config.machines_listen).await?;
    Ok((public, machines))
}

async fn bind(key: &str, address: SocketAddr) -> Result<Bound, Failure> {
    let failed = |error: std::io::Error| Failure::unavailable(cannot_listen(key, address, &error));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn asked_to_end() -> Result<(), Failure> {
    let on = |kind| {
        signal(kind)
            .map_err(|error| Failure::unavailable(format!("cannot wait for signals: {error}")))
    };
    let (mut interrupt, mut terminate) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("the scheduler was asked to end");
    Ok(())
}

async fn writer_ended(driver: &Driver) {
    while !driver.has_ended() {
        tokio::time::sleep(WATCH).await;
    }
}
