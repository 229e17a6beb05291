//! The agent's talk with the scheduler: a heartbeat that is held open, the next one as soon as it is
//! answered, an early one on a change; closed segments until they are acknowledged.

use std::sync::Arc;

use wharfage_agent_core::Input;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::segment::{SEGMENTS_PER_BATCH, SegmentBatch};
use wharfage_shared::telemetry::GpuReading;
use wharfage_shared::time::Millis;
use wharfage_shared::version::PROTOCOL_VERSION;

use super::Host;
use super::process::{BASELINE_MIB, ENGINE_MIB};
use crate::network::{Place, Way};
use crate::stage::{Asked, AtHost, AtScheduler, Happening, Stage};

/// Several changes of one moment travel in one early report.
const TOGETHER: Millis = Millis(1);

/// After an answer the next report goes out so soon, to be held in its turn.
const AFTER_ANSWER: (u64, u64) = (90, 110);

/// A report without an answer is sent again after this long.
const UNANSWERED: Millis = Millis::from_seconds(8);

/// Segments without an acknowledgement are sent again after this long.
const RESEND: Millis = Millis::from_seconds(10);

impl Host {
    /// The next heartbeat, so long from now.
    pub(super) fn plan_beat(&mut self, stage: &mut Stage, length: Millis) {
        let Some(agent) = &mut self.agent else { return };
        agent.beat_token += 1;
        agent.beat_at = stage.now + length;
        let what = AtHost::Beat { start: agent.start, token: agent.beat_token };
        stage.queue.plan(agent.beat_at, Happening::Host(self.index, what));
    }

    /// As [`Self::plan_beat`], unless one is due before.
    fn plan_beat_by(&mut self, stage: &mut Stage, length: Millis) {
        let is_due_before =
            self.agent.as_ref().is_some_and(|agent| agent.beat_at <= stage.now + length);
        if !is_due_before {
            self.plan_beat(stage, length);
        }
    }

    pub(super) fn report_now(&mut self, stage: &mut Stage) {
        let Some(agent) = &mut self.agent else { return };
        agent.at_once = true;
        if agent.beat_at > stage.now + TOGETHER {
            self.plan_beat(stage, TOGETHER);
        }
    }

    pub(super) fn beat_due(&mut self, stage: &mut Stage, start: u64, token: u64) {
        if self.agent.as_ref().is_none_or(|a| a.start != start || a.beat_token != token) {
            return;
        }
        // What is proven must reach up to the report itself.
        self.step(stage, Input::Wake);
        let Some((heartbeat, asked)) = self.heartbeat(stage) else { return };
        let host = self.index;
        let heartbeat = Box::new(heartbeat);
        let what = AtScheduler::Heartbeat { host, start, asked, heartbeat };
        stage.send(Place::Host(host), Way::Up, Happening::Scheduler(what));
        self.plan_beat(stage, UNANSWERED);
    }

    fn heartbeat(&mut self, stage: &Stage) -> Option<(Heartbeat, Asked)> {
        let sent_at = self.clock.at(stage.now);
        let readings = self.readings(stage.now);
        let boot = self.boot();
        let agent = self.agent.as_mut()?;
        agent.number += 1;
        let report = agent.core.report(sent_at);
        agent.epoch = report.epoch;
        if agent.health.number == 0 || !Arc::ptr_eq(&agent.health.report, &report.health) {
            agent.health.report = report.health;
            agent.health.number += 1;
        }
        let health = agent.health.number;
        let had_epoch = report.epoch.is_some();
        let asked = Asked { sent_at, number: agent.number, had_epoch, health };
        let wall = stage.wall();
        let wall = wharfage_shared::time::Timestamp(wall.0.saturating_add(self.wall_step));
        let heartbeat = Heartbeat {
            protocol: PROTOCOL_VERSION,
            node: self.node.clone(),
            boot,
            nonce: agent.nonce.clone(),
            epoch: report.epoch,
            number: agent.number,
            persisted: report.persisted,
            applied: report.applied,
            sent_at,
            wall,
            inventory_hash: self.inventory_hash.clone(),
            inventory: agent.send_inventory.then(|| self.inventory.clone()),
            health_hash: format!("{}-{health}", agent.nonce),
            health: (agent.health.known != health).then(|| (*agent.health.report).clone()),
            readings,
            replicas: report.replicas,
            gone: report.gone,
            open_segment: report.open_segment,
            last_segment: report.last_segment,
            notices: report.notices,
            hearing: Vec::new(),
            evacuated: report.evacuated,
            answer_at_once: std::mem::take(&mut agent.at_once),
        };
        Some((heartbeat, asked))
    }

    fn readings(&self, now: Millis) -> Vec<GpuReading> {
        let used = |gpu: &wharfage_shared::ids::GpuUuid| {
            let mut processes = self.processes.values();
            let holds = processes.any(|p| p.holds_memory(now) && p.order.gpus.contains(gpu));
            if holds { BASELINE_MIB + ENGINE_MIB } else { BASELINE_MIB }
        };
        let reading = |gpu: &wharfage_shared::ids::GpuUuid| {
            let trouble = self.gpu_trouble.get(gpu).cloned();
            let answers = trouble.is_none();
            GpuReading {
                uuid: gpu.clone(),
                memory_used_mib: answers.then(|| used(gpu)),
                memory_reserved_mib: answers.then_some(300),
                utilization: answers.then_some(0),
                temperature_c: answers.then_some(40),
                power_mw: answers.then_some(100_000),
                age_ms: 0,
                trouble,
                unread: None,
            }
        };
        self.gpus.iter().map(reading).collect()
    }

    pub(super) fn answered(&mut self, stage: &mut Stage, asked: Asked, answer: HeartbeatAnswer) {
        if let Some(acknowledged) = &answer.segments
            && acknowledged.log == self.disk.log
        {
            self.disk.segments.retain(|segment| segment.key.number > acknowledged.up_to);
        }
        let Some(agent) = &mut self.agent else { return };
        let again = !asked.had_epoch || answer.send_inventory || answer.send_health;
        if asked.had_epoch {
            agent.health.known = if answer.send_health { 0 } else { asked.health };
        }
        if asked.had_epoch {
            agent.send_inventory = answer.send_inventory;
        }
        let answer = Box::new(answer);
        self.step(stage, Input::Answer { sent_at: asked.sent_at, answer });
        if again {
            self.report_now(stage);
        } else if self.agent.as_ref().is_some_and(|agent| agent.number == asked.number) {
            let pause = stage.rng.between(AFTER_ANSWER.0, AFTER_ANSWER.1);
            self.plan_beat_by(stage, Millis(pause));
        }
    }

    /// Closed segments that were not sent yet go now.
    pub(super) fn upload(&mut self, stage: &mut Stage) {
        let Some(agent) = &mut self.agent else { return };
        let closed = agent.core.closed_segments();
        let (Some(last), Some(epoch)) = (closed.last(), agent.epoch) else { return };
        if last.key.number <= agent.sent_segment {
            return;
        }
        let new = closed.iter().filter(|segment| segment.key.number > agent.sent_segment);
        let segments: Vec<_> = new.take(SEGMENTS_PER_BATCH).cloned().collect();
        let Some(newest) = segments.last() else { return };
        agent.sent_segment = newest.key.number;
        let (host, start) = (self.index, agent.start);
        let batch = Box::new(SegmentBatch { epoch, segments });
        let what = AtScheduler::Segments { host, batch };
        stage.send(Place::Host(host), Way::Up, Happening::Scheduler(what));
        self.plan(stage, RESEND, AtHost::Resend { start });
    }

    pub(super) fn resend(&mut self, stage: &mut Stage) {
        if let Some(agent) = &mut self.agent {
            agent.sent_segment = 0;
        }
        self.upload(stage);
    }
}
