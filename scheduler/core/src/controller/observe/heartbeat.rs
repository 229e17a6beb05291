//! A heartbeat: old news is answered and not applied; everything else becomes facts where it
//! changes something.

use std::sync::Arc;

use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::health::Health;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{NodeId, NoticeId};
use wharfage_shared::notice::{Certainty, Notice, NoticeSource};
use wharfage_shared::segment::SegmentsAcknowledged;
use wharfage_shared::time::{Boottime, ClockOffset, Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, PROTOCOL_VERSION};

use super::{drills, problem, replicas, segments};
use crate::controller::soft::{Drift, NodeHeard};
use crate::controller::{Controller, Decided};
use crate::fleet::rows::node::NodeRow;
use crate::policies::{self, doubts, health};
use crate::reconcile::plan::Plan;
use crate::reconcile::reconcile;
use crate::words::event::meter::Event as MeterEvent;
use crate::words::event::node::Event;
use crate::words::node::{Doubt, Hardware, Hint, NoticeFact, Reach};

/// A host's clock that differs by more than this from the fact has stepped.
const CLOCK_STEP_MS: i64 = 2000;
/// So many late samples in a row are a step; fewer are delay.
const LATE_SAMPLES: u32 = 3;

impl Controller {
    pub(in crate::controller) fn heartbeat(
        &mut self,
        now: Timestamp,
        heartbeat: &Heartbeat,
    ) -> Decided<Result<HeartbeatAnswer, MachineProblem>> {
        self.now = self.now.max(now);
        if let Err(problem) = self.check_heartbeat(heartbeat) {
            return Decided { answer: Err(problem), events: Vec::new() };
        }
        let events = match self.start_of(heartbeat) {
            Start::Current => self.take_in(heartbeat),
            Start::New(epoch) => self.begin(heartbeat, epoch),
            Start::Older => Vec::new(),
        };
        Decided { answer: Ok(self.answer(heartbeat)), events }
    }

    fn check_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), MachineProblem> {
        let node = &heartbeat.node;
        if self.fleet.node(node).is_none() {
            let detail = format!("no node `{node}` has enrolled; enrol with a join string");
            return Err(problem("node_unknown", detail));
        }
        if heartbeat.protocol.abs_diff(PROTOCOL_VERSION) > 1 {
            let detail = format!(
                "protocol {}; accepted: {PROTOCOL_VERSION} and its neighbours: update the older \
                 side first",
                heartbeat.protocol
            );
            return Err(problem("protocol_unsupported", detail));
        }
        Ok(())
    }

    /// Which start of its agent a heartbeat is from.
    fn start_of(&self, heartbeat: &Heartbeat) -> Start {
        let Some(row) = self.fleet.node(&heartbeat.node) else { return Start::Older };
        let known = row.start.as_ref().is_some_and(|start| *start.nonce == *heartbeat.nonce);
        match heartbeat.epoch {
            None if known => Start::Older,
            None => Start::New(Epoch(row.epoch.0 + 1)),
            Some(epoch) if epoch == row.epoch && known => Start::Current,
            // A log that was restored does not know what it once issued, and a node that enrolled
            // anew goes on under its number: it is taken over.
            Some(epoch) if epoch > row.epoch => Start::New(epoch),
            Some(epoch) if epoch == row.epoch && row.start.is_none() => Start::New(epoch),
            Some(_) => Start::Older,
        }
    }

    fn begin(&mut self, heartbeat: &Heartbeat, epoch: Epoch) -> Vec<crate::Event> {
        let (node, boot) = (heartbeat.node.clone(), heartbeat.boot.clone());
        let heard = NodeHeard { at: self.now, ..NodeHeard::default() };
        self.soft.nodes.insert(node.clone(), heard);
        let nonce = heartbeat.nonce.clone();
        let mut plan = self.plan(self.now);
        let at = plan.now;
        plan.record(Event::EpochIssued { node, boot, nonce, epoch, at });
        reconcile(&mut plan);
        plan.events
    }

    /// A heartbeat of the newest start: applied unless an equal or newer one was.
    fn take_in(&mut self, heartbeat: &Heartbeat) -> Vec<crate::Event> {
        let node = &heartbeat.node;
        let now = self.now;
        let known = self.soft.nodes.get(node).cloned();
        let is_first = known.is_none();
        let before = known.unwrap_or_default();
        if heartbeat.number <= before.number {
            return Vec::new();
        }
        // The first report after a start may have been sent to an earlier scheduler and be older
        // than what that one has in the log: it shows that the node lives, and nothing else (S9).
        if is_first && heartbeat.persisted.term != self.term {
            return self.hear_first(heartbeat);
        }
        let (offset, drift) = self.clock(heartbeat, before.drift);
        let proven = heartbeat.open_segment.as_ref().map(|s| (s.key.clone(), s.proven_until));
        let told = heartbeat.health.as_ref().map(|health| Arc::new(health.clone()));
        let told = told.map(|health| (heartbeat.health_hash.clone(), health));
        let health = told.or(before.health);
        let report = health.clone();
        let row = self.fleet.node(node);
        let sample = |row| doubts::of_clock(row, &self.policy, before.clock, heartbeat.wall, now);
        let (off, clock) = row.map(sample).unwrap_or_default();
        let heard = NodeHeard { at: now, number: heartbeat.number, proven, drift, clock, health };
        self.soft.nodes.insert(node.clone(), heard);
        let reach = self.fleet.node(node).map(|row| row.reach);
        self.watch(node, reach);
        let mut plan = self.plan(now);
        if reach != Some(Reach::Connected) {
            let reach = Reach::Connected;
            plan.record(Event::ReachChanged { node: node.clone(), reach, at: now });
        }
        if let Some(event) = offset {
            plan.record(event);
        }
        doubt(&mut plan, node, off, report.as_ref().map(|(_, report)| report.as_ref()));
        hardware(&mut plan, heartbeat, report);
        notices(&mut plan, heartbeat);
        hints(&mut plan, heartbeat);
        drills::told(&mut plan, heartbeat);
        replicas::reported(&mut plan, heartbeat);
        replicas::gone(&mut plan, heartbeat);
        if let Some(segment) = &heartbeat.open_segment {
            segments::open(&mut plan, segment, before.proven);
        }
        reconcile(&mut plan);
        plan.events
    }

    fn hear_first(&mut self, heartbeat: &Heartbeat) -> Vec<crate::Event> {
        let (node, at) = (heartbeat.node.clone(), self.now);
        let heard = NodeHeard { at, number: heartbeat.number, ..NodeHeard::default() };
        self.soft.nodes.insert(node.clone(), heard);
        let reach = self.fleet.node(&node).map(|row| row.reach);
        self.watch(&node, reach);
        let mut plan = self.plan(at);
        if reach != Some(Reach::Connected) {
            plan.record(Event::ReachChanged { node, reach: Reach::Connected, at });
        }
        // A proof is true for ever, however old the report: an id is used once. The agent takes
        // this answer for its receipt.
        replicas::gone(&mut plan, heartbeat);
        reconcile(&mut plan);
        plan.events
    }

    /// A node that was not looked at for silence is from now on.
    fn watch(&mut self, node: &NodeId, reach: Option<Reach>) {
        if matches!(reach, Some(Reach::Joining | Reach::Lost)) {
            let check = (self.now + self.policy.silent_after(), node.clone());
            self.soft.checks.insert(check, ());
        }
    }

    /// What moves the host's clock to ours: a fact for each boot, and again where it steps.
    fn clock(
        &self,
        heartbeat: &Heartbeat,
        drift: Option<Drift>,
    ) -> (Option<MeterEvent>, Option<Drift>) {
        let (node, boot, from) = (&heartbeat.node, &heartbeat.boot, heartbeat.sent_at);
        let sample = ClockOffset::between(self.now, from);
        let fact = |offset| {
            let (node, boot) = (node.clone(), boot.clone());
            Some(MeterEvent::Offset { node, boot, from, offset })
        };
        let known = self.fleet.meter().offsets.get(&(node.clone(), boot.clone()));
        let Some(known) = known.and_then(|offsets| offsets.last()) else {
            return (fact(sample), None);
        };
        let ahead = sample.0.saturating_sub(known.offset.0);
        if ahead < -CLOCK_STEP_MS {
            return (fact(sample), None);
        }
        if ahead <= CLOCK_STEP_MS {
            return (None, None);
        }
        let least = drift.map_or(sample, |drift| drift.least.min(sample));
        let samples = drift.map_or(1, |drift| drift.samples + 1);
        if samples >= LATE_SAMPLES {
            return (fact(least), None);
        }
        (None, Some(Drift { samples, least }))
    }

    /// What every heartbeat is told, old news included.
    fn answer(&self, heartbeat: &Heartbeat) -> HeartbeatAnswer {
        let row = self.fleet.node(&heartbeat.node);
        let epoch = row.map_or(Epoch(0), |row| row.epoch);
        let current = heartbeat.epoch == Some(epoch);
        // Without its epoch an agent can do nothing: it reports again at once.
        let asks_for_epoch = heartbeat.epoch.is_none();
        let interval = Millis::from_seconds(self.policy.heartbeat_interval_seconds.into());
        // Asked of the counter first: most heartbeats name the newest, and orders cost to write out.
        let is_newer = |row: &&NodeRow| {
            let version = DesiredVersion { term: self.term, generation: row.generation };
            current && version > heartbeat.persisted
        };
        let unknown = |row: &NodeRow| {
            *row.inventory_hash != *heartbeat.inventory_hash && heartbeat.inventory.is_none()
        };
        HeartbeatAnswer {
            term: self.term,
            epoch,
            lease: self.policy.lease(),
            next_in: if asks_for_epoch { Millis(0) } else { interval },
            now: self.now,
            held: Millis(0),
            segments: current.then(|| self.acknowledged(heartbeat)).flatten(),
            desired: row.filter(is_newer).and_then(|row| self.desired(&row.id)),
            send_inventory: current && row.is_some_and(unknown),
            send_health: current && !self.has_health(heartbeat),
        }
    }

    /// Whether the health report that the heartbeat names is here.
    fn has_health(&self, heartbeat: &Heartbeat) -> bool {
        let heard = self.soft.nodes.get(&heartbeat.node).and_then(|heard| heard.health.as_ref());
        let hash = &heartbeat.health_hash;
        hash.is_empty() || heard.is_some_and(|(known, _)| known == hash)
    }

    /// How far the log of the agent's open segment is durable here.
    fn acknowledged(&self, heartbeat: &Heartbeat) -> Option<SegmentsAcknowledged> {
        let meter = self.fleet.meter();
        let log = match &heartbeat.open_segment {
            Some(segment) => segment.key.log.clone(),
            None => {
                let from = (heartbeat.node.clone(), "".into());
                let logs = meter.dense.from(&from).take_while(|(k, _)| k.0 == heartbeat.node);
                logs.last().map(|((_, log), _)| log.clone())?
            }
        };
        let up_to = meter.dense.get(&(heartbeat.node.clone(), log.clone())).copied().unwrap_or(0);
        Some(SegmentsAcknowledged { log, up_to })
    }
}

/// Which start of its agent a heartbeat is from.
enum Start {
    /// The newest.
    Current,
    /// One that has no number yet.
    New(Epoch),
    /// One that is over, or one that only asks for its number again.
    Older,
}

/// What the scheduler itself holds against the node.
fn doubt(plan: &mut Plan<'_>, node: &NodeId, clock: Option<Doubt>, report: Option<&Health>) {
    let Some(row) = plan.fleet.node(node) else { return };
    let told = report.map(|report| doubts::of_incidents(row, plan.policy, report, plan.now));
    let at = plan.now;
    for doubt in clock.into_iter().chain(told.unwrap_or_default()) {
        plan.record(Event::Doubted { node: node.clone(), doubt, at });
    }
}

/// Inventory and health.
fn hardware(plan: &mut Plan<'_>, heartbeat: &Heartbeat, report: Option<(String, Arc<Health>)>) {
    let node = heartbeat.node.clone();
    if let Some(inventory) = &heartbeat.inventory {
        let known = plan.fleet.node(&node).map(|row| &*row.inventory_hash);
        if known != Some(&*heartbeat.inventory_hash) {
            let (hash, inventory) = (heartbeat.inventory_hash.clone(), Box::new(inventory.clone()));
            plan.record(Event::InventoryReported { node: node.clone(), hash, inventory });
        }
    }
    let Some(row) = plan.fleet.node(&node) else { return };
    // Without the inventory that the hash names nothing can be said of the hardware.
    if *row.inventory_hash != *heartbeat.inventory_hash {
        return;
    }
    let report = report.filter(|(hash, _)| *hash == heartbeat.health_hash);
    // A report that is on its way: until it is here nothing can be said either.
    if report.is_none() && !heartbeat.health_hash.is_empty() {
        return;
    }
    let report = report.map(|(_, report)| report);
    let judged = health::decide(row, &row.inventory, &heartbeat.readings, report.as_deref());
    let is_news = judged.health != row.health;
    let at = plan.now;
    let hardware = judged.hardware.filter(|hardware| !is_known(row, hardware));
    if let Some(hardware) = hardware {
        plan.record(Event::HardwareJudged { node: node.clone(), hardware, at });
    }
    if is_news {
        plan.record(Event::HealthChanged { node, health: judged.health, at });
    }
}

fn is_known(row: &NodeRow, hardware: &Hardware) -> bool {
    row.slots
        .iter()
        .all(|slot| slot.unfit.as_deref() == hardware.unfit.get(&slot.gpu).map(String::as_str))
        && row.rules.keys().eq(hardware.rules.iter())
        && row.asks.iter().map(|fact| &fact.ask).eq(hardware.asks.iter())
}

/// Notices that the node's own sources hear: what appears is in force, what disappears was taken
/// back. What the scheduler said itself is not among them, and what is merely likely closes nothing.
fn notices(plan: &mut Plan<'_>, heartbeat: &Heartbeat) {
    let Some(row) = plan.fleet.node(&heartbeat.node) else { return };
    let mut changes = Vec::new();
    let is_certain = |notice: &&Notice| notice.certainty == Certainty::Certain;
    for notice in heartbeat.notices.iter().filter(is_certain) {
        let fact = notice_fact(plan, heartbeat, notice);
        let known = row.notices.get(&notice.id);
        let same = known.is_some_and(|known| {
            let moved = known.gone_at.0.abs_diff(fact.gone_at.0);
            known.leaves == fact.leaves && known.kind == fact.kind && moved <= 2000
        });
        // Its deadline has passed and it was settled; the agent repeats it until it is cleared.
        let is_over = row.past_notices.get(&notice.id).is_some_and(|gone_at| *gone_at <= plan.now)
            || (notice.source == NoticeSource::Drill
                && plan.fleet.is_past_drill(&row.id, &notice.id));
        if !notice.source.is_told_by_scheduler() && !same && !is_over {
            changes.push(Event::Noticed { node: heartbeat.node.clone(), notice: fact });
        }
    }
    let is_reported = |id: &NoticeId| heartbeat.notices.iter().any(|notice| notice.id == *id);
    for known in row.notices.values() {
        if !known.source.is_told_by_scheduler() && !is_reported(&known.id) {
            let (node, notice, at) = (heartbeat.node.clone(), known.id.clone(), plan.now);
            changes.push(Event::NoticeEnded { node, notice, at });
        }
    }
    for event in changes {
        plan.record(event);
    }
}

/// What is merely likely closes the node for what is new, and has it emptied in its turn.
fn hints(plan: &mut Plan<'_>, heartbeat: &Heartbeat) {
    let Some(row) = plan.fleet.node(&heartbeat.node) else { return };
    let likely = heartbeat.notices.iter().filter(|one| one.certainty == Certainty::Likely);
    let told = likely.map(|notice| {
        let NoticeFact { id, kind, source, gone_at, .. } = notice_fact(plan, heartbeat, notice);
        Hint { id, kind, source, gone_at }
    });
    let told: Vec<Hint> = told.collect();
    if let Some(doubt) = policies::hints::of_report(row, plan.policy, told, plan.now) {
        let (node, at) = (heartbeat.node.clone(), plan.now);
        plan.record(Event::Doubted { node, doubt, at });
    }
}

/// The agent finds the last moment of its own drains: only a reclaim states one.
fn notice_fact(plan: &Plan<'_>, heartbeat: &Heartbeat, notice: &Notice) -> NoticeFact {
    let wall = |at: Boottime| {
        let meter = plan.fleet.meter();
        meter.wall(&heartbeat.node, &heartbeat.boot, at).unwrap_or(plan.now)
    };
    let gone_at = wall(notice.gone_at);
    NoticeFact {
        id: notice.id.clone(),
        kind: notice.kind,
        source: notice.source,
        leaves: notice.leaves,
        heard_at: wall(notice.heard_at).min(plan.now),
        drain_at: gone_at,
        gone_at,
    }
}
