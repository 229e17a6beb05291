//! What leaves the node: heartbeats, segments, the status page; and the answers that come back.

use std::sync::Arc;

use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::segment::{SEGMENTS_PER_BATCH, SegmentBatch};
use wharfage_shared::time::Millis;
use wharfage_shared::version::PROTOCOL_VERSION;

use super::{Ask, Runtime};
use crate::gpu::held::{Owners, owners, promises};
use crate::inventory;
use crate::status::{self, Shown};

/// Segments that were taken but not acknowledged are sent again after this long.
const SEND_AGAIN: Millis = Millis::from_seconds(60);

impl Runtime {
    pub(super) fn answer(&mut self, ask: Ask) {
        // A reply that nobody waits for any more is dropped.
        match ask {
            Ask::Heartbeat { answer_at_once, reply } => {
                self.step(Input::Wake);
                drop(reply.send(self.heartbeat(answer_at_once)));
            }
            Ask::Answered { sent, answer } => self.hear_answer(&sent, *answer),
            Ask::Segments { reply } => drop(reply.send(self.segments())),
            Ask::SegmentsSent { log, up_to } => {
                if log == *self.parts.log.id() {
                    self.segments_sent = Some((up_to, clock::boottime()));
                }
            }
            Ask::Status { reply } => drop(reply.send(self.shown())),
            Ask::Reload(read) => self.hear_config(read),
        }
    }

    fn heartbeat(&mut self, answer_at_once: bool) -> Heartbeat {
        self.number += 1;
        let now = clock::boottime();
        let mut report = self.parts.agent.report(now);
        self.add_loads(&mut report.replicas, now);
        let is_known = self.known_inventory.as_ref() == Some(&self.inventory_hash);
        // The core makes another one only when something changed.
        if !Arc::ptr_eq(&self.health, &report.health) {
            self.health_hash = inventory::hash(&report.health);
            self.health = report.health;
        }
        let has_health = self.known_health.as_ref() == Some(&self.health_hash);
        Heartbeat {
            protocol: PROTOCOL_VERSION,
            node: self.parts.node.clone(),
            boot: self.parts.driver.boot.clone(),
            nonce: self.parts.nonce.clone(),
            epoch: report.epoch,
            number: self.number,
            // What could not be written is not claimed to be on disk.
            persisted: self.parts.stored.min(report.persisted),
            applied: report.applied,
            sent_at: now,
            wall: clock::wall(),
            inventory_hash: self.inventory_hash.clone(),
            inventory: (!is_known).then(|| (*self.inventory).clone()),
            health_hash: self.health_hash.clone(),
            health: (!has_health).then(|| (*self.health).clone()),
            readings: self.gpus.readings(now),
            replicas: report.replicas,
            gone: report.gone,
            open_segment: report.open_segment,
            last_segment: report.last_segment,
            notices: report.notices,
            hearing: self.parts.hearing.shown(now),
            evacuated: report.evacuated,
            answer_at_once: answer_at_once || report.epoch.is_none(),
        }
    }

    fn hear_answer(&mut self, sent: &Heartbeat, answer: HeartbeatAnswer) {
        self.last_answer_at = Some(clock::boottime());
        self.answered = self.answered.max(sent.number);
        if answer.send_inventory {
            self.known_inventory = None;
        } else if sent.epoch.is_some() && sent.inventory.is_some() {
            self.known_inventory = Some(sent.inventory_hash.clone());
        }
        if answer.send_health {
            self.known_health = None;
        } else if sent.epoch.is_some() && sent.health.is_some() {
            self.known_health = Some(sent.health_hash.clone());
        }
        let is_unnamed = sent.epoch.is_none();
        let acknowledged = answer.segments.clone();
        self.step(Input::Answer { sent_at: sent.sent_at, answer: Box::new(answer) });
        if let Some(acknowledged) = acknowledged
            && acknowledged.log == *self.parts.log.id()
        {
            let log = &mut self.parts.log;
            let noted = tokio::task::block_in_place(|| log.acknowledge(acknowledged.up_to));
            self.disk("note acknowledged segments", noted);
        }
        // The first answer only gave the epoch: everything else has not been told yet.
        if is_unnamed {
            self.parts.segment_closed.notify_one();
            self.parts.report_now.notify_one();
        }
    }

    fn segments(&mut self) -> Option<SegmentBatch> {
        let epoch = self.parts.agent.report(clock::boottime()).epoch?;
        if let Some((_, at)) = self.segments_sent
            && clock::boottime().since(at) > SEND_AGAIN
        {
            self.segments_sent = None;
        }
        let sent = self.segments_sent.map_or(0, |(up_to, _)| up_to);
        let synced = self.parts.log.last();
        let closed = self.parts.agent.closed_segments().iter();
        let due = closed.filter(|segment| (sent + 1..=synced).contains(&segment.key.number));
        let segments: Vec<_> = due.take(SEGMENTS_PER_BATCH).cloned().collect();
        (!segments.is_empty()).then_some(SegmentBatch { epoch, segments })
    }

    fn gpu_owners(&self) -> Owners {
        let replicas = self.parts.orders.keys().copied();
        tokio::task::block_in_place(|| owners(&self.parts.driver, replicas, &self.gpus))
    }

    fn shown(&self) -> Shown {
        let now = clock::boottime();
        let own = [&self.config_alarm, &self.kernel_alarm, &self.policy_alarm, &self.gpus.trouble];
        let sources = self.disk_alarms.values().chain(self.notice_alarms.values());
        let alarms = own.into_iter().flatten().chain(sources);
        let promises = promises(self.parts.orders.values());
        let core = self.parts.agent.status();
        let expired = core.notices_expired.iter().map(|id| {
            format!("notice_expired_but_alive: `{id}` is in force and the node is still there")
        });
        let expired: Vec<String> = expired.collect();
        Shown {
            core,
            engine_loads: self.shown_loads(now),
            gpus: status::gpus::all(&self.gpus, &self.gpu_owners(), &promises, now),
            gpus_missing: self.gpus.missing.clone(),
            gpu_names: self.gpus.identities.clone(),
            driver_version: self.gpus.driver_version.clone(),
            driver_versions: self.gpus.versions.clone(),
            gpu_helpers: self.gpus.helpers_alive,
            last_answer_ago: self.last_answer_at.map(|at| now.since(at)),
            reports_sent: self.number,
            unknown_fields: self.parts.decoder.unknown_fields(),
            engines: self.inventory.engines.to_vec(),
            hooks: self.inventory.hooks.clone(),
            refused: self.parts.definitions.refused.clone(),
            alarms: alarms
                .cloned()
                .chain(self.gpus.alarms())
                .chain(expired)
                .chain(self.parts.driver.untended())
                .collect(),
            driver: self.parts.driver.way.word(),
            shutdown_delay: *self.parts.shutdown_delay.borrow(),
            hearing: self.parts.hearing.shown(now),
            notes: self.notes.iter().cloned().collect(),
        }
    }
}
