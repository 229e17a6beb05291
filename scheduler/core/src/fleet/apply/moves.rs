//! What the fleet keeps of replicas that move: at those that move, at whom they make room for, and
//! when each began, for the budget of an hour.

use std::sync::Arc;

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::words::replica::{Move, MovesFor, Moving, Phase};

/// For so long a move counts in the budget.
const COUNTS: Millis = Millis::from_seconds(3600);

/// They move from now on.
pub(super) fn begin(fleet: &mut Fleet, room_for: ReplicaId, moves: &[Move], at: Timestamp) {
    let of = fleet.replica(room_for).and_then(|row| fleet.deployment(&row.deployment));
    let name = of.map(|of| of.spec.name.clone()).unwrap_or_default();
    for Move { replica, successor, to, .. } in moves {
        let why = MovesFor::Room { room_for, name: name.clone() };
        set_out(fleet, *replica, Moving { successor: *successor, to: to.clone(), why }, at);
    }
}

/// It moves from now on, and counts in the budget.
pub(super) fn set_out(fleet: &mut Fleet, replica: ReplicaId, moving: Moving, at: Timestamp) {
    fleet.change_replica(replica, |row| row.moving = Some(Arc::new(moving)));
    fleet.moves.insert((at, replica), ());
    let over = at.minus(COUNTS);
    while let Some(key) = fleet.moves.first().map(|(key, ())| *key).filter(|key| key.0 <= over) {
        fleet.moves.remove(&key);
    }
}

/// Nobody waits for their room any more: those that have not left stay.
pub(super) fn end(fleet: &mut Fleet, room_for: ReplicaId) {
    let Some(moves) = fleet.replica(room_for).map(|row| &row.moves) else { return };
    if moves.is_empty() {
        return;
    }
    let moves = moves.clone();
    fleet.change_replica(room_for, |row| row.moves.clear());
    for Move { replica, .. } in moves {
        let stands = fleet.replica(replica).is_some_and(|row| match &row.phase {
            Phase::Placed { .. } => true,
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Leaving { .. }
            | Phase::Stopped { .. } => false,
        });
        if stands {
            fleet.change_replica(replica, |row| row.moving = None);
        }
    }
}

impl Fleet {
    /// Moves that began within the hour before.
    pub fn moves_within_an_hour(&self, now: Timestamp) -> u32 {
        let from = (Timestamp(now.minus(COUNTS).0 + 1), ReplicaId(0));
        u32::try_from(self.moves.from(&from).count()).unwrap_or(u32::MAX)
    }

    /// When so many more may begin, where `most` may within an hour; never where they are more.
    pub fn moves_allowed_at(&self, now: Timestamp, most: u32, more: usize) -> Option<Timestamp> {
        let (most, used) = (most as usize, self.moves_within_an_hour(now) as usize);
        let over = (used + more).saturating_sub(most);
        if more > most {
            return None;
        }
        if over == 0 {
            return Some(now);
        }
        let from = (Timestamp(now.minus(COUNTS).0 + 1), ReplicaId(0));
        let ((at, _), ()) = self.moves.from(&from).nth(over - 1)?;
        Some(*at + COUNTS)
    }
}
