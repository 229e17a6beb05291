//! The step that makes room by moving: what waits gets a seat where others go on elsewhere.
//!
//! A successor serves before the one that moves drains. A move whose successor will not serve is
//! given up, and everybody stays where they are.

use std::collections::BTreeMap;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::order::StopCause;

use super::leaving::leave;
use super::place::seat;
use super::plan::Plan;
use super::promise::withdraw;
use crate::capacity::ask::Ask;
use crate::capacity::standing::{Standing, grace, standing};
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::consolidation::{self, Full, MOST_MOVES, Within};
use crate::policies::{placement, queue};
use crate::words::because::placement::Blocked;
use crate::words::deployment::Priority;
use crate::words::event::replica::Event;
use crate::words::replica::{Move, Moving, Phase};

/// Asks that are searched for at one time: a search is dear, and the next time is near.
const MOST_SEARCHES: usize = 16;

/// Who waits for room, by organization in the order of its queue.
type Queues = BTreeMap<OrganizationId, BTreeMap<queue::Place, (ReplicaId, Sku)>>;

/// Looks once over what has waited for a while, in the order of the queues and their turns.
pub(super) fn look(plan: &mut Plan<'_>) {
    if !plan.policy.consolidation {
        return;
    }
    let mut queues = waiting(plan);
    if queues.is_empty() {
        return;
    }
    let full = Full::of(plan.fleet);
    let mut searches = 0;
    let mut hopeless: BTreeMap<Ask, Priority> = BTreeMap::new();
    while let Some(replica) = next(plan, &mut queues) {
        let moved = plan.fleet.moves_within_an_hour(plan.now);
        let left = plan.policy.consolidation_moves_per_hour.saturating_sub(moved);
        if left == 0 || searches == MOST_SEARCHES {
            return;
        }
        let row = plan.fleet.replica(replica);
        let Some(of) = row.and_then(|row| plan.fleet.deployment(&row.deployment)) else { continue };
        let (ask, priority) = (Ask::of(plan.fleet, of), of.spec.priority);
        if hopeless.get(&ask).is_some_and(|tried| priority <= *tried) {
            continue;
        }
        searches += 1;
        let most = MOST_MOVES.min(left as usize);
        let within = Within { most, despite_owners: false, full: &full };
        match consolidation::decide(plan.fleet, plan.policy, of, &ask, within, plan.now) {
            Some(decision) => make(plan, replica, decision),
            None => drop(hopeless.insert(ask, priority)),
        }
    }
}

/// What has found no room since before the last time. What came later may fit in a moment, and
/// nobody is moved for a moment.
fn waiting(plan: &Plan<'_>) -> Queues {
    let fleet = &*plan.fleet;
    let mut queues = Queues::new();
    for (sku, of, id) in fleet.index.pending.keys() {
        let Some(row) = fleet.replica(*id) else { continue };
        let Some(of) = fleet.deployment(of) else { continue };
        let no_room = matches!(row.phase, Phase::Pending { blocked: Blocked::NoRoom });
        if no_room && row.created_at + plan.policy.tick() <= plan.now {
            let place = queue::place(of, *id, row.created_at);
            let queue = queues.entry(row.organization.clone()).or_default();
            queue.insert(place, (*id, sku.clone()));
        }
    }
    queues
}

/// Whoever's turn it is.
fn next(plan: &Plan<'_>, queues: &mut Queues) -> Option<ReplicaId> {
    let heads = queues.iter().filter_map(|(organization, queue)| {
        queue.first_key_value().map(|(place, (_, sku))| (organization, sku, place))
    });
    let organization = queue::next(plan.fleet, plan.policy, heads)?.clone();
    let queue = queues.get_mut(&organization)?;
    let (_, (replica, _)) = queue.pop_first()?;
    if queue.is_empty() {
        queues.remove(&organization);
    }
    Some(replica)
}

/// Keeps the seat, and starts those that go on elsewhere.
fn make(plan: &mut Plan<'_>, replica: ReplicaId, decision: consolidation::Plan) {
    let at = plan.now;
    let mut moves = Vec::new();
    for step in &decision.moves {
        let of = plan.fleet.replica(step.replica);
        let Some(of) = of.and_then(|row| plan.fleet.deployment(&row.deployment)) else { return };
        let (deployment, revision) = (of.id.clone(), of.revision);
        let successor = ReplicaId(plan.fleet.last_replica + 1);
        plan.record(Event::Created { replica: successor, deployment, revision, at });
        let (to, load) = (step.to.clone(), step.load);
        moves.push(Move { replica: step.replica, successor, to, load });
    }
    let starts: Vec<ReplicaId> = moves.iter().map(|of| of.successor).collect();
    plan.record(Event::RoomMade { replica, seat: decision.seat, moves, at });
    for (step, successor) in decision.moves.iter().zip(starts) {
        let of = plan.fleet.replica(step.replica);
        let Some(of) = of.and_then(|row| plan.fleet.deployment(&row.deployment)) else { continue };
        let ask = Ask::of(plan.fleet, of);
        if let Some(stands) = consolidation::stand_in(plan.fleet, plan.policy, of, step) {
            let consolidation::StandIn { seat: at, engine_version, because } = stands;
            let decision = placement::Decision { seat: at, engine_version, because };
            seat(plan, successor, &ask, decision);
        }
    }
}

/// Of a deployment's replicas that move, those whose successors serve leave; where one will not
/// serve, the room is given up.
pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    // Most fleets never move anything: nobody's replicas are looked through for that.
    if plan.fleet.moves.is_empty() {
        return;
    }
    let movers = plan.fleet.replicas_of(id).filter(|row| moving(row).is_some());
    let movers: Vec<ReplicaId> = movers.map(|row| row.id).collect();
    for id in movers {
        // One that is given up lets others stay that were on this list.
        let Some(row) = plan.fleet.replica(id) else { continue };
        let Some(moving) = moving(row).cloned() else { continue };
        let deadline = plan.now + grace(plan.fleet, row);
        match outlook(plan, moving.successor) {
            Outlook::Serves => leave(plan, id, StopCause::Moved, deadline),
            Outlook::Starts => {}
            Outlook::Fails => match moving.room_for() {
                Some(room_for) => withdraw(plan, room_for),
                None => {
                    let (replica, at) = (id, plan.now);
                    plan.record(Event::Stays { replica, at });
                }
            },
        }
    }
}

/// How a replica moves that has not left yet.
fn moving(row: &ReplicaRow) -> Option<&Moving> {
    match &row.phase {
        Phase::Placed { .. } => row.moving.as_deref(),
        Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Leaving { .. }
        | Phase::Stopped { .. } => None,
    }
}

/// What is to be expected of a successor.
enum Outlook {
    Serves,
    Starts,
    Fails,
}

fn outlook(plan: &Plan<'_>, successor: ReplicaId) -> Outlook {
    let fleet = &*plan.fleet;
    let Some(row) = fleet.replica(successor) else { return Outlook::Fails };
    let Some(of) = fleet.deployment(&row.deployment) else { return Outlook::Fails };
    let stands = matches!(row.phase, Phase::Placed { .. });
    match standing(fleet, of, row) {
        Standing::Wanted if row.phase.is_ready() => Outlook::Serves,
        Standing::Wanted if stands => Outlook::Starts,
        Standing::Wanted
        | Standing::Outdated
        | Standing::Evacuating
        | Standing::Lost
        | Standing::Failing
        | Standing::Over => Outlook::Fails,
    }
}
