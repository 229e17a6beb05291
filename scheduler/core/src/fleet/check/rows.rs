//! S1: a slot has at most one holder; and rows that speak of each other agree.

use std::collections::BTreeMap;

use wharfage_shared::ids::{GpuUuid, NodeId, ReplicaId};

use super::Violation;
use crate::fleet::Fleet;
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Vec<Violation>) {
    let mut holders: BTreeMap<(NodeId, GpuUuid), ReplicaId> = BTreeMap::new();
    for replica in fleet.replicas() {
        let held = match &replica.phase {
            Phase::Pending { .. } | Phase::Promised { .. } => continue,
            Phase::Placed { seat, .. } | Phase::Leaving { seat, .. } => seat,
            Phase::Stopped { seat: Some(seat), proven: false, .. } => seat,
            Phase::Stopped { .. } => continue,
        };
        for gpu in &held.gpus {
            let key = (held.node.clone(), gpu.clone());
            if let Some(other) = holders.insert(key, replica.id) {
                let text = format!("{gpu} on {} is held by {other} and {}", held.node, replica.id);
                found.push(Violation::new("S1", text));
            }
        }
        let listed = fleet.node(&held.node).is_some_and(|node| node.replicas.contains(&replica.id));
        if !listed {
            let text = format!("{} stands on {}, which does not list it", replica.id, held.node);
            found.push(Violation::new("rows", text));
        }
    }
    for node in fleet.nodes() {
        for slot in &node.slots {
            let by_replica = holders.get(&(node.id.clone(), slot.gpu.clone())).copied();
            if slot.holder != by_replica {
                let text = format!(
                    "{} on {} names the holder {:?}, the replicas say {by_replica:?}",
                    slot.gpu, node.id, slot.holder
                );
                found.push(Violation::new("rows", text));
            }
        }
        for replica in &node.replicas {
            let stands = fleet.replica(*replica).and_then(|row| row.phase.seat());
            if stands.is_none_or(|seat| seat.node != node.id) {
                let text = format!("{} lists {replica}, which stands elsewhere", node.id);
                found.push(Violation::new("rows", text));
            }
        }
    }
}
