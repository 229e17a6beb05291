//! The agent from its configuration to its end: lock, join, find what is there, run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::config::Budget;
use wharfage_agent_core::{Agent, Config as CoreConfig, Effect, Found, Input};
use wharfage_agent_sys::clock;
use wharfage_agent_sys::lock::{self, Lock};
use wharfage_link::Decoder;
use wharfage_link::identity::IdentityDir;
use wharfage_link::tls;
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::SegmentLogId;
use wharfage_shared::time::Millis;

use crate::config::{Config, OnExit};
use crate::drivers::process::{Driver, random_text};
use crate::exit::Failure;
use crate::gpu::{Gpus, Settings, supervisor};
use crate::inventory::Definitions;
use crate::journal::desired::DesiredFile;
use crate::journal::segments::{Opened, SegmentLog};
use crate::notices::watch::{Pace, watch};
use crate::runtime::{Ears, End, Parts, Runtime};
use crate::status;
use crate::uplink::{self, Line, Output};
use crate::weights::Weights;

/// NVML's first word is awaited a little longer than its own deadline.
const FIRST_GPUS: Duration = Duration::from_secs(11);

/// What still talks at the end is waited for so long: the next start must not find the port taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Inputs that may wait while a step is carried out.
const MOST_WAITING: usize = 1024;

/// Runs the agent until a signal ends it.
pub async fn run(config: Config) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    end_on_signals(&stop)?;
    tls::install();
    let state = config.state_dir.clone();
    make_private(&state)?;
    let _lock = take_lock(&state)?;
    let token = status::token(&config.status)?;
    let page = status::bind(&config.status).await?;
    let (asks, asked) = mpsc::channel(MOST_WAITING);
    let serving = tokio::spawn(status::run(page, asks.clone(), token, stop.clone()));
    let decoder = Decoder::default();
    let identity = IdentityDir::new(state.join("identity"));
    uplink::enrol(&config, &identity, &decoder, &stop).await?;
    let address = uplink::address(&config, &identity)?;

    let gpus = watch_gpus(&config, &stop)?;
    let settled = settled(gpus.clone()).await;
    let (inputs, heard) = mpsc::channel(MOST_WAITING);
    let driver = driver(&config, &identity, gpus.clone(), inputs.clone())?;
    let report_now = Arc::new(Notify::new());
    let (output, last_words) = Output::new(state);
    let (wake, said) = (Arc::clone(&report_now), output.clone());
    let (parts, first) = awake(&config, driver, &settled, wake, decoder.clone(), said).await?;
    let driver = Arc::clone(&parts.driver);
    let (alarm, alarms) = mpsc::channel(16);
    if let Some(file) = &config.notices.file {
        let (path, pace) = (file.path.clone(), Pace::default());
        tokio::spawn(watch(path, pace, inputs, alarm, stop.clone()));
    }
    let line = Line { address, identity, decoder, asks, report_now };
    tokio::spawn(uplink::send_output(output, last_words, line.client(), stop.clone()));
    let talking = tokio::spawn(uplink::run(line, stop.clone()));
    let ears = Ears { inputs: heard, asks: asked, alarms, gpus };
    tracing::info!(node.id = %config.node, status = %config.status.listen, "the agent runs");
    let runtime = Runtime::new(parts, settled);
    let end = runtime.run(first, ears, stop.clone()).await;
    stop.cancel();
    if end == End::Stopped && config.on_exit == OnExit::Stop {
        driver.end_all().await;
    }
    // They end by the same token; what they would still say nobody hears.
    drop(tokio::time::timeout(LAST_WORDS, async { tokio::join!(serving, talking) }).await);
    match end {
        End::Stopped => Ok(()),
        End::Superseded => Err(Failure::another_runs(
            "a newer start of this node exists (a copy of this host?): this agent ends and leaves \
             its replicas alone",
        )),
    }
}

/// What carries replicas on this host.
fn driver(
    config: &Config,
    identity: &IdentityDir,
    gpus: watch::Receiver<Arc<Gpus>>,
    inputs: mpsc::Sender<Input>,
) -> Result<Arc<Driver>, Failure> {
    let boot =
        clock::boot_id().map_err(|error| Failure::unavailable(format!("no boot id: {error}")))?;
    Ok(Arc::new(Driver {
        program: own_program()?,
        identity_dir: identity.path().to_owned(),
        boot,
        weights: Weights::new(config.buckets.clone(), config.cache_dir.clone()),
        gpus,
        inputs,
        kept: Mutex::default(),
        gone_since: Mutex::default(),
        config: config.clone(),
    }))
}

/// The agent as the disk and the processes of this host say that it was left, and what it does
/// first.
async fn awake(
    config: &Config,
    driver: Arc<Driver>,
    gpus: &Gpus,
    report_now: Arc<Notify>,
    decoder: Decoder,
    output: Output,
) -> Result<(Parts, Vec<Effect>), Failure> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| Failure::unavailable(format!("cannot {what}: {error}"))
    };
    let definitions = Definitions::load(config);
    let nonce = random_text().map_err(failed("get random numbers"))?;
    let fresh = SegmentLogId::from(nonce.as_str());
    let opened = SegmentLog::open(&config.state_dir, &driver.boot, fresh);
    let Opened { log, open, mut troubles } = opened.map_err(failed("open the segment log"))?;
    let desired_file = DesiredFile::of(&config.state_dir);
    let (desired, damage) = desired_file.load();
    troubles.extend(damage);
    troubles.extend(definitions.refused.iter().cloned());
    let replicas = driver.adopt().await.map_err(failed("read the replicas' records"))?;
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
        last_segment: log.last(),
        open_segment: open,
        unacknowledged: log.unacknowledged().to_vec(),
        inventory: definitions.inventory(gpus),
    };
    let (agent, first) = Agent::new(found, core_config(config, &definitions));
    let parts = Parts {
        node: config.node_id(),
        nonce,
        agent,
        driver,
        definitions,
        desired_file,
        stored,
        log,
        report_now,
        decoder,
        output,
        orders,
        troubles,
    };
    Ok((parts, first))
}

/// Checks everything that can be checked without running: settings, definitions, token.
pub fn check(config: &Config) -> Result<(), Failure> {
    status::token(&config.status)?;
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
        let mut asked = signal(kind)
            .map_err(|error| Failure::unavailable(format!("cannot listen for signals: {error}")))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            asked.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

fn make_private(state: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| {
        Failure::config(format!("state_dir `{}` cannot be made: {error}", state.display()))
    })
}

fn take_lock(state: &Path) -> Result<Lock, Failure> {
    Lock::take(&state.join("lock")).map_err(|error| match error {
        lock::Error::Held { .. } => Failure::another_runs(format!(
            "another agent runs with the state folder `{}`",
            state.display()
        )),
        lock::Error::Io { .. } => Failure::config(with_causes(&error)),
    })
}

fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::unavailable(format!("the agent's own program: {error}")))
}

fn watch_gpus(
    config: &Config,
    stop: &CancellationToken,
) -> Result<watch::Receiver<Arc<Gpus>>, Failure> {
    if !config.nvml.enabled {
        let trouble = Some("reading GPUs is switched off (nvml.enabled = false)".to_owned());
        let none = Gpus { is_settled: true, trouble, ..Gpus::default() };
        let (sender, receiver) = watch::channel(Arc::new(none));
        let stop = stop.clone();
        // Nothing will ever be sent; the open channel says that this is no failure.
        tokio::spawn(async move {
            stop.cancelled().await;
            drop(sender);
        });
        return Ok(receiver);
    }
    let settings = Settings {
        program: own_program()?,
        library: config.nvml.library.clone(),
        env: config.env.clone(),
    };
    Ok(supervisor::start(settings, stop.clone()))
}

async fn settled(mut gpus: watch::Receiver<Arc<Gpus>>) -> Arc<Gpus> {
    let first = tokio::time::timeout(FIRST_GPUS, gpus.wait_for(|gpus| gpus.is_settled)).await;
    match first {
        Ok(Ok(first)) => Arc::clone(&first),
        _ => Arc::new(Gpus {
            is_settled: true,
            trouble: Some(supervisor::DOES_NOT_ANSWER.to_owned()),
            ..Gpus::default()
        }),
    }
}

fn core_config(config: &Config, definitions: &Definitions) -> CoreConfig {
    let seconds = |count: u32| Millis::from_seconds(u64::from(count));
    let timing = &config.timing;
    let usual = Budget::default();
    CoreConfig {
        stop_margin: seconds(timing.stop_margin_seconds),
        budget: Budget {
            checkpoint: seconds(timing.checkpoint_seconds),
            drain_hook: seconds(timing.drain_seconds),
            stop: seconds(timing.stop_seconds),
            quiet: usual.quiet,
        },
        hook_estimates: definitions.hook_estimates.clone(),
        ..CoreConfig::default()
    }
}
