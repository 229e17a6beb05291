//! S2: nothing is started beyond `max` plus a rollout's surge, and nothing beyond a node or a
//! quota. What leaves or moves, or stands on a node that is lost, noticed or being emptied, does
//! not count.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Step, held_on, name};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::node::{Intent, Reach};
use crate::words::replica::{Phase, Seat};
use wharfage_shared::health::Asked;
use wharfage_shared::ids::{DeploymentId, GpuUuid};

/// What the rows alone tell: of what stands on the settings of today there is no surplus, since it
/// leaves in the very step in which it is one. Older ones may come back with their nodes.
pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let mut counted: BTreeMap<&DeploymentId, u32> = BTreeMap::new();
    for row in fleet.replicas() {
        let Phase::Placed { seat, .. } = &row.phase else { continue };
        let Some(of) = fleet.deployment(&row.deployment) else { continue };
        let stays = stays(fleet, seat) && row.moving.is_none();
        if stays && row.revision == of.revision && !moved(fleet, of, seat) {
            *counted.entry(&row.deployment).or_default() += 1;
        }
    }
    for (id, counted) in counted {
        let Some(of) = fleet.deployment(id) else { continue };
        let (name, max) = (&of.spec.name, of.spec.scaling.bounds.max());
        if counted > max {
            let text = format!("{name} has {counted} replicas that count, {max} are allowed");
            found.add("S2", text);
        }
    }
}

/// Replicas beyond `max` while a rollout goes on; with neither surge nor gap it could never begin.
fn surge(of: &DeploymentRow) -> u32 {
    let rollout = of.spec.extension.rollout;
    rollout.max_surge.max(u32::from(rollout.max_unavailable == 0))
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let started: BTreeSet<_> = step.placed().map(|(row, _)| row.deployment.clone()).collect();
    for id in &started {
        match step.after.deployment(id) {
            None => found.add("S2", format!("a replica of the unknown deployment {id} started")),
            Some(row) => within_max(step.after, row, found),
        }
    }
    for (row, seat) in step.placed_on() {
        let Some(node) = step.after.node(&seat.node) else { continue };
        within_node(step.after, node, &name(step.after, row), found);
    }
}

fn within_max(fleet: &Fleet, deployment: &DeploymentRow, found: &mut Findings) {
    let (mut counted, mut older) = (0, false);
    for row in fleet.replicas().filter(|row| row.deployment == deployment.id) {
        let Phase::Placed { seat, .. } = &row.phase else { continue };
        if stays(fleet, seat) && row.moving.is_none() {
            counted += 1;
            older |= row.revision != deployment.revision || moved(fleet, deployment, seat);
        }
    }
    let spec = &deployment.spec;
    let surge = if older { surge(deployment) } else { 0 };
    let off = spec.disabled || deployment.deleting.is_some();
    let most = if off { 0 } else { spec.scaling.bounds.max() + surge };
    if counted > most {
        let name = &spec.name;
        found
            .add("S2", format!("{name} has started {counted} replicas that count, at most {most}"));
    }
}

/// A replica on ground that its deployment no longer allows is replaced like an older one.
fn moved(fleet: &Fleet, deployment: &DeploymentRow, seat: &Seat) -> bool {
    let others = seat.others.iter().map(|other| &other.node);
    let mut nodes = others.chain([&seat.node]).filter_map(|node| fleet.node(node));
    nodes.any(|node| !super::classes::allowed(deployment, node))
}

/// All of it stays, and with it the replica.
fn stays(fleet: &Fleet, seat: &Seat) -> bool {
    let mut size = seat.gpus.len();
    for other in &seat.others {
        size += other.gpus.len();
    }
    let others = seat.others.iter().map(|other| (&other.node, &other.gpus));
    others.chain([(&seat.node, &seat.gpus)]).all(|(node, gpus)| {
        fleet.node(node).is_some_and(|node| stays_on(fleet, node, gpus, size > 1))
    })
}

fn stays_on(fleet: &Fleet, node: &NodeRow, gpus: &[GpuUuid], several: bool) -> bool {
    let emptied = matches!(node.intent, Intent::Draining { .. } | Intent::Retired);
    let braked = fleet.brakes.values().any(|brake| brake.pulled.is_some());
    for fact in node.asks.iter().filter(|_| !braked) {
        let about = fact.ask.gpu.as_ref().is_none_or(|gpu| gpus.contains(gpu));
        if fact.ask.what == Asked::Drain && about && (several || !fact.ask.only_multi_gpu) {
            return false;
        }
    }
    let goes = emptied || node.doubts.early.is_some() || !node.notices.is_empty();
    node.reach != Reach::Lost && !goes && node.departed_at.is_none()
}

fn within_node(fleet: &Fleet, node: &NodeRow, who: &str, found: &mut Findings) {
    let parts = fleet.replicas().flat_map(held_on);
    let taken: usize = parts.filter(|(on, _)| **on == node.id).map(|(_, gpus)| gpus.len()).sum();
    let all = node.slots.len();
    if taken > all {
        found.add("S2", format!("{who}: {taken} of {all} GPUs of the node are taken"));
    }
}
