//! S1: a slot has at most one holder, and what the rows say of free slots is what is free.

use std::collections::BTreeMap;

use wharfage_shared::ids::{GpuUuid, NodeId, ReplicaId};

use super::{Findings, held_on, name};
use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let mut holders: BTreeMap<(&NodeId, &GpuUuid), ReplicaId> = BTreeMap::new();
    let mut promises: BTreeMap<(&NodeId, &GpuUuid), ReplicaId> = BTreeMap::new();
    for row in fleet.replicas() {
        let (parts, table, word) = match &row.phase {
            Phase::Promised { seat, .. } => {
                (seat.members().collect(), &mut promises, "promised to")
            }
            _other => (held_on(row), &mut holders, "held by"),
        };
        let mut size = 0;
        for (node, gpus) in parts {
            size += gpus.len();
            for gpu in gpus {
                if let Some(other) = table.insert((node, gpu), row.id) {
                    let who = name(fleet, row);
                    found.add("S1", format!("{gpu} of {node} is {word} {other} and {who}"));
                }
            }
            for at in 1..gpus.len() {
                if gpus[..at].contains(&gpus[at]) {
                    found.add("S1", format!("{} holds {} twice", name(fleet, row), gpus[at]));
                }
            }
        }
        // What has ended may outlive its deployment, whose id may be given anew.
        if size > 0 && !matches!(row.phase, Phase::Stopped { .. }) {
            wanted_size(fleet, row.id, size, found);
        }
        apart(fleet, row, found);
    }
    rows_agree(fleet, &holders, &promises, found);
    index_agrees(fleet, &holders, &promises, found);
}

/// The members of a gang stand on nodes of their own.
fn apart(fleet: &Fleet, row: &ReplicaRow, found: &mut Findings) {
    let Some(seat) = row.phase.seat() else { return };
    for (at, member) in seat.others.iter().enumerate() {
        let before = seat.others[..at].iter().map(|other| &other.node);
        if before.chain([&seat.node]).any(|other| *other == member.node) {
            let who = name(fleet, row);
            found.add("S1", format!("{who} stands on {} as two members", member.node));
        }
    }
}

/// A seat is as large as the spec that the replica runs asks for.
fn wanted_size(fleet: &Fleet, id: ReplicaId, gpus: usize, found: &mut Findings) {
    let Some(row) = fleet.replica(id) else { return };
    let spec = fleet.deployment(&row.deployment).and_then(|of| of.revisions.get(&row.revision));
    let Some(spec) = spec else { return };
    let wanted = usize::from(spec.gpus.get());
    if gpus != wanted {
        let who = name(fleet, row);
        found.add("S1", format!("{who} has {gpus} GPUs, its spec asks for {wanted}"));
    }
}

/// Each slot of a node names exactly the replica whose seat it is part of.
fn rows_agree(
    fleet: &Fleet,
    holders: &BTreeMap<(&NodeId, &GpuUuid), ReplicaId>,
    promises: &BTreeMap<(&NodeId, &GpuUuid), ReplicaId>,
    found: &mut Findings,
) {
    let mut seen = 0;
    let mut seen_promises = 0;
    for node in fleet.nodes() {
        for slot in &node.slots {
            let key = (&node.id, &slot.gpu);
            let (holder, promised) = (holders.get(&key).copied(), promises.get(&key).copied());
            seen += usize::from(holder.is_some());
            seen_promises += usize::from(promised.is_some());
            let shown = |id: Option<ReplicaId>| id.map_or("nobody".to_owned(), |id| id.to_string());
            if slot.holder != holder {
                let (says, is) = (shown(slot.holder), shown(holder));
                let (gpu, id) = (&slot.gpu, &node.id);
                found.add("S1", format!("{gpu} of {id} names {says} as its holder, it is {is}"));
            }
            if slot.promised != promised {
                let (says, is) = (shown(slot.promised), shown(promised));
                let (gpu, id) = (&slot.gpu, &node.id);
                found.add("S1", format!("{gpu} of {id} is kept for {says}, it is {is}"));
            }
        }
        for at in 1..node.slots.len() {
            let gpu = &node.slots[at].gpu;
            if node.slots[..at].iter().any(|slot| slot.gpu == *gpu) {
                found.add("S1", format!("{} lists {gpu} twice", node.id));
            }
        }
    }
    if seen != holders.len() || seen_promises != promises.len() {
        let missing = holders.len() + promises.len() - seen - seen_promises;
        found.add("S1", format!("{missing} GPUs of seats are no slots of their nodes"));
    }
}

/// The free counts that placement looks at equal a plain recount, orphans included.
fn index_agrees(
    fleet: &Fleet,
    holders: &BTreeMap<(&NodeId, &GpuUuid), ReplicaId>,
    promises: &BTreeMap<(&NodeId, &GpuUuid), ReplicaId>,
    found: &mut Findings,
) {
    let mut listed: BTreeMap<&NodeId, Vec<u8>> = BTreeMap::new();
    for (_, free, node) in fleet.index.seated() {
        listed.entry(node).or_default().push(free);
    }
    for node in fleet.nodes() {
        let orphaned = |gpu| node.orphans.values().any(|gpus| gpus.contains(gpu));
        let free = node
            .slots
            .iter()
            .filter(|slot| {
                let key = (&node.id, &slot.gpu);
                let taken = holders.contains_key(&key) || promises.contains_key(&key);
                !taken && !orphaned(&slot.gpu) && slot.unfit.is_none()
            })
            .count();
        for offered in listed.get(&node.id).into_iter().flatten() {
            if usize::from(*offered) != free {
                let id = &node.id;
                let text = format!("{id} is offered with {offered} free GPUs, {free} are free");
                found.add("S1", text);
            }
        }
    }
}
