//! Which replica goes back to spot: its deployment names spot first, none was to be had when it was
//! placed, and now there is room on a spot node.
//!
//! Spot that comes and goes must not make replicas wander: whoever goes back has served where it
//! stands for a while, one of a deployment at a time. What must not run twice and what its owner
//! wants left alone stays; idle nodes are not lent for it.

use std::sync::Arc;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::{EngineVersion, NodeId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::fit::{fit, newest};
use crate::capacity::pick::{Picked, pick};
use crate::capacity::standing::{Standing, standing};
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Placement, Score};
use crate::words::policy::Policy;
use crate::words::replica::{Phase, Seat};

/// Nodes of one group that are looked at, the fullest first: any with room will do.
const MOST_NODES: usize = 64;

/// A replica that goes back, and where its successor starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// Which.
    pub replica: ReplicaId,
    /// The ground that it goes to.
    pub class: CapacityClass,
    /// Where.
    pub seat: Seat,
    /// The engine's version that the node would run.
    pub engine_version: EngineVersion,
    /// Why there.
    pub because: Arc<Placement>,
}

/// Whether any declared spot node has a free GPU: where none has, nobody is asked.
pub fn is_possible(fleet: &Fleet) -> bool {
    let mut groups = fleet.index.seats.iter();
    groups.any(|(group, nodes)| group.class == ComputeClass::Spot && has_room(nodes))
}

fn has_room(nodes: &crate::fleet::table::Table<(u8, NodeId), ()>) -> bool {
    nodes.from(&(1, NodeId::new(""))).next().is_some()
}

/// Of the deployment's replicas the one that goes back to spot now, if one may.
pub fn decide(
    fleet: &Fleet,
    policy: &Policy,
    of: &DeploymentRow,
    now: Timestamp,
) -> Option<Return> {
    let liked = of.spec.classes.iter().position(|class| *class == CapacityClass::Spot)?;
    let stays = of.spec.extension.single_copy
        || !of.spec.extension.consolidation
        || liked + 1 == of.spec.classes.len()
        || of.backoff_until.is_some_and(|until| until > now);
    if stays {
        return None;
    }
    let mut waiting: Option<(Timestamp, ReplicaId)> = None;
    for row in fleet.replicas_of(&of.id) {
        let (seat, ready_since) = match (&row.phase, standing(fleet, of, row)) {
            (Phase::Placed { seat, ready_since, .. }, Standing::Wanted) => (seat, ready_since),
            // What is lost or over changes nothing any more.
            (Phase::Stopped { .. }, _) | (_, Standing::Lost) => continue,
            // Something starts, moves, leaves or fails already: that comes to rest first.
            _ => return None,
        };
        let since = ready_since.filter(|_| row.phase.is_ready())?;
        let likes_less = row.placement.as_ref().is_some_and(|why| is_after(of, why, liked));
        if likes_less && !seat.is_gang() && since + policy.spot_return_after() <= now {
            waiting = waiting.into_iter().chain([(since, row.id)]).min();
        }
    }
    let (_, replica) = waiting?;
    let ask = Ask::of(fleet, of);
    let (score, node) = best(fleet, policy, of, &ask)?;
    let Picked { gpus, nearness } = pick(node, ask.gpus);
    let (id, zone) = (&node.id, &node.zone);
    let sentence = format!("{id} in {zone}, sold as spot: {replica} goes back to spot");
    let sentence =
        nearness.into_iter().fold(sentence, |said, more| format!("{said}; {more}")).into();
    Some(Return {
        replica,
        class: CapacityClass::Spot,
        seat: Seat::alone(id.clone(), gpus),
        engine_version: newest(&ask, node).unwrap_or_default().into(),
        because: Arc::new(Placement { class: CapacityClass::Spot, score, sentence }),
    })
}

/// Whether a replica was placed on ground that its deployment names after spot.
fn is_after(of: &DeploymentRow, why: &Placement, spot: usize) -> bool {
    let stands = of.spec.classes.iter().position(|class| *class == why.class);
    stands.is_some_and(|at| at > spot)
}

/// The best seat on a declared spot node.
fn best<'a>(
    fleet: &'a Fleet,
    policy: &Policy,
    of: &DeploymentRow,
    ask: &Ask,
) -> Option<(Score, &'a NodeRow)> {
    let expected = Expected::of(fleet, of);
    let mut best: Option<(Score, &NodeRow)> = None;
    let from = (ask.sku.clone(), Zone::new(""));
    let zones = fleet.index.zones.from(&from).take_while(|((sku, _), _)| *sku == ask.sku);
    for ((sku, zone), _) in zones.filter(|((_, zone), _)| ask.admits_zone(zone)) {
        for serves in [Some(&ask.organization), None] {
            for whole in [false, true] {
                let group = SeatGroup {
                    sku: sku.clone(),
                    zone: zone.clone(),
                    class: ComputeClass::Spot,
                    serves: serves.cloned(),
                    claimed: false,
                    whole,
                };
                let Some(nodes) = fleet.index.seats.get(&group) else { continue };
                let nodes = nodes.from(&(ask.gpus, NodeId::new(""))).take(MOST_NODES);
                for node in nodes.filter_map(|((_, id), ())| fleet.node(id)) {
                    if node.is_lent() {
                        continue;
                    }
                    let rank = policy.placement_in(&node.pool);
                    let Ok(score) = fit(fleet, rank, ask, &of.id, expected, node) else { continue };
                    if best.as_ref().is_none_or(|(known, _)| score < *known) {
                        best = Some((score, node));
                    }
                }
            }
        }
    }
    best
}
