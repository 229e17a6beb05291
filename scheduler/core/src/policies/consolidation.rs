//! Which replicas move so that a waiting ask fits: the cheapest set on one node, each with a seat
//! elsewhere.
//!
//! Moves cost load time, so the cheapest plan is the one that loads least. A replica moves only to
//! a node that serves its organization already and where its own ask fits; what must not run
//! twice, what does not serve yet and what has a higher priority than the ask stays where it is.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::{NodeId, OrganizationId, ReplicaId};

use crate::capacity::ask::Ask;
use crate::capacity::fit::{admits, fit};
use crate::capacity::standing::{Standing, standing};
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::policy::Policy;

/// Nodes that are looked at for one ask, those with the most free GPUs first: what needs fewer
/// GPUs to be moved is the cheaper plan.
const MOST_NODES: usize = 512;

/// Replicas of one node that may be part of a plan: keeps the number of sets small.
const MOST_REPLICAS: usize = 8;

/// A replica that starts elsewhere and leaves once it serves there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub replica: ReplicaId,
    /// Where it starts.
    pub to: NodeId,
}

/// What makes room for an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The node on which it fits afterwards.
    pub node: NodeId,
    /// Who moves.
    pub moves: Vec<Move>,
}

/// What a plan costs; less is cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    load_ms: u64,
    moves: usize,
    gpus: u32,
}

/// The cheapest plan of at most `most` moves after which the deployment's next replica fits.
pub fn decide(
    fleet: &Fleet,
    policy: &Policy,
    deployment: &DeploymentRow,
    ask: &Ask,
    most: usize,
) -> Option<Plan> {
    let mut best: Option<(Cost, Plan)> = None;
    for (node, free) in emptiest_first(fleet, ask) {
        if free >= ask.gpus || admits(fleet, ask, node).is_err() {
            continue;
        }
        let missing = ask.gpus - free;
        let movers = movers(fleet, deployment, node);
        for (cost, set) in sets(fleet, &movers, missing, most) {
            if best.as_ref().is_some_and(|(cheapest, _)| *cheapest <= cost) {
                break;
            }
            if let Some(moves) = seats(fleet, policy, node, &set) {
                best = Some((cost, Plan { node: node.id.clone(), moves }));
                break;
            }
        }
    }
    best.map(|(_, plan)| plan)
}

/// Nodes in use by the organization that are not full.
fn emptiest_first<'a>(
    fleet: &'a Fleet,
    ask: &Ask,
) -> impl Iterator<Item = (&'a NodeRow, u8)> + use<'a> {
    let mut found: Vec<(u8, &NodeId)> = Vec::new();
    for nodes in groups(fleet, ask, &ask.organization) {
        found.extend(nodes.iter().map(|((free, node), ())| (*free, node)));
    }
    found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let found = found.into_iter().take(MOST_NODES);
    found.filter_map(|(free, node)| Some((fleet.node(node)?, free)))
}

/// The ordered sets of nodes in use by an organization on which an ask may stand.
fn groups<'a>(
    fleet: &'a Fleet,
    ask: &Ask,
    organization: &OrganizationId,
) -> Vec<&'a crate::fleet::table::Table<(u8, NodeId), ()>> {
    let mut sets = Vec::new();
    let from = (ask.sku.clone(), Zone::new(""));
    let zones = fleet.index.zones.from(&from).take_while(|((sku, _), _)| *sku == ask.sku);
    for ((sku, zone), _) in zones.filter(|((_, zone), _)| ask.admits_zone(zone)) {
        for ground in &ask.classes {
            let class = match ground {
                CapacityClass::Reserved | CapacityClass::OnDemand => ComputeClass::Standard,
                CapacityClass::Spot => ComputeClass::Spot,
            };
            let claimed = *ground == CapacityClass::Reserved;
            let (sku, zone) = (sku.clone(), zone.clone());
            let serves = Some(organization.clone());
            let group = SeatGroup { sku, zone, class, serves, claimed, whole: false };
            sets.extend(fleet.index.seats.get(&group));
        }
    }
    sets
}

/// The replicas of a node that may move, the smallest first.
fn movers<'a>(fleet: &'a Fleet, of: &DeploymentRow, node: &NodeRow) -> Vec<&'a ReplicaRow> {
    let mut movers: Vec<&ReplicaRow> = fleet
        .replicas_on(&node.id)
        .filter(|row| row.phase.is_ready() && row.organization == of.organization)
        .filter(|row| {
            let Some(theirs) = fleet.deployment(&row.deployment) else { return false };
            let stays = theirs.spec.extension.single_copy
                || theirs.spec.priority > of.spec.priority
                || standing(fleet, theirs, row) != Standing::Wanted;
            !stays
        })
        .collect();
    movers.sort_by_key(|row| (gpus(row), row.id));
    movers.truncate(MOST_REPLICAS);
    movers
}

fn gpus(row: &ReplicaRow) -> u8 {
    row.phase.seat().map_or(0, |seat| u8::try_from(seat.gpus.len()).unwrap_or(u8::MAX))
}

/// The sets that free enough, the cheapest first.
fn sets<'a>(
    fleet: &Fleet,
    movers: &[&'a ReplicaRow],
    missing: u8,
    most: usize,
) -> Vec<(Cost, Vec<&'a ReplicaRow>)> {
    let mut sets = Vec::new();
    for chosen in 1u32..1 << movers.len() {
        if chosen.count_ones() as usize > most {
            continue;
        }
        let set: Vec<&ReplicaRow> =
            (0..movers.len()).filter(|at| chosen & (1 << at) != 0).map(|at| movers[at]).collect();
        let gpus: u32 = set.iter().map(|row| u32::from(gpus(row))).sum();
        if gpus < u32::from(missing) {
            continue;
        }
        let load = |row: &&ReplicaRow| {
            let of = fleet.deployment(&row.deployment);
            of.and_then(|of| of.last_start).unwrap_or_default().0
        };
        let load_ms = set.iter().map(load).sum();
        sets.push((Cost { load_ms, moves: set.len(), gpus }, set));
    }
    sets.sort_by_key(|(cost, set)| (*cost, set.iter().map(|row| row.id).collect::<Vec<_>>()));
    sets
}

/// A seat elsewhere for each of them, the largest first; none if one has none.
fn seats(
    fleet: &Fleet,
    policy: &Policy,
    leaves: &NodeRow,
    set: &[&ReplicaRow],
) -> Option<Vec<Move>> {
    let mut taken: BTreeMap<&NodeId, u8> = BTreeMap::new();
    let mut moves = Vec::new();
    for row in set.iter().rev() {
        let of = fleet.deployment(&row.deployment)?;
        let ask = Ask::of(fleet, of);
        let to = fullest(fleet, policy, of, &ask, &leaves.id, &taken)?;
        *taken.entry(to).or_default() += ask.gpus;
        moves.push(Move { replica: row.id, to: to.clone() });
    }
    Some(moves)
}

/// The fullest other node in use where it fits.
fn fullest<'a>(
    fleet: &'a Fleet,
    policy: &Policy,
    of: &DeploymentRow,
    ask: &Ask,
    except: &NodeId,
    taken: &BTreeMap<&NodeId, u8>,
) -> Option<&'a NodeId> {
    let mut best: Option<(u8, &NodeId)> = None;
    for nodes in groups(fleet, ask, &of.organization) {
        for ((free, id), ()) in nodes.from(&(ask.gpus, NodeId::new(""))) {
            let left = free.saturating_sub(taken.get(id).copied().unwrap_or_default());
            if id == except || left < ask.gpus {
                continue;
            }
            if best.is_some_and(|best| best.0 <= left && best.0 <= *free) {
                break;
            }
            let Some(node) = fleet.node(id) else { continue };
            let rank = policy.placement_in(&node.pool);
            if fit(fleet, rank, ask, &of.id, of.last_start, node).is_ok() {
                best = best.into_iter().chain([(left, id)]).min();
            }
        }
    }
    best.map(|(_, id)| id)
}
