//! The one task that owns the fleet.
//!
//! It decides while a commit runs; what was decided meanwhile is written in the next transaction,
//! with one sync. An answer leaves only when everything that it was decided on is durable and
//! published, in the order of the decisions. A report that makes nothing true and is told nothing
//! new does not wait for the disk.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_scheduler_core::words::command::Command;
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::{Controller, Event, Heard, Reply};
use wharfage_shared::causes::with_causes;
use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Timestamp;

use super::answer::Waiting;
use super::record::{Cause, Record};
use super::{Asked, Fact, Once, Rendered, Shared, SubmitError, Told, View};
use crate::log::{self, AppendError, Draft, Snapshot, Snapshots, Tip};

/// Records that may wait for one commit. Beyond them nothing is taken from the queues, which then
/// fill and refuse.
const MOST_PENDING: usize = 4096;

/// Reports and commands that are taken in one round before commits are looked at again.
const ROUND: usize = 64;

/// How long nothing is written after the disk was found full.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// The longest sleep of the timer: a clock that leans must not be trusted for hours.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Owns the fleet.
pub(super) struct Writer {
    /// Decided, not all of it durable.
    controller: Controller,
    /// The last decided record.
    position: u64,
    pending: Group,
    in_flight: Option<InFlight>,
    log: Option<log::Writer>,
    views: watch::Sender<View>,
    shared: Arc<Shared>,
    wake: Timestamp,
    /// Nodes that have facts of their own which are not durable: the last such position.
    unsettled: HashMap<NodeId, u64>,
    full_until: Option<Instant>,
    keeping: Keeping,
}

/// Which snapshots are taken.
pub(super) struct Keeping {
    pub(super) snapshots: Snapshots,
    /// Records from one to the next.
    pub(super) after: u64,
    /// The position of the newest.
    pub(super) last: u64,
}

/// What one commit makes durable and then tells.
#[derive(Default)]
struct Group {
    drafts: Vec<Draft>,
    facts: Vec<Fact>,
    answers: Vec<Waiting>,
    nodes: BTreeSet<NodeId>,
}

/// A group on its way to the disk, with the view that its success publishes.
struct InFlight {
    group: Group,
    position: u64,
    controller: Controller,
    began: Instant,
}

type Commit = Pin<Box<dyn Future<Output = (log::Writer, Result<Tip, AppendError>)> + Send>>;

impl Writer {
    pub(super) fn new(
        controller: Controller,
        log: log::Writer,
        views: watch::Sender<View>,
        shared: Arc<Shared>,
        keeping: Keeping,
    ) -> Self {
        let position = log.tip().position;
        Self {
            controller,
            position,
            pending: Group::default(),
            in_flight: None,
            log: Some(log),
            views,
            wake: shared.clock.now(),
            shared,
            unsettled: HashMap::new(),
            full_until: None,
            keeping,
        }
    }

    /// Writes until `shutdown`; then refuses what is new, finishes what was taken, closes the log.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Asked>,
        mut reports: mpsc::Receiver<Told>,
        shutdown: CancellationToken,
    ) {
        let mut commit: Option<Commit> = None;
        let mut is_ending = false;
        loop {
            let has_room = self.pending.drafts.len() < MOST_PENDING;
            tokio::select! {
                biased;
                (log, outcome) = until(&mut commit) => {
                    commit = None;
                    self.committed(log, outcome);
                }
                () = shutdown.cancelled(), if !is_ending => {
                    is_ending = true;
                    commands.close();
                    reports.close();
                }
                Some(told) = reports.recv(), if has_room => self.report(told),
                Some(asked) = commands.recv(), if has_room => self.ask(asked),
                () = tokio::time::sleep(self.until_wake()), if has_room && !is_ending => self.tick(),
            }
            self.round(&mut commands, &mut reports);
            if commit.is_none() {
                commit = self.begin();
            }
            let is_done = commands.is_empty() && reports.is_empty() && commit.is_none();
            if is_ending && is_done {
                break;
            }
        }
        if let Some(log) = self.log.take()
            && let Err(error) = log.close().await
        {
            // Every record is durable already: only the folding back is left undone.
            tracing::warn!(error = %with_causes(&error), "the log could not be folded back at its end");
        }
    }

    /// Takes what else is there, both queues in turn: neither waits for the other to run dry.
    fn round(&mut self, commands: &mut mpsc::Receiver<Asked>, reports: &mut mpsc::Receiver<Told>) {
        for _ in 0..ROUND {
            if self.pending.drafts.len() >= MOST_PENDING {
                return;
            }
            let (asked, told) = (commands.try_recv().ok(), reports.try_recv().ok());
            if asked.is_none() && told.is_none() {
                return;
            }
            asked.into_iter().for_each(|asked| self.ask(asked));
            told.into_iter().for_each(|told| self.report(told));
        }
    }

    fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Submit(command, reply) => {
                let decided = self.submit(command);
                self.answer(Waiting::Submit(reply, decided));
            }
            Asked::SubmitOnce(command, once, reply) => {
                let decided = self.submit_once(command, once);
                self.answer(Waiting::Once(reply, decided));
            }
        }
    }

    fn submit(
        &mut self,
        command: Command,
    ) -> Result<(wharfage_scheduler_core::Answer, u64), SubmitError> {
        self.refuse_while_full()?;
        let now = self.shared.clock.now();
        let cause = Cause::of(&command);
        let decided = self.controller.submit(now, command)?;
        self.record(now, cause, decided.events);
        Ok((decided.answer, self.position))
    }

    fn submit_once(&mut self, command: Command, once: Once) -> Result<Rendered, SubmitError> {
        let key = event::request::RequestKey {
            token: command.caller.token.clone(),
            method: once.method,
            path: once.path,
            key: once.key,
        };
        if let Some(earlier) = self.controller.fleet().request(&key) {
            if earlier.body_sha256 != once.body_sha256 {
                return Err(SubmitError::KeyReused);
            }
            let (status, body) = (earlier.status, earlier.body.clone());
            return Ok(Rendered { status, body, is_repeated: true });
        }
        self.refuse_while_full()?;
        let now = self.shared.clock.now();
        let cause = Cause::of(&command);
        let mut decided = self.controller.submit(now, command)?;
        let (status, body) = (once.render)(self.controller.fleet(), &decided.answer);
        let kept = self.controller.keep_answer(event::request::Event {
            key,
            body_sha256: once.body_sha256,
            status,
            body: body.clone(),
            at: now,
        });
        decided.events.push(kept);
        self.record(now, cause, decided.events);
        Ok(Rendered { status, body, is_repeated: false })
    }

    fn report(&mut self, told: Told) {
        let Told { heard, reply } = told;
        let now = self.shared.clock.now();
        let (node, cause) = match &heard {
            Heard::Heartbeat(heartbeat) => {
                let node = heartbeat.node.clone();
                (Some(node.clone()), Cause::Heartbeat { node })
            }
            Heard::Segments { node, .. } => {
                (Some(node.clone()), Cause::Segments { node: node.clone() })
            }
            Heard::Gateway(report) => (None, Cause::Gateway { gateway: report.gateway.clone() }),
        };
        let decided = self.controller.observe(now, heard);
        let is_new = !decided.events.is_empty();
        if is_new && self.is_pausing() {
            // Taken back, but heard: the heartbeat itself keeps its node alive.
            self.go_back();
            return Waiting::Report(reply, decided.answer).take_back();
        }
        self.record(now, cause, decided.events);
        if let (true, Some(node)) = (is_new, &node) {
            self.unsettled.insert(node.clone(), self.position);
        }
        let waits = is_new || self.depends_on_the_disk(node.as_ref(), &decided.answer);
        let waiting = Waiting::Report(reply, decided.answer);
        if waits { self.answer(waiting) } else { waiting.tell(&self.views.borrow()) }
    }

    /// Whether an answer that brought no facts of its own says anything that is not durable yet.
    fn depends_on_the_disk(&self, node: Option<&NodeId>, reply: &Reply) -> bool {
        let Some(node) = node else { return false };
        if self.unsettled.contains_key(node) {
            return true;
        }
        let desired = |answer: &HeartbeatAnswer| answer.desired.as_ref().map(|it| it.version);
        match reply {
            Reply::Heartbeat(Ok(answer)) => desired(answer).is_some_and(|version| {
                let durable = self.views.borrow().desired(node).map(|desired| desired.version);
                durable != Some(version)
            }),
            Reply::Heartbeat(Err(_)) | Reply::Segments(_) | Reply::Gateway(_) => false,
        }
    }

    fn tick(&mut self) {
        let now = self.shared.clock.now();
        let decided = self.controller.tick(now);
        self.wake = decided.answer;
        if !decided.events.is_empty() && self.is_pausing() {
            self.go_back();
            return;
        }
        self.record(now, Cause::Tick, decided.events);
    }

    fn until_wake(&self) -> Duration {
        let left = self.wake.since(self.shared.clock.now());
        // A millisecond more: a timer that fires early would only tick twice.
        let left = Duration::from_millis(left.0 + 1).min(LONGEST_SLEEP);
        match self.full_until {
            Some(_) => left.max(FULL_PAUSE),
            None => left,
        }
    }

    /// Puts the facts of one input into the next commit. No facts, no record.
    fn record(&mut self, at: Timestamp, cause: Cause, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.wake = self.controller.wake();
        self.position += 1;
        for event in &events {
            self.pending.nodes.extend(self.touched(event));
        }
        let record = Arc::new(Record::new(cause, events));
        let payload = record.encode();
        self.pending.drafts.push(Draft { term: self.controller.term(), at, payload });
        self.pending.facts.push(Fact { position: self.position, at, record });
    }

    /// The node whose desired state a fact may have changed.
    fn touched(&self, event: &Event) -> Option<NodeId> {
        match event {
            Event::Node(event) => event.node().cloned(),
            Event::Replica(event) => {
                self.controller.fleet().replica(event.replica())?.node().cloned()
            }
            Event::Term { .. }
            | Event::Deployment(_)
            | Event::Gateway(_)
            | Event::Money(_)
            | Event::Access(_)
            | Event::Meter(_)
            | Event::Request(_) => None,
        }
    }

    /// Tells an answer as soon as everything decided so far is durable.
    fn answer(&mut self, waiting: Waiting) {
        if !self.pending.drafts.is_empty() {
            return self.pending.answers.push(waiting);
        }
        match &mut self.in_flight {
            Some(in_flight) => in_flight.group.answers.push(waiting),
            None => waiting.tell(&self.views.borrow()),
        }
    }

    /// Sends what is pending to the disk.
    fn begin(&mut self) -> Option<Commit> {
        if self.pending.drafts.is_empty() {
            return None;
        }
        let mut log = self.log.take()?;
        let mut group = std::mem::take(&mut self.pending);
        let drafts = std::mem::take(&mut group.drafts);
        self.in_flight = Some(InFlight {
            group,
            position: self.position,
            controller: self.controller.clone(),
            began: Instant::now(),
        });
        Some(Box::pin(async move {
            let outcome = log.append(&drafts).await;
            (log, outcome)
        }))
    }

    fn committed(&mut self, log: log::Writer, outcome: Result<Tip, AppendError>) {
        self.log = Some(log);
        let Some(in_flight) = self.in_flight.take() else { return };
        match outcome {
            Ok(tip) => self.publish(in_flight, tip),
            Err(AppendError::Full) => self.disk_is_full(in_flight.group),
            Err(error @ AppendError::Fatal(_)) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "the log could not be written: what is on the disk is unknown, so the process \
                     ends here and the next start checks every record"
                );
                std::process::abort();
            }
        }
    }

    /// The group is durable: publish it, then answer.
    fn publish(&mut self, in_flight: InFlight, tip: Tip) {
        let InFlight { group, position, controller, began } = in_flight;
        debug_assert_eq!(tip.position, position);
        self.shared.metrics.committed(group.facts.len(), began.elapsed(), tip.position);
        let view = View::new(position, tip.term, controller);
        self.views.send_replace(view.clone());
        if self.full_until.take().is_some() {
            tracing::info!("the disk that holds the log has room again");
            self.set_full(false);
        }
        self.unsettled.retain(|_, last| *last > position);
        for fact in group.facts {
            // Nobody listens: the log has it.
            let _ = self.shared.facts.send(fact);
        }
        for node in &group.nodes {
            self.shared.beats.ring(node);
        }
        for waiting in group.answers {
            waiting.tell(&view);
        }
        self.snapshot(&view, tip);
    }

    /// Nothing of the group was written: everything since is taken back and refused.
    fn disk_is_full(&mut self, group: Group) {
        if self.full_until.is_none() {
            tracing::error!("the disk that holds the log is full: writes are refused");
            self.set_full(true);
        }
        self.full_until = Some(Instant::now() + FULL_PAUSE);
        let later = std::mem::take(&mut self.pending);
        self.go_back();
        for waiting in group.answers.into_iter().chain(later.answers) {
            waiting.take_back();
        }
    }

    fn go_back(&mut self) {
        let view = self.views.borrow();
        self.controller.go_back_to(view.controller());
        self.position = view.position();
        self.unsettled.clear();
    }

    fn set_full(&self, is_full: bool) {
        self.shared.is_full.store(is_full, Ordering::Relaxed);
        self.shared.metrics.disk_full(is_full);
    }

    fn is_pausing(&self) -> bool {
        self.full_until.is_some_and(|until| Instant::now() < until)
    }

    fn refuse_while_full(&self) -> Result<(), SubmitError> {
        if self.is_pausing() { Err(SubmitError::DiskFull) } else { Ok(()) }
    }

    /// Takes a snapshot beside the writer when enough has come since the last.
    fn snapshot(&mut self, view: &View, tip: Tip) {
        if tip.position - self.keeping.last < self.keeping.after {
            return;
        }
        self.keeping.last = tip.position;
        let (snapshots, view) = (self.keeping.snapshots.clone(), view.clone());
        tokio::task::spawn_blocking(move || {
            let body = match serde_json::to_string(view.fleet()) {
                Ok(body) => body,
                Err(error) => return tracing::error!(%error, "a snapshot could not be made"),
            };
            let snapshot = Snapshot { position: tip.position, record: tip.hash, body };
            if let Err(error) = snapshots.write(&snapshot) {
                tracing::warn!(error = %with_causes(&error), "a snapshot could not be written");
            }
        });
    }
}

/// The end of the commit under way; never, while none is.
async fn until(commit: &mut Option<Commit>) -> (log::Writer, Result<Tip, AppendError>) {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}
