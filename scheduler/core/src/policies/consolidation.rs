//! Which replicas move so that a waiting ask fits: the cheapest set on one node, each with a seat
//! elsewhere.
//!
//! Moves cost load time, so the cheapest plan is the one that loads least. A replica moves only to
//! a node that serves its organization already, where its own ask fits on ground that it likes as
//! much; what must not run twice, what does not serve yet, what waits after a failed start, what
//! its owner wants left alone and what has a higher priority than the ask stays where it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Zone};
use wharfage_shared::ids::{EngineVersion, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};

use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::fit::{admits, fit, newest};
use crate::capacity::pick::{Picked, among, pick};
use crate::capacity::standing::{Standing, standing};
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::{NodeRow, Slot};
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::because::placement::{Placement, Score};
use crate::words::policy::Policy;
use crate::words::replica::Seat;

/// Replicas that may move for one ask.
pub const MOST_MOVES: usize = 2;

/// Nodes that are looked at for one ask, those with the most free GPUs first, since fewer must move
/// there; and as many that are full.
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
    /// What its deployment's last start took.
    pub load: Millis,
}

/// What makes room for an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seat that the ask has afterwards.
    pub seat: Seat,
    /// Who moves.
    pub moves: Vec<Move>,
}

/// Where a successor stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// Where.
    pub seat: Seat,
    /// The engine's version that the node would run.
    pub engine_version: EngineVersion,
    /// Why there.
    pub because: Arc<Placement>,
}

/// What a plan costs; less is cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    load_ms: u64,
    moves: usize,
    gpus: u32,
}

/// Nodes in use that have no free GPU, by type and by whom they serve: no index holds them. They are
/// collected once for all searches of one look.
#[derive(Clone, Debug, Default)]
pub struct Full(BTreeMap<(Sku, OrganizationId), Vec<NodeId>>);

impl Full {
    /// The full nodes of a fleet.
    pub fn of(fleet: &Fleet) -> Self {
        let mut full = Self::default();
        for node in fleet.nodes().filter(|node| node.free() == 0) {
            full.add(node);
        }
        full
    }

    /// Those on which room could be made for one ask.
    pub fn for_one(fleet: &Fleet, ask: &Ask) -> Self {
        let mut full = Self::default();
        let serves = |node: &&NodeRow| {
            let held = node.held_for.as_ref();
            node.sku == ask.sku && held.is_some_and(|held| held.organization == ask.organization)
        };
        let nodes = fleet.nodes().filter(serves).filter(|node| node.free() == 0);
        nodes.take(MOST_NODES).for_each(|node| full.add(node));
        full
    }

    fn add(&mut self, node: &NodeRow) {
        let Some(held) = &node.held_for else { return };
        let key = (node.sku.clone(), held.organization.clone());
        self.0.entry(key).or_default().push(node.id.clone());
    }

    fn serving<'a>(&'a self, ask: &Ask) -> &'a [NodeId] {
        let key = (ask.sku.clone(), ask.organization.clone());
        self.0.get(&key).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Within what a plan is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    /// Replicas that may move.
    pub most: usize,
    /// Whether those count too that their owners want left alone: to tell that they stand in the
    /// way, never to move them.
    pub despite_owners: bool,
    /// Nodes that no index holds.
    pub full: &'a Full,
}

/// The cheapest plan after which the deployment's next replica fits.
pub fn decide(
    fleet: &Fleet,
    policy: &Policy,
    deployment: &DeploymentRow,
    ask: &Ask,
    within: Within<'_>,
    now: Timestamp,
) -> Option<Plan> {
    if !is_worth_asking(fleet, ask) {
        return None;
    }
    let elsewhere = most_room(fleet, ask);
    let mut best: Option<(Cost, Plan)> = None;
    let full = within.full.serving(ask).iter().take(MOST_NODES).filter_map(|id| fleet.node(id));
    let full = full.filter(|node| node.free() == 0).map(|node| (node, 0));
    for (node, free) in emptiest_first(fleet, ask).chain(full) {
        let missing = ask.gpus.saturating_sub(free);
        let could = missing > 0 && could_leave(node, missing, within.most, elsewhere);
        if !could || admits(fleet, ask, node).is_err() {
            continue;
        }
        let movers = movers(fleet, deployment, node, within.despite_owners, now);
        for (cost, set) in sets(&movers, missing, within.most) {
            if best.as_ref().is_some_and(|(cheapest, _)| *cheapest <= cost) {
                break;
            }
            if let Some(moves) = seats(fleet, policy, node, &set) {
                let seat = seat_once_left(node, &set, ask.gpus);
                best = Some((cost, Plan { seat, moves }));
                break;
            }
        }
    }
    best.map(|(_, plan)| plan)
}

/// Whether a plan is to be looked for at all: one node is looked at at a time, and where nobody can
/// go, nobody is looked at.
pub fn is_worth_asking(fleet: &Fleet, ask: &Ask) -> bool {
    !ask.is_gang() && most_room(fleet, ask) > 0
}

/// The seat of the replica that goes on in a mover's stead.
pub fn stand_in(
    fleet: &Fleet,
    policy: &Policy,
    of: &DeploymentRow,
    step: &Move,
) -> Option<StandIn> {
    let ask = Ask::of(fleet, of);
    let node = fleet.node(&step.to)?;
    let rank = policy.placement_in(&node.pool);
    let score = fit(fleet, rank, &ask, &of.id, Expected::of(fleet, of), node).ok()?;
    let class = ask.classes.get(usize::from(score.class)).copied()?;
    let Picked { gpus, nearness } = pick(node, ask.gpus);
    let (id, zone, sold, mover) = (&node.id, &node.zone, node.sold(), step.replica);
    let sentence = format!("{id} in {zone}, sold as {sold}: {mover} moves here to make room");
    let sentence =
        nearness.into_iter().fold(sentence, |said, more| format!("{said}; {more}")).into();
    Some(StandIn {
        seat: Seat::alone(node.id.clone(), gpus),
        engine_version: newest(&ask, node).unwrap_or_default().into(),
        because: Arc::new(Placement { class, score, sentence }),
    })
}

/// Of what is free already and what those that move leave the GPUs that are nearest to each other.
fn seat_once_left(node: &NodeRow, set: &[&ReplicaRow], needed: u8) -> Seat {
    let is_open = |slot: &Slot| slot.is_usable() || set.iter().any(|row| is_left_by(slot, row));
    Seat::alone(node.id.clone(), among(node, needed, is_open).gpus)
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

/// The most GPUs that are free on a node in use by the organization.
fn most_room(fleet: &Fleet, ask: &Ask) -> u8 {
    let from = SeatGroup {
        sku: ask.sku.clone(),
        zone: Zone::new(""),
        class: ComputeClass::Standard,
        serves: None,
        claimed: false,
        whole: false,
    };
    let of_type = fleet.index.seats.from(&from).take_while(|(group, _)| group.sku == ask.sku);
    let own = of_type.filter(|(group, _)| group.serves.as_ref() == Some(&ask.organization));
    own.filter_map(|(_, nodes)| nodes.last()).map(|((free, _), ())| *free).max().unwrap_or(0)
}

/// Whether so few of those that stand there could leave so many GPUs, by its slots alone: whoever
/// holds more than are free anywhere else cannot go.
fn could_leave(node: &NodeRow, missing: u8, most: usize, elsewhere: u8) -> bool {
    let mut held: Vec<(ReplicaId, u8)> = Vec::with_capacity(node.slots.len());
    for slot in &node.slots {
        let Some(holder) = slot.holder.filter(|_| is_left(slot)) else { continue };
        match held.iter_mut().find(|(id, _)| *id == holder) {
            Some((_, gpus)) => *gpus += 1,
            None => held.push((holder, 1)),
        }
    }
    held.retain(|(_, gpus)| *gpus <= elsewhere);
    held.sort_unstable_by_key(|(_, gpus)| std::cmp::Reverse(*gpus));
    let leave: u32 = held.iter().take(most).map(|(_, gpus)| u32::from(*gpus)).sum();
    leave >= u32::from(missing)
}

/// One that may move: what it would leave, and what it would load.
struct Mover<'a> {
    row: &'a ReplicaRow,
    gpus: u8,
    load_ms: u64,
}

/// The replicas of a node that may move, the smallest first.
fn movers<'a>(
    fleet: &'a Fleet,
    of: &DeploymentRow,
    node: &NodeRow,
    despite_owners: bool,
    now: Timestamp,
) -> Vec<Mover<'a>> {
    let rows = fleet
        .replicas_on(&node.id)
        .filter(|row| row.phase.is_ready() && row.organization == of.organization)
        .filter(|row| {
            let Some(theirs) = fleet.deployment(&row.deployment) else { return false };
            let stays = theirs.spec.extension.single_copy
                || !(theirs.spec.extension.consolidation || despite_owners)
                || row.phase.seat().is_some_and(Seat::is_gang)
                || theirs.spec.priority > of.spec.priority
                || theirs.backoff_until.is_some_and(|until| until > now)
                || standing(fleet, theirs, row) != Standing::Wanted;
            !stays
        });
    let mover = |row| Mover { row, gpus: gpus(node, row), load_ms: load(fleet, row).0 };
    let mut movers: Vec<Mover<'_>> = rows.map(mover).collect();
    movers.sort_by_key(|mover| (mover.gpus, mover.row.id));
    movers.truncate(MOST_REPLICAS);
    movers
}

/// GPUs of a node that somebody new could use once the replica is gone.
fn gpus(node: &NodeRow, row: &ReplicaRow) -> u8 {
    let left = node.slots.iter().filter(|slot| is_left_by(slot, row));
    u8::try_from(left.count()).unwrap_or(u8::MAX)
}

fn is_left_by(slot: &Slot, row: &ReplicaRow) -> bool {
    is_left(slot) && slot.holder == Some(row.id)
}

/// Whether somebody new could use it once its holder is gone.
fn is_left(slot: &Slot) -> bool {
    slot.promised.is_none() && slot.orphan.is_none() && slot.unfit.is_none()
}

/// The sets that free enough, the cheapest first.
fn sets<'a>(movers: &[Mover<'a>], missing: u8, most: usize) -> Vec<(Cost, Vec<&'a ReplicaRow>)> {
    let mut sets = Vec::new();
    for chosen in 1u32..1 << movers.len() {
        if chosen.count_ones() as usize > most {
            continue;
        }
        let set = || (0..movers.len()).filter(|at| chosen & (1 << at) != 0).map(|at| &movers[at]);
        let freed: u32 = set().map(|mover| u32::from(mover.gpus)).sum();
        if freed < u32::from(missing) {
            continue;
        }
        let load_ms = set().map(|mover| mover.load_ms).sum();
        let rows: Vec<&ReplicaRow> = set().map(|mover| mover.row).collect();
        sets.push((Cost { load_ms, moves: rows.len(), gpus: freed }, rows));
    }
    sets.sort_by_cached_key(|(cost, set)| {
        (*cost, set.iter().map(|row| row.id).collect::<Vec<_>>())
    });
    sets
}

/// What the last start of a replica's deployment took.
fn load(fleet: &Fleet, row: &ReplicaRow) -> Millis {
    fleet.deployment(&row.deployment).and_then(|of| of.last_start).unwrap_or_default()
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
        let class = row.placement.as_ref().map_or(u8::MAX, |why| why.score.class);
        let likes = |score: &Score| score.class <= class;
        let to = fullest(fleet, policy, of, &ask, &leaves.id, &taken, likes)?;
        *taken.entry(to).or_default() += ask.gpus;
        moves.push(Move { replica: row.id, to: to.clone(), load: load(fleet, row) });
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
    likes: impl Fn(&Score) -> bool,
) -> Option<&'a NodeId> {
    let mut best: Option<(u8, &NodeId)> = None;
    let expected = Expected::of(fleet, of);
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
            let score = fit(fleet, rank, ask, &of.id, expected, node);
            if score.is_ok_and(|score| likes(&score)) {
                best = best.into_iter().chain([(left, id)]).min();
            }
        }
    }
    best.map(|(_, id)| id)
}
