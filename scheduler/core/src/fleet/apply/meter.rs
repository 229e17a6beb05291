//! What facts about proven time do to the fleet.

use std::sync::Arc;

use wharfage_shared::segment::{Segment, SegmentKey};
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::rows::meter::{Incident, Meter, OffsetFact, OpenFact, TickFact};
use crate::words::event::meter::Event;

/// How long an ended replica stays readable.
const KEEP_STOPPED: Millis = Millis::from_seconds(3600);
/// How long an idempotency key's answer is kept.
const KEEP_REQUESTS: Millis = Millis::from_seconds(24 * 3600);
/// Incidents that are kept for people; older ones are in the log.
const KEEP_INCIDENTS: usize = 1000;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    let meter = &mut fleet.meter;
    match event {
        Event::SegmentOpened { segment, at: _ } => {
            if !meter.closed.contains(&segment.key) {
                let fact = OpenFact { segment: (**segment).clone(), superseded: None };
                meter.open.insert(segment.key.clone(), Arc::new(fact));
            }
        }
        Event::SegmentSuperseded { key, proven_until } => {
            if let Some(fact) = meter.open.get_mut(key) {
                Arc::make_mut(fact).superseded = Some(*proven_until);
            }
        }
        Event::SegmentClosed { segment, at: _ } => close(meter, segment),
        Event::Incident { key, description, at } => {
            let (key, description) = (key.clone(), description.clone());
            meter.incidents.push(Incident { key, description, at: *at });
            let surplus = meter.incidents.len().saturating_sub(KEEP_INCIDENTS);
            meter.incidents.drain(..surplus);
        }
        Event::Offset { node, boot, from, offset } => {
            let key = (node.clone(), boot.clone());
            let mut offsets = meter.offsets.get(&key).cloned().unwrap_or_default();
            // Few clocks step: most hosts have one.
            offsets.reserve_exact(1);
            offsets.push(OffsetFact { from: *from, offset: *offset });
            meter.offsets.insert(key, offsets);
        }
        Event::Tick { at, proven_until, behind } => {
            let (at, proven_until, behind) = (*at, *proven_until, behind.clone());
            meter.tick = Some(TickFact { at, proven_until, behind });
            forget(fleet, at);
        }
    }
}

fn close(meter: &mut Meter, segment: &Segment) {
    let key = &segment.key;
    meter.open.remove(key);
    meter.closed.insert(key.clone(), Arc::new(segment.clone()));
    let log = (key.node.clone(), key.log.clone());
    let mut dense = meter.dense.get(&log).copied().unwrap_or(0);
    loop {
        let next = SegmentKey { number: dense + 1, ..key.clone() };
        // A log may span boots: the number alone continues it.
        if !meter.closed.contains(&next) && !closed_in_another_boot(meter, &next) {
            break;
        }
        dense += 1;
    }
    if dense > 0 {
        meter.dense.insert(log, dense);
    }
}

fn closed_in_another_boot(meter: &Meter, key: &SegmentKey) -> bool {
    let boots = meter.offsets.from(&(key.node.clone(), "".into()));
    boots.take_while(|((node, _), _)| *node == key.node).any(|((_, boot), _)| {
        meter.closed.contains(&SegmentKey { boot: boot.clone(), ..key.clone() })
    })
}

/// What nobody asks for any more.
fn forget(fleet: &mut Fleet, now: Timestamp) {
    let until = now.minus(KEEP_STOPPED);
    let ended: Vec<_> =
        fleet.index.stopped.keys().take_while(|(at, _)| *at < until).map(|(_, id)| *id).collect();
    for id in ended {
        fleet.put_replica(id, None);
    }
    let until = now.minus(KEEP_REQUESTS);
    let old: Vec<_> = fleet
        .requests
        .iter()
        .filter(|(_, request)| request.at < until)
        .map(|(key, _)| key.clone())
        .collect();
    for key in old {
        fleet.requests.remove(&key);
    }
}
