//! The agent from its configuration to its end: lock, join, find what is there, run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::{Agent, Effect, Found, Input};
use wharfage_agent_sys::clock;
use wharfage_agent_sys::lock::{self, Lock};
use wharfage_link::Decoder;
use wharfage_link::identity::IdentityDir;
use wharfage_link::tls;
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::{NoticeId, SegmentLogId};
use wharfage_shared::time::Millis;

use crate::config::{Config, OnExit};
use crate::drivers::{Driver, Host, Way, random_text};
use crate::exit::Failure;
use crate::gpu::census::Roots;
use crate::gpu::supervisor::{self, Watched};
use crate::gpu::{Gpus, Settings};
use crate::health;
use crate::inventory::Definitions;
use crate::journal::desired::DesiredFile;
use crate::journal::health::HealthFile;
use crate::journal::history::HistoryFile;
use crate::journal::segments::{Opened, SegmentLog};
use crate::notices::hearing::Hearing;
use crate::notices::start::{Listening, listen};
use crate::reload;
use crate::runtime::{Ask, Ears, End, Parts, Runtime, core_config};
use crate::status;
use crate::supervised::{self, Pulse};
use crate::uplink::{self, Line, Output};

/// NVML's first word is awaited a little longer than its own deadline.
const FIRST_GPUS: Duration = Duration::from_secs(11);

/// What still talks at the end is waited for so long: the next start must not find the port taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Inputs that may wait while a step is carried out.
const MOST_WAITING: usize = 1024;

/// Runs the agent until a signal ends it. `path` is where its settings came from.
pub async fn run(config: Config, path: PathBuf) -> Result<(), Failure> {
    let (told_to_end, stop) = (CancellationToken::new(), CancellationToken::new());
    end_on_signals(&told_to_end)?;
    let _not_ended_by_a_limit = supervised::outlive_file_limit().map_err(no_signals)?;
    let hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    tls::install();
    let state = config.state_dir.clone();
    make_private(&state)?;
    let _lock = take_lock(&state)?;
    let token = status::token(&config.status)?;
    let page = status::bind(&config.status).await?;
    let (asks, asked) = mpsc::channel(MOST_WAITING);
    let serving = tokio::spawn(status::run(page, asks.clone(), token, stop.clone()));
    let pulse = Pulse::default();
    tokio::spawn(supervised::feed_watchdog(pulse.clone(), stop.clone()));
    // Ready before it has joined: that may wait for a scheduler for hours.
    supervised::ready("joins");
    let decoder = Decoder::default();
    let identity = IdentityDir::new(state.join("identity"));
    uplink::enrol(&config, &identity, &decoder, &told_to_end).await?;
    let address = uplink::address(&config, &identity)?;

    let Watched { gpus, xids } = watch_gpus(&config, &stop)?;
    let settled = settled(gpus.clone()).await;
    let (inputs, heard) = mpsc::channel(MOST_WAITING);
    let (driver, why) = driver(&config, &identity, gpus.clone(), inputs.clone()).await?;
    let report_now = Arc::new(Notify::new());
    let segment_closed = Arc::new(Notify::new());
    let (output, last_words) = Output::new(state);
    let done_with = broadcast::Sender::new(16);
    let hearing = Arc::<Hearing>::default();
    let (delay, shutdown_delay) = watch::channel(None);
    let wires = Wires {
        report_now: Arc::clone(&report_now),
        segment_closed: Arc::clone(&segment_closed),
        decoder: decoder.clone(),
        output: output.clone(),
        pulse,
        done_with: done_with.clone(),
        hearing: Arc::clone(&hearing),
        shutdown_delay,
    };
    let (mut parts, first) = awake(&config, driver, &settled, wires).await?;
    parts.troubles.extend(why);
    let driver = Arc::clone(&parts.driver);
    let listening =
        Listening { inputs: inputs.clone(), done: done_with, hearing: Arc::clone(&hearing), delay };
    let alarms = listen(&config.notices, listening, &stop);
    let (nonce, delay) = (parts.nonce.clone(), parts.shutdown_delay.clone());
    let told = health::Told { nonce, gpus: gpus.clone(), delay, hearing, inputs };
    let (kernel, deaf) = health::start(&driver, told, &stop);
    parts.troubles.extend(deaf);
    tokio::spawn(reload_on_hangup(hangups, path, Arc::clone(&driver), asks.clone(), stop.clone()));
    let line = Line { address, identity, decoder, asks, report_now, segment_closed };
    tokio::spawn(uplink::send_output(output, last_words, line.client(), stop.clone()));
    let talking = tokio::spawn(uplink::run(line, stop.clone()));
    let ears = Ears { inputs: heard, asks: asked, alarms, gpus, xids, kernel };
    supervised::status("runs");
    tracing::info!(node.id = %config.node, status = %config.status.listen, "the agent runs");
    let runtime = Runtime::new(parts, settled);
    let end = runtime.run(first, ears, told_to_end).await;
    supervised::stopping("ends");
    stop.cancel();
    wind_up(end, &driver, async { tokio::join!(serving, talking) }).await
}

/// What is still to be done when the decisions have ended.
async fn wind_up(end: End, driver: &Driver, tasks: impl Future) -> Result<(), Failure> {
    if end == End::Stopped && driver.config().on_exit == OnExit::Stop {
        driver.end_all().await;
    }
    // They end by the same token; what they would still say nobody hears.
    drop(tokio::time::timeout(LAST_WORDS, tasks).await);
    match end {
        End::Stopped => Ok(()),
        End::Superseded => Err(Failure::another_runs(
            "a newer start of this node exists (a copy of this host?): this agent ends and leaves \
             its replicas alone",
        )),
    }
}

/// What carries replicas on this host; with one sentence when they do not become units although
/// nobody said that they should not.
async fn driver(
    config: &Config,
    identity: &IdentityDir,
    gpus: watch::Receiver<Arc<Gpus>>,
    inputs: mpsc::Sender<Input>,
) -> Result<(Arc<Driver>, Option<String>), Failure> {
    let boot =
        clock::boot_id().map_err(|error| Failure::unavailable(format!("no boot id: {error}")))?;
    let (way, why) = Way::choose(config).await.map_err(Failure::unavailable)?;
    let program = own_program()?;
    let identity_dir = identity.path().to_owned();
    let host = Host { way, program, identity_dir, boot, gpus, inputs };
    Ok((Arc::new(Driver::new(config.clone(), host)), why))
}

/// How the runtime and what runs beside it hear of each other.
struct Wires {
    report_now: Arc<Notify>,
    segment_closed: Arc<Notify>,
    decoder: Decoder,
    output: Output,
    pulse: Pulse,
    done_with: broadcast::Sender<NoticeId>,
    hearing: Arc<Hearing>,
    shutdown_delay: watch::Receiver<Option<Millis>>,
}

/// The agent as the disk and the processes of this host say that it was left, and what it does first.
async fn awake(
    config: &Config,
    driver: Arc<Driver>,
    gpus: &Gpus,
    wires: Wires,
) -> Result<(Parts, Vec<Effect>), Failure> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| Failure::unavailable(format!("cannot {what}: {error}"))
    };
    let definitions = Definitions::load(config);
    let nonce = random_text().map_err(failed("get random numbers"))?;
    let fresh = SegmentLogId::from(nonce.as_str());
    let opened = SegmentLog::open(&config.state_dir, &driver.boot, fresh);
    let Opened { log, open, unsaved, mut troubles } =
        opened.map_err(in_state(config, "the segment log cannot be opened"))?;
    let desired_file = DesiredFile::of(&config.state_dir);
    let (desired, damage) = desired_file.load();
    let (history, unread) = HistoryFile::open(&config.state_dir);
    troubles.extend(damage.into_iter().chain(unread));
    let health_file = HealthFile::of(&config.state_dir);
    let (remembered, forgotten) = health_file.load();
    troubles.extend(forgotten);
    troubles.extend(definitions.refused.iter().cloned());
    let replicas = driver.adopt().await;
    let replicas = replicas.map_err(in_state(config, "the replicas' records cannot be read"))?;
    let orders: BTreeMap<_, _> =
        replicas.iter().map(|found| (found.order.replica, found.order.clone())).collect();
    let stored = desired.as_ref().map(|desired| desired.version).unwrap_or_default();
    let found = Found {
        node: config.node_id(),
        boot: driver.boot.clone(),
        nonce: nonce.clone(),
        desired,
        replicas,
        log: log.id().clone(),
        last_segment: unsaved.as_ref().map_or(log.last(), |segment| segment.key.number),
        open_segment: open,
        unacknowledged: log.unacknowledged().iter().chain(&unsaved).cloned().collect(),
        inventory: definitions.inventory(gpus, history.stored(), driver.weights().cached()),
        health: remembered,
    };
    let policy = health::policy::load(config.health.xid_policy.as_deref());
    let policy = policy.map_err(Failure::config)?;
    let (mut agent, first) = Agent::new(found, core_config(config, &definitions, policy.clone()));
    agent.remember(history.stored().clone());
    let parts = Parts {
        node: config.node_id(),
        nonce,
        agent,
        driver,
        definitions,
        desired_file,
        history,
        policy,
        health_file,
        stored,
        log,
        unsaved,
        report_now: wires.report_now,
        segment_closed: wires.segment_closed,
        decoder: wires.decoder,
        output: wires.output,
        orders,
        troubles,
        pulse: wires.pulse,
        done_with: wires.done_with,
        hearing: wires.hearing,
        shutdown_delay: wires.shutdown_delay,
    };
    Ok((parts, first))
}

/// Checks everything that can be checked without running: settings, definitions, token.
pub fn check(config: &Config) -> Result<(), Failure> {
    status::token(&config.status)?;
    health::policy::load(config.health.xid_policy.as_deref()).map_err(Failure::config)?;
    // It is needed until the node has joined, and is best taken away afterwards.
    match config.join_file.as_deref().filter(|path| !path.exists()) {
        Some(path) => {
            println!("join_file `{}` is not there: the node must have joined", path.display())
        }
        None => drop(config.join_string().map_err(Failure::config)?),
    }
    let definitions = Definitions::load(config);
    match definitions.refused.as_slice() {
        [] => Ok(()),
        refused => Err(Failure::config(refused.join("\n"))),
    }
}

fn end_on_signals(stop: &CancellationToken) -> Result<(), Failure> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut asked = signal(kind).map_err(no_signals)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            asked.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::unavailable(format!("cannot listen for signals: {error}"))
}

/// SIGHUP: the file is read again, and what came of that is the runtime's to hear.
async fn reload_on_hangup(
    mut hangups: tokio::signal::unix::Signal,
    path: PathBuf,
    driver: Arc<Driver>,
    asks: mpsc::Sender<Ask>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            heard = hangups.recv() => if heard.is_none() { return },
        }
        let read = reload::read_again(&path, &driver.config()).map(Box::new);
        if asks.send(Ask::Reload(read)).await.is_err() {
            return;
        }
    }
}

fn make_private(state: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| {
        let said = format!("state_dir `{}` cannot be made: {error}", state.display());
        Failure::state(said, &error)
    })
}

fn take_lock(state: &Path) -> Result<Lock, Failure> {
    Lock::take(&state.join("lock")).map_err(|error| match error {
        lock::Error::Held { .. } => Failure::another_runs(format!(
            "another agent runs with the state folder `{}`",
            state.display()
        )),
        lock::Error::Io { ref source, .. } => Failure::state(with_causes(&error), source),
    })
}

/// What failed in the state folder, as the agent's end.
fn in_state(config: &Config, what: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
    let folder = config.state_dir.display().to_string();
    move |error| Failure::state(format!("{what} in `{folder}`: {error}"), &error)
}

fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::unavailable(format!("the agent's own program: {error}")))
}

/// Watches the GPUs until `stop`, or says that this is switched off.
pub(crate) fn watch_gpus(config: &Config, stop: &CancellationToken) -> Result<Watched, Failure> {
    if !config.nvml.enabled {
        let off = "reading GPUs is switched off (nvml.enabled = false)";
        let none = Gpus::unreadable(off.to_owned());
        let (sender, gpus) = watch::channel(Arc::new(none));
        let (heard, xids) = mpsc::channel(1);
        let stop = stop.clone();
        // Nothing will ever be sent; the open channels say that this is no failure.
        tokio::spawn(async move {
            stop.cancelled().await;
            drop((sender, heard));
        });
        return Ok(Watched { gpus, xids });
    }
    let settings = Settings {
        program: own_program()?,
        library: config.nvml.library.clone(),
        env: config.env.clone(),
        state_dir: config.state_dir.clone(),
        roots: Roots {
            driver: config.nvml.driver_gpus.clone(),
            pci: config.nvml.pci_devices.clone(),
        },
    };
    Ok(supervisor::start(settings, stop.clone()))
}

/// The GPUs as soon as each was read once or it was said why not.
pub(crate) async fn settled(mut gpus: watch::Receiver<Arc<Gpus>>) -> Arc<Gpus> {
    let first = tokio::time::timeout(FIRST_GPUS, gpus.wait_for(|gpus| gpus.is_settled)).await;
    match first {
        Ok(Ok(first)) => Arc::clone(&first),
        _ => Arc::new(Gpus::unreadable(supervisor::DOES_NOT_ANSWER.to_owned())),
    }
}
