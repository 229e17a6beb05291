//! S9: counters never fall, and what a node is told changes only together with its generation.

use super::{Findings, Step};
use crate::fleet::Fleet;
use wharfage_shared::ids::NodeId;
use wharfage_shared::order::Desired;
use wharfage_shared::version::DesiredVersion;

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let (before, after) = (step.before, step.after);
    falls("the term", before.term.0, after.term.0, found);
    falls("the number of the routes", before.routes_number, after.routes_number, found);
    let ids = (u64::from(before.last_replica), u64::from(after.last_replica));
    falls("the last replica's number", ids.0, ids.1, found);
    for old in before.nodes() {
        let Some(new) = after.node(&old.id) else {
            found.add("S9", format!("{} was enrolled and is not known any more", old.id));
            continue;
        };
        let id = &old.id;
        falls(&format!("the epoch of {id}"), old.epoch.0, new.epoch.0, found);
        falls(&format!("the generation of {id}"), old.generation.0, new.generation.0, found);
        let same_start = old.epoch == new.epoch && old.start.is_some() && new.start.is_some();
        if same_start && old.start != new.start {
            found.add("S9", format!("two starts of {id} have the epoch {}", new.epoch.0));
        }
        if old.generation == new.generation && told(before, id) != told(after, id) {
            let generation = new.generation.0;
            found.add("S9", format!("{id} is told something else under generation {generation}"));
        }
    }
    if before.routes_number == after.routes_number && routed(before) != routed(after) {
        let number = after.routes_number;
        found.add("S9", format!("the routes changed under number {number}"));
    }
}

fn falls(what: &str, before: u64, after: u64, found: &mut Findings) {
    if after < before {
        found.add("S9", format!("{what} fell from {before} to {after}"));
    }
}

/// What a node is told, without the number that orders it.
fn told(fleet: &Fleet, node: &NodeId) -> Option<Desired> {
    let desired = fleet.desired(fleet.term, node)?;
    Some(Desired { version: DesiredVersion::default(), ..desired })
}

/// What gateways are told, without the number that orders it.
fn routed(fleet: &Fleet) -> wharfage_shared::gateway::Routes {
    let mut table = crate::fleet::routes::table(fleet, fleet.term);
    table.version = wharfage_shared::gateway::RoutesVersion::default();
    table
}
