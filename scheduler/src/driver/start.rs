//! A start: the log is checked and replayed, a new term begins, the writer takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wharfage_scheduler_core::{Controller, Fleet, Policy};
use wharfage_shared::version::Term;

use super::commit::{Commits, Keeping};
use super::record::{Cause, Record};
use super::view::View;
use super::waiters::Beats;
use super::writer::Writer;
use super::{COMMANDS, FACTS, Handle, REPORTS, Shared};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::{self, Draft, Opening, Snapshots, Stored};
use crate::metrics::Metrics;

/// What a driver is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's file.
    pub log: PathBuf,
    /// The folder of snapshots.
    pub snapshots: PathBuf,
    /// How the log is opened.
    pub log_options: log::Options,
    /// What the controller decides by.
    pub policy: Policy,
    /// Records after which a snapshot is taken: what a start has to replay at most.
    pub snapshot_after: u64,
}

/// What a start replays at most, by default.
pub const SNAPSHOT_AFTER: u64 = 10_000;

impl Options {
    /// As an operator has decided.
    pub fn of(config: &Config) -> Self {
        Self {
            log: config.log.clone(),
            snapshots: config.state_dir.join("snapshots"),
            log_options: log::Options { most_pages: config.log_most_pages() },
            policy: config.policy.clone(),
            snapshot_after: SNAPSHOT_AFTER,
        }
    }
}

/// A running driver.
pub struct Driver {
    /// How everybody talks to it.
    pub handle: Handle,
    /// Whether the log was empty before this start.
    pub is_first_start: bool,
    shutdown: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

/// Why a driver did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The record of the start itself.
    #[error("cannot write the record of this start")]
    Append(#[from] log::AppendError),
    /// The writer's thread.
    #[error("cannot start the writer's thread")]
    Thread(#[source] std::io::Error),
}

/// Why the log was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A record.
    #[error("record {position} cannot be replayed: {problem}")]
    Record {
        /// Which.
        position: u64,
        /// Why.
        problem: String,
    },
    /// The log ends earlier.
    #[error("the log ends at record {end}, before {position}")]
    Short {
        /// The last record.
        end: u64,
        /// The one that was asked for.
        position: u64,
    },
}

impl Driver {
    /// Finishes what was taken and closes the log.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the writer ended by a panic");
        }
    }

    /// Ends when the writer has ended, which before [`Driver::stop`] means that it has failed.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Opens the log, replays it and starts the writer on a thread of its own, which no slow reader
/// can keep from its work.
pub async fn start(options: Options) -> Result<Driver, Error> {
    let (started, has_started) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    // No sockets of its own: then it is woken without a system call while it is at work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(Error::Thread)?;
    let thread = std::thread::Builder::new()
        .name("wharfage-writer".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                match open(options).await {
                    Ok((handle, is_first_start, running)) => {
                        if started.send(Ok((handle, is_first_start))).is_ok() {
                            let Running { writer, commands, reports } = running;
                            writer.run(commands, reports, token).await;
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            });
        })
        .map_err(Error::Thread)?;
    let lost = || Error::Thread(std::io::Error::other("it ended before the log was open"));
    let (handle, is_first_start) = has_started.await.map_err(|_| lost())??;
    Ok(Driver { handle, is_first_start, shutdown, thread })
}

struct Running {
    writer: Writer,
    commands: mpsc::Receiver<super::Asked>,
    reports: mpsc::Receiver<super::Told>,
}

async fn open(options: Options) -> Result<(Handle, bool, Running), Error> {
    let mut opening = Opening::begin(&options.log, options.log_options).await?;
    let snapshots = Snapshots::new(options.snapshots);
    let (mut fleet, from) = newest_snapshot(&mut opening, &snapshots).await?;
    let replay = |stored: &Stored| {
        if stored.position <= from { Ok(()) } else { apply(&mut fleet, stored) }
    };
    let (mut log, reader) = opening.check(replay).await?;
    let tip = log.tip();
    let is_first_start = tip.position == 0;
    let clock = Clock::start(tip.at);
    let now = clock.now();
    let term = next_term(tip.term.max(fleet.term()));
    let (controller, events) = Controller::recover(fleet, term, now, options.policy.clone());
    let payload = Record::new(Cause::Start, events).encode();
    let tip = log.append(&[Draft { term, at: now, payload }]).await?;
    tracing::info!(record.last = tip.position, record.snapshot = from, "the log is replayed");
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (reports, report_queue) = mpsc::channel(REPORTS);
    let (views, view) = watch::channel(View::new(tip.position, term, controller.clone()));
    let shared = Arc::new(Shared {
        commands,
        reports,
        view,
        facts: broadcast::channel(FACTS).0,
        beats: Beats::default(),
        reader,
        clock,
        policy: options.policy,
        metrics: Metrics::new(),
        is_full: AtomicBool::new(false),
    });
    let handle = Handle { shared: Arc::clone(&shared) };
    let keeping = Keeping { snapshots, after: options.snapshot_after, last: from };
    let commits = Commits::new(log, views, Arc::clone(&shared), keeping);
    let writer = Writer::new(controller, tip.position, commits, shared);
    let running = Running { writer, commands: command_queue, reports: report_queue };
    Ok((handle, is_first_start, running))
}

/// The newest snapshot that this log vouches for, and the position up to which it holds it.
async fn newest_snapshot(
    opening: &mut Opening,
    snapshots: &Snapshots,
) -> Result<(Fleet, u64), Error> {
    for position in snapshots.positions() {
        let Some(snapshot) = snapshots.read(position) else {
            tracing::warn!(record.position = position, "a damaged snapshot is passed over");
            continue;
        };
        if opening.hash_at(position).await? != Some(snapshot.record) {
            tracing::warn!(record.position = position, "a snapshot of another log is passed over");
            continue;
        }
        match serde_json::from_str(&snapshot.body) {
            Ok(fleet) => return Ok((fleet, position)),
            Err(error) => {
                tracing::warn!(record.position = position, %error, "a snapshot is passed over");
            }
        }
    }
    Ok((Fleet::default(), 0))
}

fn apply(fleet: &mut Fleet, stored: &Stored) -> Result<(), String> {
    let record = Record::decode(&stored.payload).map_err(|error| error.to_string())?;
    for event in &record.events {
        fleet.apply(event);
    }
    Ok(())
}

/// A leadership that no earlier one has had, not even one whose end a restored backup has lost.
fn next_term(last: Term) -> Term {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Term((last.0 + 1).max(since.as_secs()))
}

/// The fleet as the records up to `position` make it.
pub(super) async fn replay(reader: &log::Reader, position: u64) -> Result<Fleet, ReplayError> {
    let mut fleet = Fleet::default();
    let mut done = 0;
    while done < position {
        let records = reader.after(done, position - done).await?;
        if records.is_empty() {
            return Err(ReplayError::Short { end: done, position });
        }
        for stored in &records {
            apply(&mut fleet, stored)
                .map_err(|problem| ReplayError::Record { position: stored.position, problem })?;
            done = stored.position;
        }
    }
    Ok(fleet)
}
