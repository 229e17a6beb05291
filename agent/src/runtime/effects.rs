//! Carries out what was decided, in order. What must be on disk before anything later happens is
//! written here; everything slow gets a task that reports back.

use std::io;
use std::sync::Arc;

use wharfage_agent_core::Effect;
use wharfage_agent_core::health::Memory;
use wharfage_agent_core::input::{Input, Probe};
use wharfage_agent_sys::clock;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Desired, RunOrder};
use wharfage_shared::segment::Segment;

use super::engines::load_progress;
use super::{End, Runtime};
use crate::drivers::release;
use crate::guard::record::Command;
use crate::probe::{self, Target};

/// Progress is worth a word after this much.
const PROGRESS_STEP: u64 = 8 * 1024 * 1024;

/// Closed segments kept in memory while the disk is full: about 64 MiB.
const MOST_UNSAVED: usize = 100_000;

impl Runtime {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let driver = &self.parts.driver;
        match effect {
            Effect::Persist(desired) => self.persist(*desired),
            Effect::AppendSegment(segment) => self.append(*segment),
            Effect::NoteOpenSegment(open) => {
                let epoch = self.parts.agent.report(clock::boottime()).epoch.unwrap_or_default();
                let log = &mut self.parts.log;
                let noted = tokio::task::block_in_place(|| log.note_open(epoch, *open));
                self.disk("note the open segment", noted);
            }
            Effect::Fetch(order) => self.fetch(*order),
            Effect::Start(order) => {
                self.parts.orders.insert(order.replica, (*order).clone());
                driver.start(*order, &self.parts.definitions.engines);
            }
            Effect::Probe { replica, prove } => self.probe(replica, prove),
            Effect::ServeUntil { replica, until } => {
                driver.command(replica, Command::ServeUntil { until });
            }
            Effect::RunHook { replica, kind, hook, reason, deadline } => {
                self.run_hook(replica, kind, hook, reason, deadline);
            }
            Effect::CutHook { replica, kind } => {
                if let Some(running) = self.running_hooks.remove(&(replica, kind)) {
                    running.cancel();
                }
            }
            Effect::Wake { replica } => self.wake(replica),
            Effect::Terminate { replica } => {
                let driver = Arc::clone(driver);
                tokio::spawn(async move {
                    if let Ok(params) = driver.folder(replica).params() {
                        probe::drain(&Target::from(params)).await;
                    }
                    driver.command(replica, Command::Terminate);
                });
            }
            Effect::Kill { replica } => driver.command(replica, Command::Kill),
            Effect::CheckRelease { replica } => {
                let driver = Arc::clone(driver);
                tokio::spawn(async move {
                    let saw = release::look(&driver, replica).await;
                    driver.say(Input::Release { replica, saw }).await;
                });
            }
            Effect::Forget { replica } => {
                self.parts.orders.remove(&replica);
                let output = &self.parts.output;
                let forgotten = tokio::task::block_in_place(|| {
                    output.take_last_words(replica);
                    driver.forget(replica)
                });
                // The next agent finds them and forgets them again.
                if let Err(error) = forgotten {
                    self.note(Some(replica), format!("its records cannot be removed: {error}"));
                }
            }
            Effect::AcknowledgeNotice(id) => {
                self.done_with(id);
            }
            Effect::KeepHealth(memory) => self.keep_health(*memory),
            Effect::ReportNow => self.parts.report_now.notify_one(),
            Effect::Note(note) => self.note(note.replica, note.text),
            Effect::Abdicate => {
                self.note(None, "a newer start of this node exists: this one ends".to_owned());
                self.end = Some(End::Superseded);
            }
        }
    }

    fn persist(&mut self, desired: Desired) {
        let file = &self.parts.desired_file;
        let stored = tokio::task::block_in_place(|| file.store(&desired));
        if stored.is_ok() {
            self.parts.stored = desired.version;
            self.unsaved_desired = None;
        } else {
            self.unsaved_desired = Some(desired);
        }
        self.disk("store the desired state", stored);
    }

    fn keep_health(&mut self, memory: Memory) {
        let file = &self.parts.health_file;
        let stored = tokio::task::block_in_place(|| file.store(&memory));
        self.unsaved_health = stored.is_err().then_some(memory);
        self.disk("store what is known of incidents", stored);
    }

    fn append(&mut self, segment: Segment) {
        self.unsaved_segments.push_back(segment);
        if self.unsaved_segments.len() > MOST_UNSAVED {
            self.unsaved_segments.pop_front();
        }
        self.write_segments();
    }

    /// A disk that was full may have room again.
    pub(super) fn retry_unsaved(&mut self) {
        if let Some(desired) = self.unsaved_desired.take() {
            self.persist(desired);
        }
        if let Some(memory) = self.unsaved_health.take() {
            self.keep_health(memory);
        }
        self.write_segments();
    }

    fn write_segments(&mut self) {
        while let Some(segment) = self.unsaved_segments.front() {
            let (log, segment) = (&mut self.parts.log, segment.clone());
            let appended = tokio::task::block_in_place(|| log.append(segment));
            let is_written = appended.is_ok();
            self.disk("append to the segment log", appended);
            if !is_written {
                return;
            }
            self.unsaved_segments.pop_front();
            self.parts.segment_closed.notify_one();
        }
    }

    /// Serving goes on when the disk does not: an alarm stands until the same can be written.
    pub(super) fn disk(&mut self, what: &'static str, done: io::Result<()>) {
        let Err(error) = done else {
            if self.disk_alarms.remove(what).is_some() {
                self.note(None, format!("it works again to {what}"));
            }
            return;
        };
        let alarm = format!("cannot {what}: {error}");
        if self.disk_alarms.get(what) != Some(&alarm) {
            self.note(None, alarm.clone());
        }
        self.disk_alarms.insert(what, alarm);
    }

    /// The agent ends: what the disk still does not take is named.
    pub(super) fn last_try_to_save(&mut self) {
        self.retry_unsaved();
        let (Some(first), Some(last)) =
            (self.unsaved_segments.front(), self.unsaved_segments.back())
        else {
            return;
        };
        let (first, last) = (first.key.number, last.key.number);
        self.note(
            None,
            format!(
                "segments {first} to {last} could not be written and are lost: the next agent goes \
                 on from what was noted of segment {first}"
            ),
        );
    }

    fn fetch(&mut self, order: RunOrder) {
        self.parts.orders.insert(order.replica, order.clone());
        let driver = Arc::clone(&self.parts.driver);
        tokio::task::spawn_blocking(move || {
            let replica = order.replica;
            let mut told = None;
            let fetched = driver.weights().fetch(&order, &mut |done, total| {
                let is_due = told.is_none_or(|told| done >= told + PROGRESS_STEP);
                if is_due {
                    told = Some(done);
                    // A word of progress is not worth waiting for.
                    drop(driver.inputs.try_send(Input::FetchProgress { replica, done, total }));
                }
            });
            let input = match fetched {
                Ok(()) => Input::Fetched { replica },
                Err(because) => Input::FetchFailed { replica, because },
            };
            // The receiver only goes when the agent ends.
            drop(driver.inputs.blocking_send(input));
        });
    }

    fn probe(&self, replica: ReplicaId, prove: bool) {
        let driver = Arc::clone(&self.parts.driver);
        tokio::spawn(async move {
            let folder = driver.folder(replica);
            let saw = match folder.params() {
                Ok(params) => {
                    let saw = probe::look(&Target::from(params.clone()), prove).await;
                    if saw == Probe::Loading {
                        let driver = Arc::clone(&driver);
                        // It reads the process table: not on a thread that others need.
                        let looked = tokio::task::spawn_blocking(move || {
                            if let Some(far) = load_progress(&driver, &params) {
                                // A word of progress is not worth waiting for.
                                drop(driver.inputs.try_send(far));
                            }
                        });
                        drop(looked.await);
                    }
                    saw
                }
                Err(error) => Probe::Failed(format!("its records cannot be read: {error}")),
            };
            if saw == Probe::Proven && !folder.was_ready() && folder.mark_ready().is_err() {
                tracing::warn!(replica.id = %replica, "cannot note that the replica is ready");
            }
            driver.say(Input::Probed { replica, saw }).await;
        });
    }
}
