//! S7, S11 and one life per replica: what is settled stays as it was.

use super::{Findings, Step, name};
use crate::words::replica::Phase;

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let (before, after) = (step.before, step.after);
    for old in before.invoices() {
        if after.invoice(&old.id) != Some(old) {
            found.add("S11", format!("the invoice {} changed or is gone", old.id));
        }
    }
    for old in before.contracts() {
        let new = after.contract(&old.contract.id);
        if new.map(|row| (&row.contract, row.signed_at)) != Some((&old.contract, old.signed_at)) {
            found.add("S11", format!("the contract {} changed or is gone", old.contract.id));
        }
    }
    if !after.prices().starts_with(before.prices()) {
        found.add("S11", "a price that was set changed".to_owned());
    }
    lives(step, found);
}

/// A replica goes forward only, and keeps the seat that it was given.
fn lives(step: &Step<'_>, found: &mut Findings) {
    for old in step.before.replicas() {
        let who = name(step.before, old);
        let Some(new) = step.after.replica(old.id) else {
            let over = matches!(&old.phase, Phase::Stopped { seat, proven, .. }
                if *proven || seat.is_none());
            if !over {
                found.add("S12", format!("{who} is forgotten before its end is proven"));
            }
            continue;
        };
        if rank(&new.phase) < rank(&old.phase) {
            found.add("S9", format!("{who} went back from {:?} to {:?}", old.phase, new.phase));
        }
        let moved = rank(&old.phase) >= 2 && old.phase.seat() != new.phase.seat();
        if moved {
            found.add("S9", format!("{who} changed its seat: an id is for one placement only"));
        }
        let same = old.deployment == new.deployment && old.organization == new.organization;
        if !same || old.revision != new.revision || old.created_at != new.created_at {
            found.add("S9", format!("{who} became another replica"));
        }
    }
    for new in step.after.replicas() {
        let known = step.before.replica(new.id).is_some();
        if !known && new.id.0 <= step.before.last_replica {
            found.add("S9", format!("the number of {} is used a second time", new.id));
        }
    }
}

/// Pending and promised go to and fro; from the placement on there is one way.
fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Pending { .. } | Phase::Promised { .. } => 1,
        Phase::Placed { .. } => 2,
        Phase::Leaving { .. } => 3,
        Phase::Stopped { proven: false, .. } => 4,
        Phase::Stopped { proven: true, .. } => 5,
    }
}
