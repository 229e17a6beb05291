//! Whose places a replica takes that its deployment's `min` needs: the cheapest set on one node
//! that makes enough room.
//!
//! Victims have a strictly lower priority and stand above their own `min`. What leaves anyway costs
//! nothing. Replicas are taken in the order of how dear they are, and the first node where that
//! makes enough room wins: of all sets that suffice, its dearest victim is the cheapest. What
//! would still not fit takes nobody's place.

mod gang;
mod room;

pub use self::room::is_vacant;

use std::collections::BTreeMap;

use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, ReplicaId};

use self::room::Room;
use crate::capacity::ask::Ask;
use crate::capacity::standing::{Standing, standing};
use crate::fleet::Fleet;
use crate::fleet::index::{Dearness, Spare};
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::policy::PriorityScope;
use crate::words::replica::{Phase, Seat};

/// A seat that is free once its holders are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where.
    pub seat: Seat,
    /// Who must leave for it, the dearest last; empty = who holds it leaves anyway.
    pub victims: Vec<ReplicaId>,
}

/// Whether the deployment's `min` needs one more replica than it holds or is promised.
pub fn is_needed(fleet: &Fleet, deployment: &DeploymentRow) -> bool {
    let held = fleet.replicas_of(&deployment.id).filter(|row| match &row.phase {
        Phase::Promised { .. } => true,
        Phase::Placed { .. } => counts(fleet, deployment, row),
        Phase::Pending { .. } | Phase::Leaving { .. } | Phase::Stopped { .. } => false,
    });
    (held.count() as u32) < deployment.spec.scaling.bounds.min()
}

fn counts(fleet: &Fleet, deployment: &DeploymentRow, row: &ReplicaRow) -> bool {
    match standing(fleet, deployment, row) {
        Standing::Wanted | Standing::Outdated => true,
        Standing::Evacuating | Standing::Lost | Standing::Failing | Standing::Over => false,
    }
}

/// Whose place the deployment's next replica takes, if there is a set of them that suffices.
pub fn decide(
    fleet: &Fleet,
    scope: PriorityScope,
    deployment: &DeploymentRow,
    ask: &Ask,
) -> Option<Decision> {
    if ask.is_gang() {
        return gang::decide(fleet, scope, deployment, ask);
    }
    let mut rooms: BTreeMap<&NodeId, Option<Room<'_>>> = BTreeMap::new();
    let mut margins = Margins { fleet, of: BTreeMap::new() };
    for spare in cheapest_first(fleet, scope, ask) {
        if !is_lower(spare, deployment) {
            return None;
        }
        let Some(row) = fleet.replica(spare.replica) else { continue };
        let margin = match spare.dearness {
            Dearness::Leaving => None,
            Dearness::Placed { .. } => match margins.of(row) {
                Some(margin) => Some(margin),
                None => continue,
            },
        };
        for node in row.nodes() {
            let open = || Room::open(fleet, scope, ask, node);
            let Some(room) = rooms.entry(node).or_insert_with(open) else { continue };
            if room.add(row, margin)
                && let Some(decision) = room.close(ask)
            {
                return Some(decision);
            }
        }
    }
    None
}

/// What leaves anyway, or would leave for a higher priority.
fn is_lower(spare: &Spare, deployment: &DeploymentRow) -> bool {
    match spare.dearness {
        Dearness::Leaving => true,
        Dearness::Placed { priority, .. } => priority < deployment.spec.priority,
    }
}

/// What could make room for the ask, the cheapest first.
fn cheapest_first<'a>(
    fleet: &'a Fleet,
    scope: PriorityScope,
    ask: &'a Ask,
) -> Box<dyn Iterator<Item = &'a Spare> + 'a> {
    let spares = &fleet.index.spares;
    if scope == PriorityScope::Organization {
        return Box::new(spares.of(&ask.sku, &ask.organization));
    }
    let mut each: Vec<_> =
        fleet.organizations().map(|row| spares.of(&ask.sku, &row.id).peekable()).collect();
    Box::new(std::iter::from_fn(move || {
        let heads = each.iter_mut().enumerate();
        let heads = heads.filter_map(|(at, queue)| {
            queue.peek().map(|spare| (spare.dearness, spare.replica, at))
        });
        let (_, _, at) = heads.min()?;
        each[at].next()
    }))
}

/// How many of a deployment's replicas may go, and how many of them may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Margin {
    all: u32,
    serving: u32,
}

/// What deployments hold above their `min`, each counted once.
struct Margins<'a> {
    fleet: &'a Fleet,
    of: BTreeMap<&'a DeploymentId, Margin>,
}

impl<'a> Margins<'a> {
    /// The margin of a replica's deployment; absent if the replica is not one of those that count.
    fn of(&mut self, row: &'a ReplicaRow) -> Option<Margin> {
        let fleet = self.fleet;
        let deployment = fleet.deployment(&row.deployment)?;
        if !counts(fleet, deployment, row) {
            return None;
        }
        let margin = self.of.entry(&row.deployment).or_insert_with(|| {
            let held = fleet.replicas_of(&deployment.id);
            let held = held.filter(|row| counts(fleet, deployment, row));
            let placed = held.filter(|row| matches!(row.phase, Phase::Placed { .. }));
            let (mut all, mut serving) = (0u32, 0u32);
            for row in placed {
                all += 1;
                serving += u32::from(row.phase.is_ready());
            }
            let min = deployment.spec.scaling.bounds.min();
            Margin { all: all.saturating_sub(min), serving: serving.saturating_sub(min) }
        });
        Some(*margin)
    }
}

/// Whether a replica of this organization may take another one's place.
fn may_take(scope: PriorityScope, mine: &OrganizationId, theirs: &OrganizationId) -> bool {
    match scope {
        PriorityScope::Organization => mine == theirs,
        PriorityScope::Fleet => true,
    }
}
