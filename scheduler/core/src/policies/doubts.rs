//! The scheduler's own doubts about a node: a wall clock that is off, hardware that fails again and
//! again. They close a node for what is new and end nothing.

use wharfage_shared::health::{Action, Health as Report, Incident};
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::rows::node::NodeRow;
use crate::words::node::{Doubt, IncidentName};
use crate::words::policy::Policy;

/// So many late samples in a row are a clock that is behind; fewer are delay.
const LATE_SAMPLES: u32 = 3;

/// A clock that was off is right again after so many samples.
const RIGHT_SAMPLES: u32 = 3;

/// Over at least this long, as every gate.
const TIME_TO_RETURN: Millis = Millis::from_seconds(60);

/// What the last samples of a node's wall clock showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Samples in a row that look behind.
    late: u32,
    /// Samples in a row that were right, and the first of them.
    right: Option<(u32, Timestamp)>,
}

/// Takes a sample of the node's wall clock in; what is new about it, and what is known by then.
///
/// A report is never early: a clock that is ahead is off at once. One that looks behind may be a
/// report that was long on its way.
pub fn of_clock(
    node: &NodeRow,
    policy: &Policy,
    known: Clock,
    wall: Timestamp,
    now: Timestamp,
) -> (Option<Doubt>, Clock) {
    let most = i64::from(policy.clock_off_seconds) * 1000;
    let ahead_ms = wall.0.saturating_sub(now.0);
    let late = if ahead_ms <= -most { known.late + 1 } else { 0 };
    if ahead_ms >= most || late >= LATE_SAMPLES {
        let was_off = node.doubts.clock.is_some();
        let doubt = (!was_off).then_some(Doubt::ClockOff { ahead_ms });
        return (doubt, Clock { late, right: None });
    }
    if late > 0 || node.doubts.clock.is_none() {
        return (None, Clock { late, right: None });
    }
    let (samples, first) = known.right.map_or((1, now), |(samples, first)| (samples + 1, first));
    if samples >= RIGHT_SAMPLES && now.since(first) >= TIME_TO_RETURN {
        return (Some(Doubt::ClockRight), Clock::default());
    }
    (None, Clock { late, right: Some((samples, first)) })
}

/// Incidents of a report that are not counted yet, and whether that is once too often. Drills and
/// faults of programs say nothing about hardware.
pub fn of_incidents(
    node: &NodeRow,
    policy: &Policy,
    report: &Report,
    now: Timestamp,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for incident in &report.incidents {
        let Some(name) = name_of(incident) else { continue };
        let is_known = node.doubts.incidents.iter().any(|known| known.name == name);
        if is_hardware(incident) && !is_known {
            doubts.push(Doubt::Incident { name });
        }
    }
    let days = policy.repeated_incident_days;
    let known = node.doubts.lately(days, now);
    let incidents = known.saturating_add(u32::try_from(doubts.len()).unwrap_or(u32::MAX));
    let too_often = incidents >= policy.repeated_incidents && !doubts.is_empty();
    if too_often && node.doubts.repeated.is_none() {
        doubts.push(Doubt::Repeated { incidents, days });
    }
    doubts
}

fn name_of(incident: &Incident) -> Option<IncidentName> {
    let xid = *incident.xids.first()?;
    Some(IncidentName { number: incident.number, gpu: incident.gpu.clone(), xid })
}

fn is_hardware(incident: &Incident) -> bool {
    !incident.injected && incident.action >= Action::CordonGpu
}
