//! What is decided, on its way to the disk: gathered while a commit runs, written with one sync, then
//! published, then answered.
//!
//! The rule it guards: nothing is told before it is durable, and what a full disk refused is taken
//! back as a whole.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use wharfage_scheduler_core::Controller;
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::NodeId;

use super::answer::Waiting;
use super::{Fact, Shared, View};
use crate::log::{self, AppendError, Draft, Snapshot, Snapshots, Tip};

/// Records that may wait for one commit. Beyond them nothing is taken from the queues, which then
/// fill and refuse.
const MOST_PENDING: usize = 4096;

/// How long nothing is written after the disk was found full.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// The log's end of the writer: at most one commit is under way.
pub(super) struct Commits {
    pending: Group,
    in_flight: Option<InFlight>,
    /// Absent while a commit has it.
    log: Option<log::Writer>,
    views: watch::Sender<View>,
    shared: Arc<Shared>,
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

/// What became of a commit.
pub(super) enum Ended {
    /// It is durable up to this position, published and answered.
    Durable(u64),
    /// The disk is full and nothing of it was written: these answers, and everything that was
    /// decided since the published view, must be taken back.
    TakenBack(Vec<Waiting>),
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
    append: Append,
}

type Append = Pin<Box<dyn Future<Output = (log::Writer, Result<Tip, AppendError>)> + Send>>;

impl Commits {
    pub(super) fn new(
        log: log::Writer,
        views: watch::Sender<View>,
        shared: Arc<Shared>,
        keeping: Keeping,
    ) -> Self {
        Self {
            pending: Group::default(),
            in_flight: None,
            log: Some(log),
            views,
            shared,
            full_until: None,
            keeping,
        }
    }

    /// What is durable and published.
    pub(super) fn view(&self) -> watch::Ref<'_, View> {
        self.views.borrow()
    }

    /// Whether another record may wait.
    pub(super) fn has_room(&self) -> bool {
        self.pending.drafts.len() < MOST_PENDING
    }

    /// Whether no commit is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Whether the disk was found full so lately that nothing is tried.
    pub(super) fn is_pausing(&self) -> bool {
        self.full_until.is_some_and(|until| Instant::now() < until)
    }

    /// How long the timer sleeps at least: no time, unless the disk is full.
    pub(super) fn shortest_sleep(&self) -> Duration {
        if self.full_until.is_some() { FULL_PAUSE } else { Duration::ZERO }
    }

    /// Puts a record into the next commit; `nodes` are those whose desired state it may change.
    pub(super) fn add(&mut self, draft: Draft, fact: Fact, nodes: impl Iterator<Item = NodeId>) {
        self.pending.drafts.push(draft);
        self.pending.facts.push(fact);
        self.pending.nodes.extend(nodes);
    }

    /// Tells an answer as soon as everything decided so far is durable.
    pub(super) fn answer(&mut self, waiting: Waiting) {
        if !self.pending.drafts.is_empty() {
            return self.pending.answers.push(waiting);
        }
        match &mut self.in_flight {
            Some(in_flight) => in_flight.group.answers.push(waiting),
            None => waiting.tell(&self.view()),
        }
    }

    /// Sends what is pending to the disk, unless a commit is under way. `controller` has decided
    /// everything up to `position`.
    pub(super) fn begin(&mut self, controller: &Controller, position: u64) {
        if self.pending.drafts.is_empty() {
            return;
        }
        let Some(mut log) = self.log.take() else { return };
        let mut group = std::mem::take(&mut self.pending);
        let drafts = std::mem::take(&mut group.drafts);
        let append = Box::pin(async move {
            let outcome = log.append(&drafts).await;
            (log, outcome)
        });
        let (controller, began) = (controller.clone(), Instant::now());
        self.in_flight = Some(InFlight { group, position, controller, began, append });
    }

    /// Waits for the end of the commit under way, without end while none is. Dropped before it
    /// returns, it has changed nothing.
    pub(super) async fn ended(&mut self) -> Ended {
        let (log, outcome) = match &mut self.in_flight {
            Some(in_flight) => (&mut in_flight.append).await,
            None => std::future::pending().await,
        };
        self.log = Some(log);
        let in_flight = self.in_flight.take().expect("its append has just ended");
        match outcome {
            Ok(tip) => {
                self.publish(in_flight, tip);
                Ended::Durable(tip.position)
            }
            Err(AppendError::Full) => Ended::TakenBack(self.give_up(in_flight.group)),
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
        let InFlight { group, position, controller, began, append: _ } = in_flight;
        debug_assert_eq!(tip.position, position);
        self.shared.metrics.committed(group.facts.len(), began.elapsed(), tip.position);
        let view = View::new(position, tip.term, controller);
        self.views.send_replace(view.clone());
        if self.full_until.take().is_some() {
            tracing::info!("the disk that holds the log has room again");
            self.set_full(false);
        }
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

    /// Nothing of the group was written. Returns its answers and those that were pending behind it.
    fn give_up(&mut self, group: Group) -> Vec<Waiting> {
        if self.full_until.is_none() {
            tracing::error!("the disk that holds the log is full: writes are refused");
            self.set_full(true);
        }
        self.full_until = Some(Instant::now() + FULL_PAUSE);
        let later = std::mem::take(&mut self.pending);
        group.answers.into_iter().chain(later.answers).collect()
    }

    fn set_full(&self, is_full: bool) {
        self.shared.is_full.store(is_full, Ordering::Relaxed);
        self.shared.metrics.disk_full(is_full);
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

    /// Folds the log back and closes it.
    pub(super) async fn close(self) {
        if let Some(log) = self.log
            && let Err(error) = log.close().await
        {
            // Every record is durable already: only the folding back is left undone.
            let error = with_causes(&error);
            tracing::warn!(%error, "the log could not be folded back at its end");
        }
    }
}
