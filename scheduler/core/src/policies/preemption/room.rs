//! The room that one node would have, replica by replica that leaves.

use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, ReplicaId};

use super::{Decision, Margin, may_take};
use crate::capacity::ask::Ask;
use crate::capacity::fit;
use crate::fleet::Fleet;
use crate::fleet::rows::node::{NodeRow, Slot};
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::policy::PriorityScope;
use crate::words::replica::{Phase, Seat};

/// One replica whose GPUs would be free.
struct Part<'a> {
    replica: &'a ReplicaRow,
    is_victim: bool,
    gpus: u8,
}

/// A node's room.
pub(super) struct Room<'a> {
    node: &'a NodeRow,
    free: u8,
    /// The cheapest first.
    parts: Vec<Part<'a>>,
    /// It serves another organization: whoever holds anything there must leave, so many still.
    holders: Option<usize>,
}

impl<'a> Room<'a> {
    /// The node as it is, if the ask could stand there once there is room.
    pub(super) fn open(
        fleet: &'a Fleet,
        scope: PriorityScope,
        ask: &Ask,
        node: &NodeId,
    ) -> Option<Self> {
        let node = fleet.node(node)?;
        let serves = node.held_for.as_ref().map(|held| &held.organization);
        let of_another = serves.is_some_and(|serves| *serves != ask.organization);
        if !of_another {
            fit::admits(fleet, ask, node).ok()?;
            return Some(Self { node, free: node.free(), parts: Vec::new(), holders: None });
        }
        if !serves.is_some_and(|theirs| may_take(scope, &ask.organization, theirs)) {
            return None;
        }
        // What is lent is standard again once it is empty: it is called back, not taken.
        if node.is_lent() {
            return None;
        }
        fit::admits_once_empty(ask, node).ok()?;
        let is_standard = node.compute_class == ComputeClass::Standard;
        let kept = node.slots.iter().any(|slot| slot.promised.is_some());
        let admitted = fit::admitted_instead_of(fleet, &ask.organization, serves, node);
        if kept || (is_standard && admitted.is_err()) {
            return None;
        }
        let holders = Some(node.replicas.len());
        Some(Self { node, free: node.free(), parts: Vec::new(), holders })
    }

    /// Counts a replica in, if so many of its deployment may go; whether it makes room.
    pub(super) fn add(&mut self, row: &'a ReplicaRow, margin: Option<Margin>) -> bool {
        if let Some(margin) = margin {
            let (all, serving) = self.going(&row.deployment);
            let is_ready = row.phase.is_ready();
            if all >= margin.all || (is_ready && serving >= margin.serving) {
                return false;
            }
        }
        let gpus = self.node.slots.iter().filter(|slot| is_left_by(slot, row.id)).count();
        let gpus = u8::try_from(gpus).unwrap_or(u8::MAX);
        self.parts.push(Part { replica: row, is_victim: margin.is_some(), gpus });
        if let Some(holders) = &mut self.holders {
            *holders = holders.saturating_sub(1);
        }
        true
    }

    /// How many of a deployment go already, and how many of them serve.
    fn going(&self, of: &DeploymentId) -> (u32, u32) {
        let victims = self.parts.iter().filter(|part| part.is_victim);
        let victims = victims.filter(|part| part.replica.deployment == *of);
        victims.fold((0, 0), |(all, serving), part| {
            (all + 1, serving + u32::from(part.replica.phase.is_ready()))
        })
    }

    /// The seat, if there is enough room: without those that it does not need, the dearest first.
    pub(super) fn close(&mut self, ask: &Ask) -> Option<Decision> {
        let mut room = u32::from(self.free);
        room += self.parts.iter().map(|part| u32::from(part.gpus)).sum::<u32>();
        let needed = u32::from(ask.gpus);
        if room < needed || self.holders.is_some_and(|left| left > 0) {
            return None;
        }
        if self.holders.is_none() {
            for at in (0..self.parts.len()).rev() {
                let gpus = u32::from(self.parts[at].gpus);
                if self.parts[at].is_victim && room - gpus >= needed {
                    room -= gpus;
                    self.parts.remove(at);
                }
            }
        }
        let victims = self.parts.iter().filter(|part| part.is_victim);
        let victims: Vec<ReplicaId> = victims.map(|part| part.replica.id).collect();
        Some(Decision { seat: self.seat(usize::from(ask.gpus), &victims), victims })
    }

    /// What is free already, then what leaves anyway, then what the victims leave.
    fn seat(&self, needed: usize, victims: &[ReplicaId]) -> Seat {
        let going = |slot: &Slot, is_victim: bool| {
            self.parts
                .iter()
                .any(|part| is_left_by(slot, part.replica.id) && part.is_victim == is_victim)
        };
        let slots = || self.node.slots.iter().enumerate();
        let free = slots().filter(|(_, slot)| slot.is_usable());
        let leaving = slots().filter(|(_, slot)| going(slot, false));
        let taken = slots().filter(|(_, slot)| going(slot, true));
        let mut chosen: Vec<(usize, &GpuUuid)> = free
            .chain(leaving)
            .chain(taken)
            .take(needed)
            .map(|(at, slot)| (at, &slot.gpu))
            .collect();
        chosen.sort_unstable_by_key(|(at, _)| *at);
        debug_assert!(chosen.len() == needed, "{victims:?} make enough room");
        let gpus = chosen.into_iter().map(|(_, gpu)| gpu.clone()).collect();
        Seat::alone(self.node.id.clone(), gpus)
    }
}

/// Whether a slot is free for somebody new once the replica is gone.
pub(super) fn is_left_by(slot: &Slot, id: ReplicaId) -> bool {
    let is_free = slot.promised.is_none() && slot.orphan.is_none() && slot.unfit.is_none();
    slot.holder == Some(id) && is_free
}

/// Whether a promised seat can be taken: its slots are nobody's and fit, and what serves another
/// organization is empty.
pub fn is_vacant(fleet: &Fleet, row: &ReplicaRow) -> bool {
    let Phase::Promised { seat, .. } = &row.phase else { return false };
    let is_vacant = |(node, gpus): (&NodeId, &[GpuUuid])| {
        let Some(node) = fleet.node(node) else { return false };
        let mut slots = node.slots.iter().filter(|slot| gpus.contains(&slot.gpu));
        let vacant = slots.all(|slot| {
            let nobodys = slot.holder.is_none() && slot.orphan.is_none();
            nobodys && slot.unfit.is_none()
        });
        let mut others = fleet.replicas_on(&node.id);
        let alone = others.all(|other| other.organization == row.organization);
        vacant && alone && node.may_place().is_ok()
    };
    seat.members().all(is_vacant)
}
