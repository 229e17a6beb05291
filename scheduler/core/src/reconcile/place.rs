//! The step that gives pending replicas their seats, in the order of the queue.
//!
//! Replicas with the same ask get the same answer, so a blocked ask is asked once; what is blocked
//! sleeps until room of its type was freed.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::capacity::{ComputeClass, Sku};
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::order::HeldFor;

use super::plan::Plan;
use super::{promise, reclaim};
use crate::capacity::ask::Ask;
use crate::capacity::lending::awaited;
use crate::fleet::Fleet;
use crate::policies::queue::{self, Place};
use crate::policies::{placement, preemption};
use crate::words::because::placement::Blocked;
use crate::words::deployment::Priority;
use crate::words::event::node::Event as NodeEvent;
use crate::words::event::replica::Event;
use crate::words::replica::Phase;

/// Deployments that wait, by organization in the order of its queue.
type Queues = BTreeMap<OrganizationId, BTreeMap<Place, Waits>>;

/// Who waits at a place of the queue.
#[derive(Clone)]
enum Waits {
    /// A deployment with the first of its pending replicas.
    Pending(DeploymentId, Sku),
    /// A replica whose seat is kept: one that is free now may turn up.
    Promised(ReplicaId, Sku),
}

impl Waits {
    fn sku(&self) -> &Sku {
        match self {
            Waits::Pending(_, sku) | Waits::Promised(_, sku) => sku,
        }
    }
}

/// What was found out within one pass.
#[derive(Default)]
struct Tried {
    /// Asks that have no seat, and why.
    blocked: BTreeMap<Ask, Blocked>,
    /// Asks that find no victims, with the highest priority that found none.
    hopeless: BTreeMap<Ask, Priority>,
}

pub(super) fn pending(
    plan: &mut Plan<'_>,
    touched: &BTreeSet<DeploymentId>,
    freed: &BTreeSet<Sku>,
) {
    let mut queues = Queues::new();
    for deployment in awake(plan.fleet, touched, freed) {
        enqueue(plan.fleet, &mut queues, &deployment);
        enqueue_promised(plan.fleet, &mut queues, &deployment);
    }
    let mut tried = Tried::default();
    loop {
        let heads = queues.iter().filter_map(|(organization, queue)| {
            queue.first_key_value().map(|(place, waits)| (organization, waits.sku(), place))
        });
        let Some(organization) = queue::next(plan.fleet, plan.policy, heads).cloned() else {
            return;
        };
        let Some(queue) = queues.get_mut(&organization) else { return };
        let Some((_, waits)) = queue.pop_first() else { return };
        if queue.is_empty() {
            queues.remove(&organization);
        }
        match waits {
            Waits::Promised(replica, _) => promise::sooner(plan, replica),
            Waits::Pending(deployment, sku) => {
                let Some(row) = plan.fleet.deployment(&deployment) else { continue };
                let ask = Ask::of(plan.fleet, row);
                while place_next(plan, &deployment, &sku, &ask, &mut tried) {
                    // Where nobody else waits its next replica is the next one.
                    if !queues.is_empty() {
                        enqueue(plan.fleet, &mut queues, &deployment);
                        break;
                    }
                }
            }
        }
    }
}

/// The deployments to try: those that were touched, and those whose type has new room.
fn awake(
    fleet: &Fleet,
    touched: &BTreeSet<DeploymentId>,
    freed: &BTreeSet<Sku>,
) -> BTreeSet<DeploymentId> {
    let mut awake = touched.clone();
    for sku in freed {
        for waiting in [&fleet.index.pending, &fleet.index.promised] {
            let mut from = (sku.clone(), DeploymentId::new(""), ReplicaId(0));
            // One step per deployment, however many of its replicas wait.
            while let Some(((of, deployment, _), ())) = waiting.next_from(&from) {
                if of != sku {
                    break;
                }
                awake.insert(deployment.clone());
                from = (sku.clone(), deployment.clone(), ReplicaId(u32::MAX));
                if waiting.contains(&from) {
                    break;
                }
            }
        }
    }
    awake
}

fn enqueue_promised(fleet: &Fleet, queues: &mut Queues, id: &DeploymentId) {
    let Some(row) = fleet.deployment(id) else { return };
    let sku = &row.spec.sku;
    let from = (sku.clone(), id.clone(), ReplicaId(0));
    let promised = fleet.index.promised.from(&from).map(|(key, ())| key);
    for (_, _, replica) in promised.take_while(|(of_sku, of, _)| of_sku == sku && of == id) {
        let Some(since) = fleet.replica(*replica).map(|row| row.created_at) else { continue };
        let place = queue::place(row, *replica, since);
        let queue = queues.entry(row.organization.clone()).or_default();
        queue.insert(place, Waits::Promised(*replica, sku.clone()));
    }
}

fn enqueue(fleet: &Fleet, queues: &mut Queues, id: &DeploymentId) {
    let Some(row) = fleet.deployment(id) else { return };
    let sku = &row.spec.sku;
    let Some(replica) = first_pending(fleet, id, sku) else { return };
    let since = fleet.replica(replica).map_or(row.created_at, |row| row.created_at);
    let place = queue::place(row, replica, since);
    queues
        .entry(row.organization.clone())
        .or_default()
        .insert(place, Waits::Pending(id.clone(), sku.clone()));
}

fn first_pending(fleet: &Fleet, id: &DeploymentId, sku: &Sku) -> Option<ReplicaId> {
    let from = (sku.clone(), id.clone(), ReplicaId(0));
    let ((of_sku, of, replica), ()) = fleet.index.pending.next_from(&from)?;
    (of_sku == sku && of == id).then_some(*replica)
}

/// Places the deployment's first pending replica; whether it was worth another look.
fn place_next(
    plan: &mut Plan<'_>,
    id: &DeploymentId,
    sku: &Sku,
    ask: &Ask,
    tried: &mut Tried,
) -> bool {
    let Some(row) = plan.fleet.deployment(id) else { return false };
    let Some(replica) = first_pending(plan.fleet, id, sku) else { return false };
    let decision = match tried.blocked.get(ask) {
        Some(kind) => Err(*kind),
        None => placement::decide(plan.fleet, plan.policy, row, ask),
    };
    match decision {
        Ok(decision) => {
            seat(plan, replica, ask, decision);
            true
        }
        Err(kind) => {
            if !tried.blocked.contains_key(ask) {
                tried.blocked.insert(ask.clone(), kind);
            }
            if let Some(decision) = preempts(plan, id, ask, kind, tried) {
                promise::make(plan, replica, decision);
                return true;
            }
            reclaim::for_pending(plan, id, ask);
            say_blocked(plan, id, sku, kind);
            false
        }
    }
}

/// Whose place a blocked replica takes. What no set of victims makes room for is not asked again.
fn preempts(
    plan: &Plan<'_>,
    id: &DeploymentId,
    ask: &Ask,
    kind: Blocked,
    tried: &mut Tried,
) -> Option<preemption::Decision> {
    let (Blocked::NoRoom | Blocked::NotTogether | Blocked::Guaranteed) = kind else { return None };
    let row = plan.fleet.deployment(id)?;
    let priority = row.spec.priority;
    if tried.hopeless.get(ask).is_some_and(|tried| priority <= *tried) {
        return None;
    }
    if !preemption::is_needed(plan.fleet, row) {
        return None;
    }
    let decision = preemption::decide(plan.fleet, plan.policy.priority_scope, row, ask);
    if decision.is_none() {
        tried.hopeless.insert(ask.clone(), priority);
    }
    // Where what leaves anyway makes room, nobody has to go, and nothing is kept: an instance that
    // becomes free is a claim's before it is anybody's.
    decision.filter(|decision| !decision.victims.is_empty())
}

/// Gives a replica its seat.
pub(super) fn seat(
    plan: &mut Plan<'_>,
    replica: ReplicaId,
    ask: &Ask,
    decision: placement::Decision,
) {
    let row = plan.fleet.replica(replica);
    let Some(row) = row.and_then(|row| plan.fleet.deployment(&row.deployment)) else { return };
    let own = row.spec.extension.start_deadline_seconds;
    let start_deadline = plan.policy.start_deadline(own, row.last_start);
    hold(plan, ask, &decision);
    let placement::Decision { seat, engine_version, because } = decision;
    let at = plan.now;
    plan.record(Event::Placed { replica, seat, engine_version, start_deadline, because, at });
}

/// A node that begins to serve an organization serves it alone.
fn hold(plan: &mut Plan<'_>, ask: &Ask, decision: &placement::Decision) {
    for id in decision.seat.nodes() {
        let Some(node) = plan.fleet.node(id).filter(|node| node.held_for.is_none()) else {
            continue;
        };
        let lends = decision.because.score.lends;
        let compute_class = if lends { ComputeClass::Spot } else { node.compute_class };
        let organization = ask.organization.clone();
        let held_for = Some(HeldFor { organization, claim: None, compute_class });
        let (node, at) = (id.clone(), plan.now);
        plan.record(NodeEvent::Held { node, held_for, at });
        reclaim::taken_instead(plan, id);
    }
}

/// Notes the kind of reason at each pending replica whose kind changed.
fn say_blocked(plan: &mut Plan<'_>, id: &DeploymentId, sku: &Sku, kind: Blocked) {
    let from = (sku.clone(), id.clone(), ReplicaId(0));
    let waiting = plan.fleet.index.pending.from(&from);
    let changed: Vec<(ReplicaId, Blocked)> = waiting
        .take_while(|((of_sku, of, _), ())| of_sku == sku && of == id)
        .filter_map(|((_, _, replica), ())| {
            let row = plan.fleet.replica(*replica)?;
            let comes = awaited(plan.fleet, row).is_some();
            let blocked = if comes { Blocked::Reclaims } else { kind };
            (row.phase != Phase::Pending { blocked }).then_some((*replica, blocked))
        })
        .collect();
    for (replica, because) in changed {
        plan.record(Event::Blocked { replica, because });
    }
}
