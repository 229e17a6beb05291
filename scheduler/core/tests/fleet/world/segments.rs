//! A host's segment log: cut whenever holder, activity or replicas change.

use wharfage_shared::ids::{BootId, GpuUuid, NodeId, ReplicaId, SegmentLogId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::segment::{
    Activity, OpenSegment, Segment, SegmentBatch, SegmentKey, SegmentReplica,
};
use wharfage_shared::time::Boottime;
use wharfage_shared::version::Epoch;

/// A replica as the host sees it: id, phase, GPUs, whether an order names it.
pub type Running = (ReplicaId, ReportedPhase, Vec<GpuUuid>, bool);

/// A host's segments that are not acknowledged, and the open one.
pub struct SegmentLog {
    node: NodeId,
    log: SegmentLogId,
    last: u64,
    open: Option<(OpenSegment, Epoch)>,
    closed: Vec<Segment>,
}

impl SegmentLog {
    /// An empty log.
    pub fn new(node: &NodeId) -> Self {
        let log = SegmentLogId::new(format!("{node}-log-1"));
        Self { node: node.clone(), log, last: 0, open: None, closed: Vec::new() }
    }

    /// The number of the last closed segment.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The open segment, proven up to now.
    pub fn open(&self, clock: Boottime) -> Option<OpenSegment> {
        let (open, _) = self.open.as_ref()?;
        Some(OpenSegment { proven_until: clock, ..open.clone() })
    }

    /// Takes in what the host does now.
    pub fn see(
        &mut self,
        held_for: Option<HeldFor>,
        running: &[Running],
        boot: &BootId,
        epoch: Epoch,
        clock: Boottime,
    ) {
        let replicas: Vec<SegmentReplica> = running
            .iter()
            .map(|(replica, _, gpus, _)| SegmentReplica { replica: *replica, gpus: gpus.clone() })
            .collect();
        let activity = activity(running);
        let same = self.open.as_ref().is_some_and(|(open, _)| {
            open.held_for == held_for && open.activity == activity && open.replicas == replicas
        });
        if same {
            return;
        }
        self.close(clock);
        if held_for.is_none() && replicas.is_empty() {
            return;
        }
        let key = SegmentKey {
            node: self.node.clone(),
            boot: boot.clone(),
            log: self.log.clone(),
            number: self.last + 1,
        };
        let (start, proven_until) = (clock, clock);
        let open = OpenSegment { key, held_for, activity, replicas, start, proven_until };
        self.open = Some((open, epoch));
    }

    /// Closes the open segment.
    pub fn close(&mut self, clock: Boottime) {
        let Some((open, epoch)) = self.open.take() else { return };
        self.last = open.key.number;
        let OpenSegment { key, held_for, activity, replicas, start, .. } = open;
        let end = clock.max(start);
        self.closed.push(Segment { key, epoch, held_for, activity, replicas, start, end });
    }

    /// What is not acknowledged yet.
    pub fn batch(&self, epoch: Epoch) -> Option<SegmentBatch> {
        let segments: Vec<Segment> = self.closed.iter().take(1000).cloned().collect();
        (!segments.is_empty()).then_some(SegmentBatch { epoch, segments })
    }

    /// The scheduler has everything up to here.
    pub fn acknowledged(&mut self, up_to: u64) {
        self.closed.retain(|segment| segment.key.number > up_to);
    }
}

fn activity(running: &[Running]) -> Activity {
    let any = |phases: &[ReportedPhase]| {
        running.iter().any(|(_, phase, _, known)| *known && phases.contains(phase))
    };
    if running.is_empty() {
        Activity::IdleHeld
    } else if running.iter().all(|(_, _, _, known)| !known) {
        Activity::Orphaned
    } else if any(&[ReportedPhase::Ready, ReportedPhase::Degraded]) {
        Activity::Serving
    } else if any(&[ReportedPhase::Fetching, ReportedPhase::Loading, ReportedPhase::Warming]) {
        Activity::Starting
    } else {
        Activity::Draining
    }
}
