//! Where a replica goes that takes several nodes: all of them or none, of one zone, and of one
//! fabric where they declare one.
//!
//! Each node must be an option for one member by the same `fit` as any other. Of the places that
//! have enough of them, the one with the best node wins, and of it the best nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::NodeId;

use super::{Decision, Why, ranked, zones_of};
use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::fit::{admitted_together, fit, newest};
use crate::capacity::pick::pick;
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Blocked, Placement, Rejection, Score, Together};
use crate::words::policy::Policy;
use crate::words::replica::{Member, Seat};

/// Nodes that may stand together: on the same ground, in one zone, on one fabric, with one version
/// of the engine.
type Place = (u8, Zone, Option<String>, Option<String>);

fn place(ask: &Ask, node: &NodeRow, class: u8) -> Place {
    (class, node.zone.clone(), node.inventory.fabric.clone(), newest(ask, node).map(str::to_owned))
}

/// The best seat for a deployment's next gang, or coarsely why there is none.
pub(super) fn decide(
    fleet: &Fleet,
    policy: &Policy,
    deployment: &DeploymentRow,
    ask: &Ask,
) -> Result<Decision, Blocked> {
    let mut why = Why::default();
    let mut places = Places::default();
    let expected = Expected::of(fleet, deployment);
    for zone in zones_of(fleet, policy, ask, &mut why) {
        for node in candidates(fleet, ask, &zone) {
            let rank = policy.placement_in(&node.pool);
            match fit(fleet, rank, ask, &deployment.id, expected, node) {
                Ok(score) => places.add(ask, node, score),
                Err(rejection) => {
                    why.hear(&rejection);
                }
            }
        }
    }
    let is_free = !places.of.is_empty();
    match places.best(fleet, ask) {
        Ok(Some(members)) => Ok(decision(fleet, ask, expected, members)),
        Err(_) => Err(Blocked::Guaranteed),
        Ok(None) if is_free => Err(Blocked::NotTogether),
        Ok(None) => Err(why.kind()),
    }
}

/// Nodes of the zone that have room for a member and serve the organization or nobody.
fn candidates<'a>(
    fleet: &'a Fleet,
    ask: &'a Ask,
    zone: &'a Zone,
) -> impl Iterator<Item = &'a NodeRow> {
    let grounds = ask.classes.iter().map(|class| match class {
        CapacityClass::Reserved => (ComputeClass::Standard, true),
        CapacityClass::OnDemand => (ComputeClass::Standard, false),
        CapacityClass::Spot => (ComputeClass::Spot, false),
    });
    let kinds = [(true, false), (true, true), (false, false), (false, true)];
    let groups = grounds.flat_map(move |(class, claimed)| {
        kinds.into_iter().map(move |(own, whole)| SeatGroup {
            sku: ask.sku.clone(),
            zone: zone.clone(),
            class,
            serves: own.then(|| ask.organization.clone()),
            claimed,
            whole,
        })
    });
    let sets = groups.filter_map(|group| fleet.index.seats.get(&group));
    let nodes = sets.flat_map(|nodes| nodes.from(&(ask.gpus, NodeId::new(""))));
    nodes.filter_map(|((_, node), ())| fleet.node(node))
}

/// Nodes that are an option for a member, by what they must share.
#[derive(Default)]
struct Places {
    of: BTreeMap<Place, Vec<Score>>,
}

impl Places {
    fn add(&mut self, ask: &Ask, node: &NodeRow, score: Score) {
        self.of.entry(place(ask, node, score.class)).or_default().push(score);
    }

    /// The members of the best place, the best first; an error where only guarantees of others
    /// stand in the way.
    fn best(self, fleet: &Fleet, ask: &Ask) -> Result<Option<Vec<Score>>, Rejection> {
        let (mut best, mut guaranteed): (Option<Vec<Score>>, _) = (None, None);
        for (_, mut scores) in self.of {
            if scores.len() < usize::from(ask.members) {
                continue;
            }
            scores.sort_unstable();
            scores.truncate(ask.members.into());
            match admitted(fleet, ask, &scores) {
                Ok(()) => best = best.into_iter().chain([scores]).min(),
                Err(rejection) => guaranteed = Some(rejection),
            }
        }
        match (best, guaranteed) {
            (None, Some(rejection)) => Err(rejection),
            (best, _) => Ok(best),
        }
    }
}

/// Whether the organization may have all the instances that it does not use yet.
fn admitted(fleet: &Fleet, ask: &Ask, members: &[Score]) -> Result<(), Rejection> {
    let opened = members.iter().filter(|score| score.opens_node);
    let opened = opened.filter_map(|score| fleet.node(&score.node));
    let standard: Vec<&NodeRow> =
        opened.filter(|node| node.compute_class == ComputeClass::Standard).collect();
    let Some(first) = standard.first() else { return Ok(()) };
    admitted_together(fleet, &ask.organization, first, standard.len() as u32)
}

fn decision(fleet: &Fleet, ask: &Ask, expected: Expected<'_>, members: Vec<Score>) -> Decision {
    let seats = members.iter().map(|score| {
        let node = fleet.node(&score.node).expect("a member's seat is on a node of the fleet");
        (node, Member { node: node.id.clone(), gpus: pick(node, ask.gpus).gpus })
    });
    let (nodes, mut seats): (Vec<&NodeRow>, Vec<Member>) = seats.unzip();
    let others = seats.split_off(1);
    let Member { node, gpus } = seats.pop().expect("a gang has a leader");
    let score = members.into_iter().next().expect("a gang has a leader");
    let (leader, peers) = (nodes[0], &nodes[1..]);
    let class = ask.classes.get(usize::from(score.class)).copied();
    let peers: Vec<&str> = peers.iter().map(|node| node.id.as_str()).collect();
    let sentence = ranked(leader, expected, Some(format!("with {} as one", peers.join(", "))));
    Decision {
        seat: Seat { node, gpus, others: others.into() },
        engine_version: newest(ask, leader).unwrap_or_default().into(),
        because: Arc::new(Placement {
            class: class.unwrap_or(CapacityClass::OnDemand),
            score,
            sentence,
        }),
    }
}

/// What each node's case is for a gang: one that is an option alone may have too few beside it.
pub(super) fn together<'a>(
    fleet: &Fleet,
    ask: &Ask,
    alone: Vec<(&'a NodeRow, Result<Score, Rejection>)>,
) -> Vec<(&'a NodeRow, Result<Score, Rejection>)> {
    let mut places = Places::default();
    for (node, verdict) in &alone {
        if let Ok(score) = verdict {
            places.add(ask, node, score.clone());
        }
    }
    let judge = |(place, mut scores): (Place, Vec<Score>)| {
        let (needed, found) = (ask.members, scores.len() as u32);
        if found < u32::from(needed) {
            let shared = if place.2.is_some() { Together::Fabric } else { Together::Zone };
            return (place, Err(Rejection::TooFewTogether { needed, found, place: shared }));
        }
        scores.sort_unstable();
        scores.truncate(needed.into());
        let verdict = admitted(fleet, ask, &scores);
        (place, verdict)
    };
    let judged: BTreeMap<Place, Result<(), Rejection>> = places.of.into_iter().map(judge).collect();
    let one = |(node, verdict): (&'a NodeRow, Result<Score, Rejection>)| {
        let verdict = verdict.and_then(|score| {
            let together = judged.get(&place(ask, node, score.class)).cloned();
            together.unwrap_or(Ok(())).map(|()| score)
        });
        (node, verdict)
    };
    alone.into_iter().map(one).collect()
}
