//! The life of the engine: take the address, load, listen, stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{self, Engine};
use crate::args::{EngineArgs, Surroundings};
use crate::claims::Claims;
use crate::gang;
use crate::load;
use crate::meter::Meter;
use crate::report::{Progress, print};
use crate::server;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Exit code of a crash that was ordered with `--exit-after-seconds`.
const CRASHED: i32 = 1;

/// Why the engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `CUDA_VISIBLE_DEVICES` names something that is no GPU uuid.
    #[error("CUDA_VISIBLE_DEVICES must list GPU uuids (letters, digits, `-`), got `{got}`")]
    Device {
        /// The entry.
        got: String,
    },
    /// The address is not free.
    #[error("cannot take the address {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The operating system refuses a signal handler or a connection.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A model file cannot be read or written.
    #[error("cannot use the model at `{path}`")]
    Model {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The folder holds nothing to load.
    #[error("no model in `{path}`: it holds no file with contents")]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// `--fail-load`.
    #[error("loading failed at {bytes} of {total} bytes, as --fail-load asks")]
    LoadFailed {
        /// Bytes read so far.
        bytes: u64,
        /// Bytes of the model.
        total: u64,
    },
    /// The other members of an engine on several hosts cannot be met.
    #[error("cannot go on with the leader at {address}")]
    Gang {
        /// Where they meet.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another member has ended.
    #[error("the member {rank} is gone: all of them end")]
    MemberGone {
        /// Which.
        rank: u32,
    },
    /// CUDA's driver library does not start or gives no memory.
    #[error(transparent)]
    Cuda(#[from] wharfage_agent_sys::cuda::Error),
    /// The memory claim cannot be written.
    #[error("cannot write the claim `{path}`")]
    Claim {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Runs the engine until SIGTERM or SIGINT; answers the exit code of the process.
pub async fn run(args: EngineArgs) -> Result<i32, Error> {
    let surroundings = Surroundings::from_environment()?;
    let stop = CancellationToken::new();
    let _listening = AbortOnDropHandle::new(listen_for_signals(&args, stop.clone())?);
    run_until(args, surroundings, stop).await
}

/// SIGTERM and SIGINT cancel the token; a SIGTERM that is to be ignored is taken and dropped.
fn listen_for_signals(
    args: &EngineArgs,
    stop: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, Error> {
    let failed = |source| Error::System { what: "listen for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let is_deaf = args.ignore_sigterm;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => if is_deaf { continue },
                _ = interrupt.recv() => {}
            }
            stop.cancel();
            return;
        }
    }))
}

/// Runs the engine until the token is cancelled, for callers that have their own signals.
pub async fn run_until(
    args: EngineArgs,
    surroundings: Surroundings,
    stop: CancellationToken,
) -> Result<i32, Error> {
    let claims = Claims::open(&surroundings)?;
    let crash_after = args.exit_after_seconds;
    tokio::select! {
        outcome = live(args, surroundings, &claims, stop) => outcome.map(|()| 0),
        () = crash(crash_after) => {
            claims.abandon();
            Ok(CRASHED)
        }
    }
}

async fn crash(after_seconds: Option<f64>) {
    match after_seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
        None => std::future::pending().await,
    }
}

async fn live(
    args: EngineArgs,
    surroundings: Surroundings,
    claims: &Claims,
    stop: CancellationToken,
) -> Result<(), Error> {
    // Taken now, listened on later: as with vLLM, a client is refused until the model is loaded.
    let (socket, address) = take(SocketAddr::new(args.host, args.port))?;
    let model = args.model_name();
    print(&Progress::Starting { port: address.port(), model: &model, gpus: &surroundings.gpus });
    tokio::select! {
        loaded = load::load(&args, claims) => loaded?,
        () = stop.cancelled() => return Ok(()),
    }
    if args.startup_refuse {
        stop.cancelled().await;
        return Ok(());
    }
    let membership = args.membership();
    if let Some(member) = membership.as_ref().filter(|member| member.rank > 0) {
        tokio::select! {
            error = gang::follow(member) => return Err(error),
            () = stop.cancelled() => return Ok(()),
        }
    }
    let mut others = None;
    if let Some(member) = &membership {
        tokio::select! {
            gathered = gang::gather(member) => others = Some(gathered?),
            () = stop.cancelled() => return Ok(()),
        }
    }
    let listener = socket.listen(BACKLOG).map_err(|source| Error::Bind { address, source })?;
    let meter = Arc::new(Meter::new());
    let engine = Engine::new(&args, surroundings, Arc::clone(&meter));
    print(&Progress::Ready { url: &format!("http://{address}") });
    let served = server::serve(listener, api::router(engine), stop, args.abort_on_sigterm, &meter);
    tokio::select! {
        () = served => {}
        error = lost(&mut others) => return Err(error),
        failed = show_utilization(&meter, claims) => return failed,
    }
    print(&Progress::Stopped);
    Ok(())
}

/// A member of several is lost; one that is alone never is.
async fn lost(others: &mut Option<gang::Others>) -> Error {
    match others {
        Some(others) => others.lost().await,
        None => std::future::pending().await,
    }
}

fn take(address: SocketAddr) -> Result<(TcpSocket, SocketAddr), Error> {
    let taken = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let taken = socket.local_addr()?;
        Ok((socket, taken))
    };
    taken().map_err(|source| Error::Bind { address, source })
}

/// Keeps the claim's utilization at what the running generations amount to; ends only by failing.
async fn show_utilization(meter: &Meter, claims: &Claims) -> Result<(), Error> {
    /// Writing at each token of many streams would wear out the disk for nothing.
    const BETWEEN_WRITES: Duration = Duration::from_millis(50);
    let mut running = meter.watch_running();
    loop {
        let count = *running.borrow_and_update();
        let percent = if count == 0 { 0 } else { 35 + count.saturating_mul(10).min(65) };
        claims.show_utilization(percent)?;
        tokio::time::sleep(BETWEEN_WRITES).await;
        // The sender lives in `meter`, so this waits and does not fail.
        if running.changed().await.is_err() {
            return Ok(());
        }
    }
}
