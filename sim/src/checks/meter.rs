//! Metering against the truth: what the log holds as evidence of a node's time is compared with when
//! engines really ran there, and what is billed with that evidence (S5).

use std::collections::BTreeMap;

use wharfage_scheduler_core::{Fleet, meter};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{BootId, OrganizationId};
use wharfage_shared::segment::{Activity, Segment};
use wharfage_shared::time::{Millis, Timestamp};

use crate::host::{Host, Power};
use crate::stage::Stage;

/// What evidence may be off by: an open segment is noted every 5 s, a look at slots takes up to 5 s.
const SLACK: Millis = Millis::from_seconds(12);

/// The evidence of time that has not reached the log yet: a heartbeat and a tick.
const TAIL: Millis = Millis::from_seconds(45);

/// A half-open stretch of virtual time.
type Span = (Millis, Millis);

/// S5: every account adds up, and no band is exceeded, for every organization from `zero` on.
pub(crate) fn bills_add_up(fleet: &Fleet, stage: &mut Stage, zero: Timestamp) {
    let now = stage.wall();
    for organization in fleet.organizations() {
        let draft = match meter::draft(fleet, &organization.id, zero, now) {
            Ok(draft) => draft,
            Err(error) => {
                stage.broken("S5", format!("no bill of {} can be made: {error}", organization.id));
                continue;
            }
        };
        for blocked in &draft.blocked {
            stage.broken("S5", format!("the bill of {}: {blocked}", organization.id));
        }
        let mut bands: BTreeMap<(&str, &Region, &Sku), u128> = BTreeMap::new();
        for drafted in &draft.lines {
            let line = &drafted.line;
            let kind = line.kind.as_str();
            *bands.entry((kind, &line.region, &line.sku)).or_default() += line.quantity.0;
        }
        for ((kind, region, sku), used) in bands {
            let band = band(fleet, &organization.id, (kind, region, sku), (zero, now));
            if band.is_some_and(|band| used > band) {
                let found = format!("{used} ms of {kind} in a band of {band:?} ms: {sku} {region}");
                stage.broken("S5", found);
            }
        }
    }
}

/// The instance-milliseconds that contracts of one kind hold within a period.
fn band(
    fleet: &Fleet,
    organization: &OrganizationId,
    (kind, region, sku): (&str, &Region, &Sku),
    (from, to): (Timestamp, Timestamp),
) -> Option<u128> {
    use wharfage_scheduler_core::words::contract::ContractTerms;
    let is_flex = match kind {
        "flex_usage" | "flex_holding" => true,
        "reserved" => false,
        _ => return None,
    };
    let rows = fleet.contracts().map(|row| &row.contract).filter(|contract| {
        contract.organization == *organization
            && contract.region == *region
            && contract.sku == *sku
            && matches!(contract.terms, ContractTerms::Flex { .. }) == is_flex
    });
    let held = rows.map(|contract| {
        let length = contract.end.min(to).since(contract.start.max(from));
        u128::from(length.0) * u128::from(contract.instances)
    });
    Some(held.sum())
}

/// Evidence never overlaps itself, never claims what was not, and leaves out nothing that it saw.
pub(crate) fn evidence_is_true(fleet: &Fleet, host: &Host, stage: &mut Stage) {
    let mut by_boot: BTreeMap<&BootId, Vec<&Segment>> = BTreeMap::new();
    for segment in fleet.meter().closed.values() {
        if segment.key.node == host.node {
            by_boot.entry(&segment.key.boot).or_default().push(segment);
        }
    }
    let mut claimed: Vec<Span> = Vec::new();
    let mut proven: Vec<Span> = Vec::new();
    for (boot, mut segments) in by_boot {
        segments.sort_by_key(|segment| (segment.start, segment.end));
        for pair in segments.windows(2) {
            if pair[1].start < pair[0].end {
                let found = format!(
                    "segments {} and {} of {boot} overlap",
                    pair[0].key.number, pair[1].key.number
                );
                stage.broken("S5", found);
            }
        }
        let Some(clock) = host.clocks.get(boot) else {
            stage.broken("S5", format!("{boot} was never a boot of {}", host.node));
            continue;
        };
        for segment in segments {
            let span = (clock.when(segment.start), clock.when(segment.end));
            proven.push(span);
            if matches!(segment.activity, Activity::Starting | Activity::Serving) {
                claimed.push(span);
            }
        }
    }
    nothing_invented(host, stage, &claimed);
    if host.life == 1 && host.power == Power::On {
        proven.extend(open_spans(fleet, host));
        nothing_forgotten(host, stage, &proven);
    }
}

fn open_spans(fleet: &Fleet, host: &Host) -> Vec<Span> {
    let Some(tick) = &fleet.meter().tick else { return Vec::new() };
    let behind = tick.behind.iter().find(|behind| behind.node == host.node);
    let until = behind.map_or(tick.proven_until, |behind| behind.proven_until);
    let until = Millis(u64::try_from(until.0 - crate::stage::BEGINNING.0).unwrap_or_default());
    let open = fleet.meter().open.values().filter(|open| open.segment.key.node == host.node);
    open.filter_map(|open| {
        let clock = host.clocks.get(&open.segment.key.boot)?;
        let end = open.superseded.map_or(until, |proven| clock.when(proven));
        Some((clock.when(open.segment.start), end))
    })
    .collect()
}

fn truth(spans: &[(Millis, Option<Millis>)], now: Millis) -> Vec<Span> {
    spans.iter().map(|(from, to)| (*from, to.unwrap_or(now))).collect()
}

/// Wider on both sides.
fn widened(spans: Vec<Span>, by: Millis) -> Vec<Span> {
    spans.into_iter().map(|(from, to)| (from - by, to + by)).collect()
}

fn nothing_invented(host: &Host, stage: &mut Stage, claimed: &[Span]) {
    let mut allowed = widened(truth(&host.engine_time, stage.now), SLACK);
    allowed.extend(widened(truth(&host.unwatched, stage.now), SLACK));
    for span in claimed {
        if let Some((from, to)) = first_gap(*span, &mut allowed.clone()) {
            let found = format!(
                "{} claims activity from {from} to {to}, when no engine ran there",
                host.node
            );
            return stage.broken("metering", found);
        }
    }
}

fn nothing_forgotten(host: &Host, stage: &mut Stage, proven: &[Span]) {
    let mut covered = proven.to_vec();
    covered.extend(widened(truth(&host.unwatched, stage.now), SLACK));
    covered.push((stage.now - TAIL, stage.now + TAIL));
    for (from, to) in truth(&host.engine_time, stage.now) {
        let span = (from + Millis(500), to);
        if span.0 >= span.1 {
            continue;
        }
        if let Some((from, to)) = first_gap(span, &mut covered.clone()) {
            let found =
                format!("{} has no evidence from {from} to {to}, when engines ran", host.node);
            return stage.broken("metering", found);
        }
    }
}

/// The first stretch of `span` that none of `cover` holds.
fn first_gap(span: Span, cover: &mut [Span]) -> Option<Span> {
    cover.sort_unstable();
    let (mut from, to) = span;
    for (start, end) in cover.iter() {
        if *start > from {
            break;
        }
        from = from.max(*end);
        if from >= to {
            return None;
        }
    }
    let next = cover.iter().map(|(start, _)| *start).find(|start| *start > from);
    (from < to).then(|| (from, next.unwrap_or(to).min(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_found_wherever_it_is() {
        let gap = |span: (u64, u64), cover: &[(u64, u64)]| {
            let mut cover: Vec<Span> =
                cover.iter().map(|(a, b)| (Millis(*a), Millis(*b))).collect();
            first_gap((Millis(span.0), Millis(span.1)), &mut cover).map(|(a, b)| (a.0, b.0))
        };
        assert_eq!(gap((5, 10), &[(0, 7), (7, 12)]), None);
        assert_eq!(gap((5, 10), &[(8, 12), (0, 7)]), Some((7, 8)));
        assert_eq!(gap((5, 10), &[]), Some((5, 10)));
        assert_eq!(gap((5, 10), &[(0, 9)]), Some((9, 10)));
    }
}
