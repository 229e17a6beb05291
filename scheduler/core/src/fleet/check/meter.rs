//! Time is counted once: segments of one log never overlap, their numbers are dense as far as is
//! said, and ticks go forward.

use std::collections::BTreeMap;

use wharfage_shared::ids::{BootId, NodeId, SegmentLogId};
use wharfage_shared::segment::Segment;

use super::{Findings, Step};
use crate::fleet::Fleet;

const RULE: &str = "meter";

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let meter = fleet.meter();
    let mut last: BTreeMap<(&NodeId, &BootId, &SegmentLogId), &Segment> = BTreeMap::new();
    let mut numbers: BTreeMap<(&NodeId, &SegmentLogId), Vec<u64>> = BTreeMap::new();
    for (key, segment) in meter.closed.iter() {
        let id = format!("segment {} of {}", key.number, key.node);
        if *key != segment.key || key.number == 0 {
            found.add(RULE, format!("{id} is kept under another key"));
        }
        if segment.end < segment.start {
            found.add(RULE, format!("{id} ends before it starts"));
        }
        // Keys come in the order of (node, boot, log, number).
        let before = last.insert((&key.node, &key.boot, &key.log), segment);
        if before.is_some_and(|before| before.end > segment.start) {
            found.add(RULE, format!("{id} overlaps the one before it: time is counted twice"));
        }
        numbers.entry((&key.node, &key.log)).or_default().push(key.number);
        if meter.open.contains(key) {
            found.add(RULE, format!("{id} is closed and still open"));
        }
    }
    for ((node, log), mut numbers) in numbers {
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            found.add(RULE, format!("{node} used a segment's number in two boots of one log"));
        }
        numbers.dedup();
        let dense = (1u64..).zip(&numbers).take_while(|(at, number)| at == *number).count() as u64;
        let said = meter.dense.get(&(node.clone(), log.clone())).copied().unwrap_or(0);
        if said != dense {
            found.add(RULE, format!("{node} is told that {said} segments arrived, {dense} did"));
        }
    }
    for (key, said) in meter.dense.iter().filter(|(_, said)| **said > 0) {
        let (node, log) = key;
        let any = meter.closed.keys().any(|key| key.node == *node && key.log == *log);
        if !any {
            found.add(RULE, format!("{node} is told that {said} segments arrived, none did"));
        }
    }
    if let Some(tick) = meter.tick.as_ref().filter(|tick| tick.proven_until > tick.at) {
        let ahead = tick.proven_until.since(tick.at);
        found.add(RULE, format!("the tick says that {ahead} of the future are proven"));
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let (before, after) = (step.before.meter(), step.after.meter());
    for (key, segment) in before.closed.iter() {
        if after.closed.get(key) != Some(segment) {
            let id = format!("segment {} of {}", key.number, key.node);
            found.add("S11", format!("{id} was counted and changed or is gone"));
        }
    }
    for (key, said) in before.dense.iter() {
        if after.dense.get(key).is_none_or(|now| now < said) {
            found.add(RULE, format!("the acknowledged segments of {} became fewer", key.0));
        }
    }
    for (key, old) in before.offsets.iter() {
        if !after.offsets.get(key).is_some_and(|new| new.starts_with(old)) {
            found.add(RULE, format!("a clock of {} changed for time that is over", key.0));
        }
    }
    if let (Some(old), Some(new)) = (&before.tick, &after.tick)
        && (new.at < old.at || new.proven_until < old.proven_until)
    {
        found.add(RULE, "a tick went back".to_owned());
    }
}
