//! The driver: one task owns the fleet; everybody else holds a [`Handle`].
//!
//! The rule it guards: log, then publish, then answer. Nothing that is told to anybody can be
//! undone by a crash.

mod answer;
mod commit;
mod record;
mod start;
mod view;
mod waiters;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use wharfage_scheduler_core::words::command::{Answer, Command};
use wharfage_scheduler_core::words::refusal::Refusal;
use wharfage_scheduler_core::{Cost, Fleet, Heard, Policy, Reply, ScalingNow, WhatIf};
use wharfage_shared::ids::{DeploymentId, NodeId};
use wharfage_shared::time::Timestamp;

use crate::clock::Clock;
use crate::log;
use crate::metrics::Metrics;

pub use record::{Cause, NotARecord, RECORD_VERSION, Record};
pub use start::{Driver, Error, Options, ReplayError, SNAPSHOT_AFTER, start};
pub use view::View;
pub use waiters::{Beat, News};

/// Commands that wait for the writer: beyond them the caller is told to come back.
const COMMANDS: usize = 1024;

/// Reports that wait for the writer: two seconds' worth of ten thousand agents.
const REPORTS: usize = 4096;

/// Facts that a slow reader of the stream may lag behind before it must read from the log.
const FACTS: usize = 1024;

/// Cheap to clone; the only way to talk to the controller.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::Sender<Asked>,
    reports: mpsc::Sender<Told>,
    view: watch::Receiver<View>,
    facts: broadcast::Sender<Fact>,
    beats: waiters::Beats,
    reader: log::Reader,
    clock: Clock,
    policy: Policy,
    metrics: Metrics,
    is_full: AtomicBool,
}

/// One record as it was published.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its position in the log.
    pub position: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What it holds.
    pub record: Arc<Record>,
}

/// What a command that was carried out came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// What it adds to the bill of an hour, where that is told and every price is known.
    pub cost: Option<Cost>,
}

/// A command that was carried out and is durable.
#[derive(Clone)]
pub struct Submitted {
    /// What it came to.
    pub outcome: Outcome,
    /// A view that holds what the command made true.
    pub view: View,
    /// The position up to which the log holds it.
    pub position: u64,
}

/// A write with an `Idempotency-Key`: done once, answered the same for 24 hours.
pub struct Once {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The key.
    pub key: String,
    /// SHA-256 (hex) of the body.
    pub body_sha256: String,
    /// Status and body of the answer, made of the fleet after the command; kept with its facts.
    pub render: Render,
}

/// Makes status and body of an answer out of the fleet after the command.
pub type Render = Box<dyn FnOnce(&Fleet, &Outcome) -> (u16, String) + Send>;

/// The answer to a write with an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Whether an earlier request had done it.
    pub is_repeated: bool,
}

/// Why a command was not carried out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The controller says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key was used within 24 hours for a request with another body.
    #[error("the idempotency key was used before with another body")]
    KeyReused,
    /// It waits for the disk or for many others: come back in a second.
    #[error("the scheduler cannot take more writes at this moment")]
    Busy,
    /// The disk that holds the log is full.
    #[error("the disk that holds the log is full: nothing can be written")]
    DiskFull,
    /// The scheduler is ending.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
}

/// What waits for the writer.
enum Asked {
    Scaling(DeploymentId, oneshot::Sender<ScalingNow>),
    Submit(Command, oneshot::Sender<Result<Submitted, SubmitError>>),
    SubmitOnce(Command, Once, oneshot::Sender<Result<Rendered, SubmitError>>),
}

/// A report that waits for the writer.
struct Told {
    heard: Heard,
    reply: oneshot::Sender<Result<Reply, SubmitError>>,
}

impl Handle {
    /// Carries out a command; returns once it is durable and published.
    pub async fn submit(&self, command: Command) -> Result<Submitted, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Submit(command, reply))?;
        answer.await.map_err(|_| SubmitError::ShuttingDown)?
    }

    /// As [`Handle::submit`], at most once for the key: a repetition gets the first answer.
    pub async fn submit_once(&self, command: Command, once: Once) -> Result<Rendered, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::SubmitOnce(command, once, reply))?;
        answer.await.map_err(|_| SubmitError::ShuttingDown)?
    }

    /// What is known of a deployment's load at this instant, and what follows from it. No fact, so
    /// that no view holds it: only the writer knows.
    pub async fn scaling(&self, id: &DeploymentId) -> Result<ScalingNow, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Scaling(id.clone(), reply))?;
        answer.await.map_err(|_| SubmitError::ShuttingDown)
    }

    fn ask(&self, asked: Asked) -> Result<(), SubmitError> {
        self.shared.commands.try_send(asked).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::ShuttingDown,
        })
    }

    /// Hands in a report of a node or a gateway. One that makes nothing true does not wait for
    /// the disk.
    pub async fn observe(&self, heard: Heard) -> Result<Reply, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.shared.reports.try_send(Told { heard, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::ShuttingDown,
        })?;
        answer.await.map_err(|_| SubmitError::ShuttingDown)?
    }

    /// What is true and durable now.
    pub fn view(&self) -> View {
        self.shared.view.borrow().clone()
    }

    /// A view that holds at least the record at `position` (a client's own write), waiting for it.
    pub async fn view_at(&self, position: u64) -> Result<View, SubmitError> {
        let mut views = self.shared.view.clone();
        let view = views.wait_for(|view| view.position() >= position).await;
        view.map(|view| view.clone()).map_err(|_| SubmitError::ShuttingDown)
    }

    /// Told of each published view.
    pub fn views(&self) -> watch::Receiver<View> {
        self.shared.view.clone()
    }

    /// Every record from now on, after it is durable. A reader that lags is told so and reads on
    /// from [`Handle::log`].
    pub fn subscribe(&self) -> broadcast::Receiver<Fact> {
        self.shared.facts.subscribe()
    }

    /// What a command would do, without doing it.
    pub fn what_if(&self, command: Command) -> Result<WhatIf, Refusal> {
        self.view().what_if(self.now(), command)
    }

    /// The scheduler's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// What the controller decides by.
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    /// The records themselves.
    pub fn log(&self) -> &log::Reader {
        &self.shared.reader
    }

    /// The fleet as the log makes it up to `position`, from the first record on: what `verify`
    /// recomputes an invoice from.
    pub async fn fleet_at(&self, position: u64) -> Result<Fleet, start::ReplayError> {
        start::replay(&self.shared.reader, position).await
    }

    /// Whether the disk that holds the log is full: not ready, and writes are refused.
    pub fn is_disk_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// The numbers of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The text of `/metrics`.
    pub fn render_metrics(&self) -> String {
        let depth = |most: usize, free: usize| most.saturating_sub(free);
        let metrics = &self.shared.metrics;
        metrics.queue("commands", depth(COMMANDS, self.shared.commands.capacity()));
        metrics.queue("reports", depth(REPORTS, self.shared.reports.capacity()));
        metrics.render(&self.view(), self.now())
    }

    /// Notes that a heartbeat of `node` came; what it returns waits for news and ends an older
    /// heartbeat of the same node that still waits.
    pub fn beat(&self, node: &NodeId) -> Beat {
        self.shared.beats.begin(node)
    }
}
