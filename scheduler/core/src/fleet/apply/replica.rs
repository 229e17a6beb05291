//! What facts about replicas do to the fleet.

use std::sync::Arc;

use wharfage_shared::ids::{DeploymentId, EngineVersion, NodeId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::Timestamp;

use super::{moves, node::next};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::Slot;
use crate::fleet::rows::rarely::Rarely;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::because::placement::Blocked;
use crate::words::deployment::StartKey;
use crate::words::event::replica::Event;
use crate::words::replica::{
    Awaits, Leaving, MemberFact, MovesFor, Moving, Phase, Seat, Seen, Taker,
};

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Created { replica, deployment, revision, at } => {
            create(fleet, *replica, deployment, *revision, *at);
        }
        Event::Blocked { replica, because } => fleet.change_replica(*replica, |row| {
            row.phase = Phase::Pending { blocked: *because };
        }),
        Event::Awaits { replica, node, until } => fleet.change_replica(*replica, |row| {
            row.awaits = Some(Awaits { node: node.clone(), until: *until });
        }),
        Event::Promised { replica, seat, at, victims } => {
            fleet.change_replica(*replica, |row| {
                row.awaits = None;
                row.phase = Phase::Promised { seat: seat.clone(), since: *at };
                row.took_from.clone_from(victims);
            });
            take_places(fleet, *replica, victims);
            change_slots(fleet, seat, |slot| slot.promised = Some(*replica));
        }
        Event::RoomMade { replica, seat, moves, at } => {
            fleet.change_replica(*replica, |row| {
                row.phase = Phase::Promised { seat: seat.clone(), since: *at };
                row.took_from = moves.iter().map(|of| of.replica).collect();
                row.moves.clone_from(moves);
            });
            change_slots(fleet, seat, |slot| slot.promised = Some(*replica));
            moves::begin(fleet, *replica, moves, *at);
        }
        Event::GoesBack { replica, successor, to, class, at } => {
            let (successor, to, why) = (*successor, to.clone(), MovesFor::Ground { class: *class });
            moves::set_out(fleet, *replica, Moving { successor, to, why }, *at);
        }
        Event::Stays { replica, .. } => fleet.change_replica(*replica, |row| row.moving = None),
        Event::PromiseWithdrawn { replica, .. } => {
            moves::end(fleet, *replica);
            let seat = fleet.replica(*replica).and_then(|row| row.phase.seat().cloned());
            fleet.change_replica(*replica, |row| {
                row.phase = Phase::Pending { blocked: Blocked::NotTried };
            });
            if let Some(seat) = seat {
                change_slots(fleet, &seat, |slot| slot.promised = None);
            }
        }
        Event::Placed { replica, seat, engine_version, start_deadline, because, at } => {
            moves::end(fleet, *replica);
            let was_cached = is_cached(fleet, *replica, seat);
            fleet.change_replica(*replica, |row| {
                row.was_cached = was_cached;
                let (seat, since) = (seat.clone(), *at);
                await_nothing(row);
                row.phase = Phase::Placed { seat, since, seen: None, ready_since: None };
                row.placement = Some(Arc::clone(because));
                row.engine_version = engine_version.clone();
                row.start_deadline = *start_deadline;
            });
            place(fleet, *replica, seat);
        }
        Event::Seen { replica, seen } => see(fleet, *replica, seen),
        Event::MemberSeen { replica, node, phase } => fleet.change_replica(*replica, |row| {
            row.members.insert(node.clone(), MemberFact::Seen(*phase));
        }),
        Event::MemberGone { replica, node, ended, .. } => lose(fleet, *replica, node, ended),
        Event::Leaving { replica, because, deadline, routes, at } => {
            fleet.routes_number += 1;
            let (because, deadline, routes, since) = (*because, *deadline, *routes, *at);
            fleet.change_replica(*replica, |row| {
                let Phase::Placed { seat, seen, .. } = &row.phase else { return };
                let leaving = Leaving { because, since, deadline, quiet: false, routes }.into();
                row.phase = Phase::Leaving { seat: seat.clone(), seen: seen.clone(), leaving };
            });
            raise_generation(fleet, *replica);
        }
        Event::Hastened { replica, because, deadline } => {
            fleet.change_replica(*replica, |row| {
                if let Phase::Leaving { leaving, .. } = &mut row.phase {
                    leaving.deadline = *deadline;
                    leaving.because = *because;
                }
            });
            raise_generation(fleet, *replica);
        }
        Event::Quiet { replica, .. } => {
            fleet.change_replica(*replica, |row| {
                if let Phase::Leaving { leaving, .. } = &mut row.phase {
                    leaving.quiet = true;
                }
            });
            raise_generation(fleet, *replica);
        }
        Event::Gone { replica, because, ended, at } => {
            // Of a gang the first end is the one that tells why.
            fleet.change_replica(*replica, |row| {
                row.ended.get_or_insert_with(|| ended.clone());
            });
            end(fleet, *replica, *because, *at, true);
        }
        Event::Closed { replica, because, at } => end(fleet, *replica, *because, *at, false),
        Event::Dropped { replica, because, at } => end(fleet, *replica, *because, *at, true),
    }
}

fn create(fleet: &mut Fleet, id: ReplicaId, of: &DeploymentId, revision: u32, at: Timestamp) {
    let Some(deployment) = fleet.deployment(of) else { return };
    let row = ReplicaRow {
        id,
        deployment: of.clone(),
        organization: deployment.organization.clone(),
        revision,
        created_at: at,
        phase: Phase::Pending { blocked: Blocked::NotTried },
        placement: None,
        engine_version: EngineVersion::from(""),
        start_deadline: wharfage_shared::time::Millis::default(),
        was_ready: false,
        rare: Rarely::default(),
        was_cached: false,
    };
    fleet.last_replica = fleet.last_replica.max(id.0);
    fleet.change_deployment(of, |deployment| {
        deployment.replicas.insert(id, ());
    });
    fleet.put_replica(id, Some(row));
}

/// Who goes for whom is kept with those who go.
fn take_places(fleet: &mut Fleet, id: ReplicaId, victims: &[ReplicaId]) {
    let Some(row) = fleet.replica(id) else { return };
    let Some(deployment) = fleet.deployment(&row.deployment) else { return };
    let taker = Arc::new(Taker {
        replica: id,
        deployment: row.deployment.clone(),
        name: deployment.spec.name.clone(),
        priority: deployment.spec.priority,
    });
    for victim in victims {
        fleet.change_replica(*victim, |row| row.taken_by = Some(Arc::clone(&taker)));
    }
}

/// Most await nothing, and nothing is kept of that.
fn await_nothing(row: &mut ReplicaRow) {
    if row.awaits.is_some() {
        row.awaits = None;
    }
}

/// Its slots are its own from now on.
fn place(fleet: &mut Fleet, id: ReplicaId, seat: &Seat) {
    for (node, gpus) in seat.members() {
        fleet.change_node(node, |row| {
            row.slots.change(|slot| {
                if !gpus.contains(&slot.gpu) {
                    return;
                }
                slot.holder = Some(id);
                if slot.promised.is_some() {
                    slot.promised = None;
                }
            });
            if let Err(at) = row.replicas.binary_search(&id) {
                row.replicas.insert(at, id);
            }
            row.generation = next(row.generation);
        });
    }
}

/// Whether the model lies in the caches of all its nodes.
fn is_cached(fleet: &Fleet, id: ReplicaId, seat: &Seat) -> bool {
    let cached = |node| fleet.node(node).map_or(&[][..], |node| node.inventory.models.as_slice());
    if seat.nodes().any(|node| cached(node).is_empty()) {
        return false;
    }
    let spec = fleet.replica(id).and_then(|row| fleet.spec_of(row));
    let Some(spec) = spec else { return false };
    seat.nodes().all(|node| cached(node).iter().any(|known| spec.model.is(known)))
}

fn change_slots(fleet: &mut Fleet, seat: &Seat, change: impl Fn(&mut Slot)) {
    for (node, gpus) in seat.members() {
        fleet.change_node(node, |row| {
            row.slots.change(|slot| {
                if gpus.contains(&slot.gpu) {
                    change(slot);
                }
            });
        });
    }
}

/// A gang's member is gone: its order disappears. What it held is free with the others, or at once
/// where the replica was closed because a node of it is gone for good.
fn lose(fleet: &mut Fleet, id: ReplicaId, node: &NodeId, ended: &Ended) {
    let Some(row) = fleet.replica(id) else { return };
    let frees = matches!(row.phase, Phase::Stopped { .. });
    fleet.change_replica(id, |row| {
        row.members.insert(node.clone(), MemberFact::Gone);
        row.ended.get_or_insert_with(|| ended.clone());
    });
    leave_node(fleet, id, node, frees);
}

fn see(fleet: &mut Fleet, id: ReplicaId, seen: &Seen) {
    let Some(before) = fleet.replica(id).map(|row| (row.phase.clone(), row.was_ready)) else {
        return;
    };
    let is_ready = seen.phase == ReportedPhase::Ready;
    // A host that was not heard while it became ready may be heard only when it has degraded.
    let was_ready = is_ready || seen.phase == ReportedPhase::Degraded;
    fleet.change_replica(id, |row| {
        row.was_ready |= was_ready;
        match &mut row.phase {
            Phase::Placed { seen: known, ready_since, .. } => {
                *ready_since = is_ready.then(|| ready_since.unwrap_or(seen.since));
                *known = Some(seen.clone());
            }
            Phase::Leaving { seen: known, .. } => *known = Some(seen.clone()),
            Phase::Pending { .. } | Phase::Promised { .. } | Phase::Stopped { .. } => {}
        }
    });
    let Some(row) = fleet.replica(id) else { return };
    let address = |phase: &Phase| phase.seen().and_then(|seen| seen.address.clone());
    let routed = |phase: &Phase| phase.is_ready().then(|| address(phase));
    let routes_change = routed(&before.0) != routed(&row.phase);
    let took = match &row.phase {
        Phase::Placed { since, .. } if is_ready && !before.1 => Some(seen.since.since(*since)),
        Phase::Placed { .. }
        | Phase::Leaving { .. }
        | Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Stopped { .. } => None,
    };
    let deployment = row.deployment.clone();
    let kind = fleet.spec_of(row).map(|spec| StartKey {
        model: spec.model.key(),
        sku: spec.sku.clone(),
        cached: row.was_cached,
    });
    if let Some((kind, took)) = kind.zip(took) {
        fleet.starts.insert(kind, took);
    }
    if routes_change {
        fleet.routes_number += 1;
    }
    if took.is_some() {
        fleet.change_deployment(&deployment, |row| row.last_start = took);
    }
}

fn raise_generation(fleet: &mut Fleet, id: ReplicaId) {
    let nodes: Vec<NodeId> =
        fleet.replica(id).into_iter().flat_map(|row| row.nodes().cloned()).collect();
    for node in nodes {
        fleet.change_node(&node, |row| row.generation = next(row.generation));
    }
}

/// It has ended. With proof its slots are free and nobody lists it any more.
fn end(fleet: &mut Fleet, id: ReplicaId, because: StopCause, at: Timestamp, proven: bool) {
    let Some(row) = fleet.replica(id) else { return };
    let (seat, deployment) = (row.phase.seat().cloned(), row.deployment.clone());
    let was_promised = matches!(row.phase, Phase::Promised { .. });
    moves::end(fleet, id);
    let Some(row) = fleet.replica(id) else { return };
    if row.phase.is_ready() {
        fleet.routes_number += 1;
    }
    fleet.change_replica(id, |row| {
        // What was closed without proof keeps its own end.
        let (because, at) = match &row.phase {
            Phase::Stopped { because, at, .. } => (*because, *at),
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. }
            | Phase::Leaving { .. } => (because, at),
        };
        let seat = row.phase.seat().filter(|_| !was_promised).cloned();
        row.phase = Phase::Stopped { because, at, seat, proven };
        await_nothing(row);
    });
    if proven {
        fleet.change_deployment(&deployment, |row| {
            row.replicas.remove(&id);
        });
    }
    let Some(seat) = seat else { return };
    for node in seat.nodes() {
        let frees = proven || fleet.replica(id).is_some_and(|row| row.is_gone_from(node));
        leave_node(fleet, id, node, frees);
    }
}

/// What a replica has to do with a node ends, or what was kept for it there.
fn leave_node(fleet: &mut Fleet, id: ReplicaId, node: &NodeId, frees: bool) {
    fleet.change_node(node, |row| {
        row.slots.change(|slot| {
            if frees && slot.holder == Some(id) {
                slot.holder = None;
            }
            if slot.promised == Some(id) {
                slot.promised = None;
            }
        });
        if frees {
            row.replicas.retain(|listed| *listed != id);
        }
        row.generation = next(row.generation);
    });
}

impl Fleet {
    /// The only way to change a deployment's row.
    pub(in crate::fleet) fn change_deployment(
        &mut self,
        id: &DeploymentId,
        change: impl FnOnce(&mut DeploymentRow),
    ) {
        if let Some(row) = self.deployments.get_mut(id) {
            change(Arc::make_mut(row));
        }
    }

    /// Changes a deployment's spec: its replicas' places in the order of preemptions follow.
    pub(in crate::fleet) fn change_spec(
        &mut self,
        id: &DeploymentId,
        change: impl FnOnce(&mut DeploymentRow),
    ) {
        self.put_spares(id, false, |_| true);
        if let Some(row) = self.deployments.get(id) {
            self.index.deployment_changed(row, false);
        }
        self.change_deployment(id, change);
        if let Some(row) = self.deployments.get(id) {
            self.index.deployment_changed(row, true);
        }
        self.put_spares(id, true, |_| true);
    }
}
