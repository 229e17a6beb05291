//! The one task that owns the fleet.
//!
//! It decides while a commit runs; what was decided meanwhile is written in the next transaction,
//! with one sync. An answer leaves only when everything that it was decided on is durable and
//! published, in the order of the decisions. A report that makes nothing true and is told nothing
//! new does not wait for the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_scheduler_core::words::command::{Action, Command, claims, deployments};
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::words::refusal::Refusal;
use wharfage_scheduler_core::{Controller, Decided, Event, Heard, Priced, Reply};
use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Timestamp;

use super::answer::Waiting;
use super::commit::{Commits, Ended};
use super::record::{Cause, Record};
use super::{Asked, Fact, Once, Outcome, Rendered, Shared, SubmitError, Told};
use crate::log::Draft;

/// Reports and commands that are taken in one round before commits are looked at again.
const ROUND: usize = 64;

/// The longest sleep of the timer: a clock that leans must not be trusted for hours.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Owns the fleet.
pub(super) struct Writer {
    /// Decided, not all of it durable.
    controller: Controller,
    /// The last decided record.
    position: u64,
    commits: Commits,
    shared: Arc<Shared>,
    wake: Timestamp,
    /// Nodes that have facts of their own which are not durable: the last such position.
    unsettled: HashMap<NodeId, u64>,
}

impl Writer {
    /// Goes on from `position`, the last record that `controller` knows.
    pub(super) fn new(
        controller: Controller,
        position: u64,
        commits: Commits,
        shared: Arc<Shared>,
    ) -> Self {
        let wake = shared.clock.now();
        Self { controller, position, commits, shared, wake, unsettled: HashMap::new() }
    }

    /// Writes until `shutdown`; then refuses what is new, finishes what was taken, closes the log.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Asked>,
        mut reports: mpsc::Receiver<Told>,
        shutdown: CancellationToken,
    ) {
        let mut is_ending = false;
        loop {
            let has_room = self.commits.has_room();
            let sleep = tokio::time::sleep(self.until_wake());
            tokio::select! {
                biased;
                ended = self.commits.ended() => self.ended(ended),
                () = shutdown.cancelled(), if !is_ending => {
                    is_ending = true;
                    commands.close();
                    reports.close();
                }
                Some(told) = reports.recv(), if has_room => self.report(told),
                Some(asked) = commands.recv(), if has_room => self.ask(asked),
                () = sleep, if has_room && !is_ending => self.tick(),
            }
            self.round(&mut commands, &mut reports);
            self.commits.begin(&self.controller, self.position);
            let is_done = commands.is_empty() && reports.is_empty() && self.commits.is_idle();
            if is_ending && is_done {
                break;
            }
        }
        self.commits.close().await;
    }

    /// Takes what else is there, both queues in turn: neither waits for the other to run dry.
    fn round(&mut self, commands: &mut mpsc::Receiver<Asked>, reports: &mut mpsc::Receiver<Told>) {
        for _ in 0..ROUND {
            if !self.commits.has_room() {
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
            Asked::Scaling(id, reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.controller.scaling(&id, self.shared.clock.now()));
            }
            Asked::Submit(command, reply) => {
                let decided = self.submit(command);
                self.commits.answer(Waiting::Submit(reply, decided));
            }
            Asked::SubmitOnce(command, once, reply) => {
                let decided = self.submit_once(command, once);
                self.commits.answer(Waiting::Once(reply, decided));
            }
        }
    }

    fn submit(&mut self, command: Command) -> Result<(Outcome, u64), SubmitError> {
        self.refuse_while_full()?;
        let now = self.shared.clock.now();
        let cause = Cause::of(&command);
        let (outcome, events) = self.decide(now, command)?;
        self.record(now, cause, events);
        Ok((outcome, self.position))
    }

    /// What a command comes to; a create is told what it costs.
    fn decide(
        &mut self,
        now: Timestamp,
        command: Command,
    ) -> Result<(Outcome, Vec<Event>), Refusal> {
        if !creates_capacity(&command.action) {
            let Decided { answer, events } = self.controller.submit(now, command)?;
            return Ok((Outcome { answer, cost: None }, events));
        }
        let Priced { decided, cost } = self.controller.submit_priced(now, command)?;
        Ok((Outcome { answer: decided.answer, cost }, decided.events))
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
        let (outcome, mut events) = self.decide(now, command)?;
        let (status, body) = (once.render)(self.controller.fleet(), &outcome);
        let kept = self.controller.keep_answer(event::request::Event {
            key,
            body_sha256: once.body_sha256,
            status,
            body: body.clone(),
            at: now,
        });
        events.push(kept);
        self.record(now, cause, events);
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
        // What a report brings may be due soon without being a fact.
        self.wake = self.wake.min(self.controller.wake());
        let is_new = !decided.events.is_empty();
        if is_new && self.commits.is_pausing() {
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
        if waits { self.commits.answer(waiting) } else { waiting.tell(&self.commits.view()) }
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
                let durable = self.commits.view().desired(node).map(|desired| desired.version);
                durable != Some(version)
            }),
            Reply::Heartbeat(Err(_)) | Reply::Segments(_) | Reply::Gateway(_) => false,
        }
    }

    fn tick(&mut self) {
        let now = self.shared.clock.now();
        let decided = self.controller.tick(now);
        self.wake = decided.answer;
        if !decided.events.is_empty() && self.commits.is_pausing() {
            self.go_back();
            return;
        }
        self.record(now, Cause::Tick, decided.events);
    }

    fn until_wake(&self) -> Duration {
        let left = self.wake.since(self.shared.clock.now());
        // A millisecond more: a timer that fires early would only tick twice.
        let left = Duration::from_millis(left.0 + 1).min(LONGEST_SLEEP);
        left.max(self.commits.shortest_sleep())
    }

    /// Puts the facts of one input into the next commit. No facts, no record.
    fn record(&mut self, at: Timestamp, cause: Cause, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.wake = self.controller.wake();
        self.position += 1;
        let nodes: Vec<NodeId> = events.iter().flat_map(|event| self.touched(event)).collect();
        let record = Arc::new(Record::new(cause, events));
        let draft = Draft { term: self.controller.term(), at, payload: record.encode() };
        let fact = Fact { position: self.position, at, record };
        self.commits.add(draft, fact, nodes.into_iter());
    }

    /// The nodes whose desired state a fact may have changed.
    fn touched(&self, event: &Event) -> Vec<NodeId> {
        match event {
            Event::Node(event) => event.node().cloned().into_iter().collect(),
            Event::Replica(event) => {
                let row = self.controller.fleet().replica(event.replica());
                row.into_iter().flat_map(|row| row.nodes().cloned()).collect()
            }
            Event::Claim(event) => match event {
                event::claim::Event::Bound { node, .. }
                | event::claim::Event::Released { node, .. } => vec![node.clone()],
                event::claim::Event::Created { .. }
                | event::claim::Event::Resized { .. }
                | event::claim::Event::Granted { .. }
                | event::claim::Event::Filled { .. }
                | event::claim::Event::Deleted { .. }
                | event::claim::Event::QuotaSet { .. } => Vec::new(),
            },
            Event::Drill(event) => event.node().cloned().into_iter().collect(),
            Event::Term { .. }
            | Event::Deployment(_)
            | Event::Gateway(_)
            | Event::Money(_)
            | Event::Access(_)
            | Event::Meter(_)
            | Event::Request(_) => Vec::new(),
        }
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Durable(position) => self.unsettled.retain(|_, last| *last > position),
            Ended::TakenBack(answers) => {
                self.go_back();
                answers.into_iter().for_each(Waiting::take_back);
            }
        }
    }

    /// Forgets what was decided since the published view.
    fn go_back(&mut self) {
        let view = self.commits.view();
        self.controller.go_back_to(view.controller());
        self.position = view.position();
        self.unsettled.clear();
    }

    fn refuse_while_full(&self) -> Result<(), SubmitError> {
        if self.commits.is_pausing() { Err(SubmitError::DiskFull) } else { Ok(()) }
    }
}

/// Whether a command makes something that instances are billed for.
fn creates_capacity(action: &Action) -> bool {
    matches!(
        action,
        Action::Deployment(deployments::Action::Create { .. })
            | Action::Claim(claims::Action::Create { .. })
    )
}
