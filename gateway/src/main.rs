//! `wharfage-gateway`: reads its configuration, takes its port, joins, serves.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wharfage_gateway::config::Config;
use wharfage_gateway::gateway::{Bounds, Gateway};
use wharfage_gateway::openai::router;
use wharfage_gateway::uplink::{self, State};
use wharfage_link::socket::cannot_listen;
use wharfage_link::tls::guard_connector;
use wharfage_link::{Decoder, Limits, MachineClient, ServerTls, serve};
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::GatewayName;

/// The request path in front of the replicas.
#[derive(Parser)]
#[command(name = "wharfage-gateway", version, about)]
struct Arguments {
    /// The configuration in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads and checks the configuration, and does nothing else.
    CheckConfig,
}

/// How the program ends when it cannot go on.
struct Failure {
    code: u8,
    sentence: String,
}

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const ALREADY_RUNNING: u8 = 75;
const CONFIGURATION: u8 = 78;

impl Failure {
    fn new(code: u8, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    fn because(code: u8, error: &dyn std::error::Error) -> Self {
        Self::new(code, with_causes(error))
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic where the disk under standard error is full.
            drop(writeln!(std::io::stderr(), "wharfage-gateway: {}", failure.sentence));
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    wharfage_link::tls::install();
    let config =
        Config::read(&arguments.config).map_err(|error| Failure::because(CONFIGURATION, &error))?;
    let tls = match &config.tls {
        None => None,
        Some(tls) => Some(
            ServerTls::public(&tls.certificate, &tls.key)
                .map_err(|error| Failure::because(CONFIGURATION, &error))?,
        ),
    };
    if let Some(Command::CheckConfig) = arguments.command {
        // It is needed until the gateway has joined, and is best taken away afterwards.
        match config.join_file.as_deref().filter(|path| !path.exists()) {
            Some(path) => {
                println!(
                    "join_file `{}` is not there: the gateway must have joined",
                    path.display()
                );
            }
            None => drop(config.join().map_err(|error| Failure::because(CONFIGURATION, &error))?),
        }
        println!("{} is good", arguments.config.display());
        return Ok(());
    }
    log_to_stderr();
    let state = State::open(&config.state_dir).map_err(|e| Failure::because(CONFIGURATION, &e))?;
    let _lock = lock(&config.state_dir)?;
    let listener = listen(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because(UNAVAILABLE, &error))?;
    runtime.block_on(live(config, state, listener, tls))
}

/// Holds the state folder against a second instance for as long as the file is open.
fn lock(state_dir: &Path) -> Result<File, Failure> {
    let path = state_dir.join("lock");
    let file = File::create(&path).map_err(|error| {
        Failure::new(CONFIGURATION, format!("cannot use `{}`: {error}", path.display()))
    })?;
    file.try_lock().map_err(|error| {
        let sentence = format!("another gateway uses `{}`: {error}", state_dir.display());
        Failure::new(ALREADY_RUNNING, sentence)
    })?;
    Ok(file)
}

/// Takes the port before anything else is tried, so that a conflict is told at once.
fn listen(config: &Config) -> Result<TcpListener, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(UNAVAILABLE, cannot_listen("listen", config.listen, &error))
    };
    let listener = TcpListener::bind(config.listen).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    Ok(listener)
}

async fn live(
    config: Config,
    state: State,
    listener: TcpListener,
    tls: Option<ServerTls>,
) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let unavailable = |error: &dyn std::error::Error| Failure::because(UNAVAILABLE, error);
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| unavailable(&e))?;
    let join = if state.identity().is_enrolled() {
        // The join string may be used up and gone by now.
        config.join().ok().flatten()
    } else {
        config.join().map_err(|error| Failure::because(CONFIGURATION, &error))?
    };
    let decoder = Decoder::default();
    let joined = uplink::join(&state, &config.name, join.as_ref(), &decoder);
    let Some(address) = shutdown.run_until_cancelled(joined).await else { return Ok(()) };
    let address = address.map_err(|error| Failure::because(CONFIGURATION, &error))?;
    let client = MachineClient::new(state.identity(), address)
        .map_err(|error| Failure::because(CONFIGURATION, &error))?
        .reading_with(decoder.clone());
    let connector = guard_connector(state.identity())
        .map_err(|error| Failure::because(CONFIGURATION, &error))?;
    let bounds = Bounds {
        queue_timeout: config.queue_timeout(),
        queue_limit: config.queue_limit,
        answer_timeout: config.answer_timeout(),
    };
    let name = GatewayName::from(config.name.as_str());
    let gateway =
        Gateway::new(name, bounds, connector).reached_at(config.endpoint()).reading_with(decoder);
    let gateway = Arc::new(gateway);
    if let Some(routes) = state.routes() {
        gateway.adopt(&routes);
    }
    let limits = Limits {
        connections: usize::try_from(config.connections).unwrap_or(usize::MAX),
        // Applications behind one address hold hundreds of streams.
        per_address: None,
        grace: Duration::from_secs(config.grace_seconds.into()),
        ..Limits::default()
    };
    // The scheduler hears of the last requests as well: the uplink ends after the listener.
    let served = CancellationToken::new();
    let following =
        tokio::spawn(uplink::follow(Arc::clone(&gateway), Arc::new(client), state, served.clone()));
    tracing::info!(listen = %config.listen, "serving");
    serve(listener, router(gateway), tls, limits, shutdown).await;
    served.cancel();
    following.await.map_err(|error| unavailable(&error))
}

/// SIGTERM and SIGINT let requests in flight end; a second one does not.
fn stop_on_signal(shutdown: CancellationToken) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::because(UNAVAILABLE, &error));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests in flight may end");
        shutdown.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(())
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WHARFAGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a full disk with a panic.
        .log_internal_errors(false)
        .init();
}
