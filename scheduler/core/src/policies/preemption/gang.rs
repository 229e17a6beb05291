//! Whose places a gang takes: on as many nodes of one zone and fabric as it has members.
//!
//! Nodes that are free come first. Replicas are taken in the order of how dear they are until
//! enough nodes of one place are full of what may go; a replica that stands on several nodes goes
//! from all of them. Only nodes that serve the organization or nobody are looked at.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{ComputeClass, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};

use super::room::is_left_by;
use super::{Decision, Margin, Margins, cheapest_first, is_lower};
use crate::capacity::ask::Ask;
use crate::capacity::fit::{admits, admitted_together, newest};
use crate::fleet::Fleet;
use crate::fleet::index::Dearness;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::{NodeRow, Slot};
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::gpus::Gpus;
use crate::words::policy::PriorityScope;
use crate::words::replica::{Member, Seat};

/// Nodes that may stand together: on the same ground, in one zone, on one fabric, with one version
/// of the engine.
type Place<'a> = (u8, &'a Zone, Option<&'a str>, Option<&'a str>);

/// A node and what would have to leave it.
struct Yard<'a> {
    node: &'a NodeRow,
    place: Place<'a>,
    /// The cheapest first, with whether it has to go for this.
    parts: Vec<(ReplicaId, bool)>,
}

/// Whose places the deployment's next gang takes, if there is a set of them that suffices.
pub(super) fn decide(
    fleet: &Fleet,
    scope: PriorityScope,
    deployment: &DeploymentRow,
    ask: &Ask,
) -> Option<Decision> {
    let mut yards: BTreeMap<&NodeId, Option<Yard<'_>>> = BTreeMap::new();
    let mut full: Vec<&NodeId> = Vec::new();
    for node in fleet.nodes().filter(|node| node.free() >= ask.gpus) {
        if let Some(yard) = open(fleet, ask, node) {
            yards.insert(&node.id, Some(yard));
            full.push(&node.id);
        }
    }
    let mut margins = Margins { fleet, of: BTreeMap::new() };
    let mut going: BTreeMap<&DeploymentId, Margin> = BTreeMap::new();
    for spare in cheapest_first(fleet, scope, ask) {
        if !is_lower(spare, deployment) {
            return None;
        }
        let Some(row) = fleet.replica(spare.replica) else { continue };
        let is_victim = match spare.dearness {
            Dearness::Leaving => false,
            Dearness::Placed { .. } => true,
        };
        if is_victim {
            let Some(margin) = margins.of(row) else { continue };
            if !may_go(&mut going, row, margin) {
                continue;
            }
        }
        let mut gained = false;
        for id in row.nodes() {
            let Some(node) = fleet.node(id) else { continue };
            let yard = yards.entry(id).or_insert_with(|| open(fleet, ask, node));
            let Some(yard) = yard else { continue };
            yard.parts.push((row.id, is_victim));
            if yard.room() >= usize::from(ask.gpus) && !full.contains(&id) {
                full.push(id);
                gained = true;
            }
        }
        if gained && let Some(decision) = close(fleet, ask, &yards, &full) {
            return Some(decision);
        }
    }
    None
}

/// Counts one more of a deployment among those that go, if so many may.
fn may_go<'a>(
    going: &mut BTreeMap<&'a DeploymentId, Margin>,
    row: &'a ReplicaRow,
    margin: Margin,
) -> bool {
    let gone = going.entry(&row.deployment).or_insert(Margin { all: 0, serving: 0 });
    let is_ready = row.phase.is_ready();
    if gone.all >= margin.all || (is_ready && gone.serving >= margin.serving) {
        return false;
    }
    gone.all += 1;
    gone.serving += u32::from(is_ready);
    true
}

/// The node as it is, if a member could stand there once there is room.
fn open<'a>(fleet: &'a Fleet, ask: &Ask, node: &'a NodeRow) -> Option<Yard<'a>> {
    let class = admits(fleet, ask, node).ok()?;
    let place = (class, &node.zone, node.inventory.fabric.as_deref(), newest(ask, node));
    Some(Yard { node, place, parts: Vec::new() })
}

impl Yard<'_> {
    fn slots(&self, is_victim: Option<bool>) -> impl Iterator<Item = (usize, &Slot)> {
        let slots = self.node.slots.iter().enumerate();
        slots.filter(move |(_, slot)| match is_victim {
            None => slot.is_usable(),
            Some(wanted) => {
                let mut parts = self.parts.iter();
                parts.any(|(id, victim)| *victim == wanted && is_left_by(slot, *id))
            }
        })
    }

    /// GPUs that are free, or would be.
    fn room(&self) -> usize {
        [None, Some(false), Some(true)].map(|which| self.slots(which).count()).iter().sum()
    }

    /// What is free already, then what leaves anyway, then what the victims leave; and the victims
    /// whose GPUs are needed.
    fn take(&self, needed: u8) -> (Member, Vec<ReplicaId>) {
        let all = [None, Some(false), Some(true)].map(|which| self.slots(which));
        let mut chosen: Vec<(usize, &Slot)> =
            all.into_iter().flatten().take(needed.into()).collect();
        chosen.sort_unstable_by_key(|(at, _)| *at);
        let mut victims: Vec<ReplicaId> = chosen
            .iter()
            .filter_map(|(_, slot)| slot.holder)
            .filter(|holder| self.parts.contains(&(*holder, true)))
            .collect();
        victims.dedup();
        let gpus: Gpus = chosen.into_iter().map(|(_, slot)| slot.gpu.clone()).collect();
        (Member { node: self.node.id.clone(), gpus }, victims)
    }

    /// Whether it would be one more instance that the organization uses.
    fn opens(&self) -> bool {
        self.node.held_for.is_none() && self.node.compute_class == ComputeClass::Standard
    }
}

/// The seat, if enough of one place are full of what may go: those first that fewest leave for.
fn close(
    fleet: &Fleet,
    ask: &Ask,
    yards: &BTreeMap<&NodeId, Option<Yard<'_>>>,
    full: &[&NodeId],
) -> Option<Decision> {
    let mut places: BTreeMap<Place<'_>, Vec<(usize, &Yard<'_>)>> = BTreeMap::new();
    for id in full {
        let Some(Some(yard)) = yards.get(*id) else { continue };
        let victims = yard.parts.iter().filter(|(_, is_victim)| *is_victim).count();
        places.entry(yard.place).or_default().push((victims, yard));
    }
    for mut together in places.into_values() {
        if together.len() < usize::from(ask.members) {
            continue;
        }
        // Those found first are the cheapest: the sort is stable.
        together.sort_by_key(|(victims, _)| *victims);
        together.truncate(ask.members.into());
        let opened = together.iter().filter(|(_, yard)| yard.opens()).count() as u32;
        let first = together.first()?.1.node;
        if admitted_together(fleet, &ask.organization, first, opened).is_err() {
            continue;
        }
        let (mut members, mut victims) = (Vec::new(), Vec::new());
        for (_, yard) in together {
            let (member, of_it) = yard.take(ask.gpus);
            members.push(member);
            victims.extend(of_it);
        }
        victims.sort_unstable();
        victims.dedup();
        let others = members.split_off(1);
        let Member { node, gpus } = members.pop()?;
        return Some(Decision { seat: Seat { node, gpus, others: others.into() }, victims });
    }
    None
}
