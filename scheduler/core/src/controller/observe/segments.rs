//! Segments: each is counted once for ever by its key.

use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::ids::NodeId;
use wharfage_shared::segment::{
    OpenSegment, SEGMENTS_PER_BATCH, Segment, SegmentBatch, SegmentsAcknowledged,
};
use wharfage_shared::time::Timestamp;

use super::problem;
use crate::controller::{Controller, Decided};
use crate::fleet::Fleet;
use crate::reconcile::plan::Plan;
use crate::words::event::meter::Event;

impl Controller {
    pub(in crate::controller) fn segments(
        &mut self,
        now: Timestamp,
        node: &NodeId,
        batch: SegmentBatch,
    ) -> Decided<Result<SegmentsAcknowledged, MachineProblem>> {
        let log = batch.segments.first().map(|segment| segment.key.log.clone());
        if let Err(problem) = check(&self.fleet, node, &batch) {
            return Decided { answer: Err(problem), events: Vec::new() };
        }
        let mut plan = self.plan(now);
        for segment in batch.segments {
            close(&mut plan, segment);
        }
        let events = plan.events;
        let log = log.expect("an empty batch was refused");
        let up_to = self.fleet.meter().dense.get(&(node.clone(), log.clone())).copied();
        let answer = SegmentsAcknowledged { log, up_to: up_to.unwrap_or(0) };
        Decided { answer: Ok(answer), events }
    }
}

fn check(fleet: &Fleet, node: &NodeId, batch: &SegmentBatch) -> Result<(), MachineProblem> {
    let refuse = |detail| Err(problem("segments_refused", detail));
    if fleet.node(node).is_none() {
        return Err(problem("node_unknown", format!("no node `{node}` has enrolled")));
    }
    let Some(first) = batch.segments.first() else {
        return refuse("the batch is empty; accepted: 1 to 1000 segments".to_owned());
    };
    let count = batch.segments.len();
    if count > SEGMENTS_PER_BATCH {
        return refuse(format!("{count} segments; accepted: 1 to {SEGMENTS_PER_BATCH}"));
    }
    for segment in &batch.segments {
        let key = &segment.key;
        if key.node != *node || key.log != first.key.log {
            let detail = format!(
                "segment {} is of node `{}` and log `{}`; accepted: one log of the sender's own \
                 node in a batch",
                key.number, key.node, key.log
            );
            return refuse(detail);
        }
        if key.number == 0 || segment.end < segment.start {
            let detail = format!(
                "segment {} goes from {} to {}; accepted: numbers from 1, an end not before the \
                 start",
                key.number, segment.start.0, segment.end.0
            );
            return refuse(detail);
        }
    }
    Ok(())
}

/// The same key with the same content is old news; with other content it is an incident.
fn close(plan: &mut Plan<'_>, segment: Segment) {
    let at = plan.now;
    match plan.fleet.meter().closed.get(&segment.key) {
        None => {
            plan.record(Event::SegmentClosed { segment: Box::new(segment), at });
        }
        Some(known) if **known == segment => {}
        Some(known) => {
            let description = format!(
                "closed as {} to {} ({:?}), came again as {} to {} ({:?})",
                known.start.0,
                known.end.0,
                known.activity,
                segment.start.0,
                segment.end.0,
                segment.activity
            );
            incident(plan, segment.key, description);
        }
    }
}

/// An incident is noted once for each way in which a key differs.
fn incident(plan: &mut Plan<'_>, key: wharfage_shared::segment::SegmentKey, description: String) {
    let at = plan.now;
    let known = plan
        .fleet
        .meter()
        .incidents
        .iter()
        .any(|incident| incident.key == key && incident.description == description);
    if !known {
        plan.record(Event::Incident { key, description, at });
    }
}

/// The segment that is open on a node now; an older one of it is over.
pub(super) fn open(
    plan: &mut Plan<'_>,
    segment: &OpenSegment,
    proven: Option<(wharfage_shared::segment::SegmentKey, wharfage_shared::time::Boottime)>,
) {
    let key = &segment.key;
    if plan.fleet.meter().closed.contains(key) {
        return;
    }
    if let Some(known) = plan.fleet.meter().open.get(key) {
        let known = &known.segment;
        let same = known.held_for == segment.held_for
            && known.activity == segment.activity
            && known.replicas == segment.replicas
            && known.start == segment.start;
        if !same {
            let description = format!(
                "open since {} ({:?}), came again as since {} ({:?})",
                known.start.0, known.activity, segment.start.0, segment.activity
            );
            incident(plan, key.clone(), description);
        }
        return;
    }
    let first = wharfage_shared::segment::SegmentKey {
        node: key.node.clone(),
        boot: "".into(),
        log: "".into(),
        number: 0,
    };
    let older: Vec<Event> = plan
        .fleet
        .meter()
        .open
        .from(&first)
        .take_while(|(known, _)| known.node == key.node)
        .filter(|(_, fact)| fact.superseded.is_none())
        .map(|(known, fact)| {
            let told = proven.as_ref().filter(|(of, _)| of == known).map(|(_, at)| *at);
            let proven_until = told.unwrap_or(fact.segment.proven_until);
            Event::SegmentSuperseded { key: known.clone(), proven_until }
        })
        .collect();
    for event in older {
        plan.record(event);
    }
    let at = plan.now;
    plan.record(Event::SegmentOpened { segment: Box::new(segment.clone()), at });
}
