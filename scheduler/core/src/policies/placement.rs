//! Where a replica goes: the best of the feasible seats.
//!
//! Walks the ordered sets of (type, zone) so that best fit is the first of a range; a plain scan
//! with the same `fit` must give the same answer, and a property holds that it does.

mod gang;

use std::sync::Arc;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::{EngineVersion, NodeId, OrganizationId};

use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::fit::{admits, admits_once_empty, admitted_together, fit, newest, siblings};
use crate::capacity::lending::{fit_lent, fit_or_lend};
use crate::capacity::pick::{Picked, pick};
use crate::fleet::Fleet;
use crate::fleet::index::SeatGroup;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::table::Table;
use crate::words::because::placement::{Blocked, Placement, Rejection, Score};
use crate::words::because::sentence::{Ranked, Sentence};
use crate::words::catalogue::instance_type;
use crate::words::policy::{PlacementPolicy, Policy};
use crate::words::replica::Seat;

/// A seat with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where.
    pub seat: Seat,
    /// The engine's version that the node would run.
    pub engine_version: EngineVersion,
    /// Why there.
    pub because: Arc<Placement>,
}

/// The best seat for a deployment's next replica, or coarsely why there is none.
pub fn decide(
    fleet: &Fleet,
    policy: &Policy,
    deployment: &DeploymentRow,
    ask: &Ask,
) -> Result<Decision, Blocked> {
    if ask.is_gang() {
        return gang::decide(fleet, policy, deployment, ask);
    }
    let mut why = Why::default();
    let zones = zones_of(fleet, policy, ask, &mut why);
    let expected = Expected::of(fleet, deployment);
    for class in &ask.classes {
        let sold = match class {
            CapacityClass::Reserved | CapacityClass::OnDemand => ComputeClass::Standard,
            CapacityClass::Spot => ComputeClass::Spot,
        };
        let claimed = *class == CapacityClass::Reserved;
        let mut best: Option<Score> = None;
        for zone in &zones {
            for serves in [Some(&ask.organization), None] {
                for whole in [false, true] {
                    let range = Range {
                        fleet,
                        policy,
                        deployment,
                        expected,
                        ask,
                        zone,
                        sold,
                        serves,
                        claimed,
                        whole,
                        lends: false,
                    };
                    let score = range.best(&mut why);
                    best = [best, score].into_iter().flatten().min();
                }
            }
        }
        // The classes are a preference: the first that can be satisfied wins.
        if let Some(score) = best {
            let node = fleet.node(&score.node).expect("a seat is on a node of the fleet");
            return Ok(decision(ask, expected, *class, node, score));
        }
    }
    if ask.place_of(CapacityClass::Spot).is_some() && policy.lends() {
        let lent = zones.iter().map(|zone| lent(fleet, policy, deployment, expected, ask, zone));
        if let Some(score) = lent.filter_map(|range| range.best(&mut why)).min() {
            let node = fleet.node(&score.node).expect("a seat is on a node of the fleet");
            return Ok(decision(ask, expected, CapacityClass::Spot, node, score));
        }
    }
    let kind = why.kind();
    let most = instance_type(&ask.sku).map(|listed| listed.gpus);
    let too_large = kind != Blocked::NoSuchNodes && most.is_some_and(|most| most < ask.gpus);
    Err(if too_large { Blocked::TooLarge } else { kind })
}

/// Idle standard nodes of a zone, to be lent.
fn lent<'a>(
    fleet: &'a Fleet,
    policy: &'a Policy,
    deployment: &'a DeploymentRow,
    expected: Expected<'a>,
    ask: &'a Ask,
    zone: &'a Zone,
) -> Range<'a> {
    let sold = ComputeClass::Standard;
    let (serves, claimed, whole, lends) = (None, false, true, true);
    Range { fleet, policy, deployment, expected, ask, zone, sold, serves, claimed, whole, lends }
}

fn decision(
    ask: &Ask,
    expected: Expected<'_>,
    class: CapacityClass,
    node: &NodeRow,
    score: Score,
) -> Decision {
    let Picked { gpus, nearness } = pick(node, ask.gpus);
    let sentence = ranked(node, expected, nearness);
    Decision {
        seat: Seat::alone(node.id.clone(), gpus),
        engine_version: newest(ask, node).unwrap_or_default().into(),
        because: Arc::new(Placement { class, score, sentence }),
    }
}

/// The seat that was kept for a replica, now that it is vacant; an error if it is no seat of the
/// deployment any more.
pub fn kept(
    fleet: &Fleet,
    deployment: &DeploymentRow,
    ask: &Ask,
    seat: &Seat,
) -> Result<Decision, Rejection> {
    let node = fleet.node(&seat.node).ok_or(Rejection::Lost)?;
    let (class, opens_node) = kept_on(fleet, ask, node)?;
    let mut opened = Vec::from_iter(opens_node.then_some(node));
    let version = newest(ask, node);
    for member in &seat.others {
        let node = fleet.node(&member.node).ok_or(Rejection::Lost)?;
        let (same, opens) = kept_on(fleet, ask, node)?;
        if same != class {
            return Err(Rejection::ClassNotAllowed { sold: node.sold() });
        }
        if newest(ask, node) != version {
            let (engine, version) = (ask.engine.clone(), version.unwrap_or_default().to_owned());
            return Err(Rejection::NoVersion { engine, version });
        }
        opened.extend(opens.then_some(node));
    }
    opened.retain(|node| node.compute_class == ComputeClass::Standard);
    if let Some(first) = opened.first() {
        admitted_together(fleet, &ask.organization, first, opened.len() as u32)?;
    }
    let score = Score {
        class,
        lends: false,
        breaks_whole_node: false,
        crowding: 0,
        gpus_left: node.free(),
        opens_node,
        seconds_to_ready: Expected::of(fleet, deployment).seconds_on(node),
        siblings: siblings(fleet, &deployment.id, node),
        node: node.id.clone(),
    };
    let (id, zone, sold) = (&node.id, &node.zone, node.compute_class);
    let sentence =
        format!("{id} in {zone}, sold as {sold}: its seat was kept while others left").into();
    let class = ask.classes.get(usize::from(class)).copied().unwrap_or(CapacityClass::OnDemand);
    Ok(Decision {
        seat: seat.clone(),
        engine_version: newest(ask, node).unwrap_or_default().into(),
        because: Arc::new(Placement { class, score, sentence }),
    })
}

/// On what ground a kept seat's node may be taken, and whether it did not serve the organization.
fn kept_on(fleet: &Fleet, ask: &Ask, node: &NodeRow) -> Result<(u8, bool), Rejection> {
    let held = node.held_for.as_ref();
    if held.is_some_and(|held| held.organization == ask.organization) {
        return admits(fleet, ask, node).map(|class| (class, false));
    }
    admits_once_empty(ask, node).map(|class| (class, true))
}

/// What is said of a seat beside its rank.
pub fn ranked(node: &NodeRow, expected: Expected<'_>, more: Option<String>) -> Sentence {
    Sentence::Ranked(Ranked {
        zone: node.zone.clone(),
        compute_class: node.compute_class,
        is_lent: node.is_lent(),
        start: expected.start_on(node),
        more: more.map(String::into_boxed_str),
    })
}

/// The zones that have nodes of the type and that the ask admits, in order.
fn zones_of(fleet: &Fleet, policy: &Policy, ask: &Ask, why: &mut Why) -> Vec<Zone> {
    let mut zones = Vec::new();
    let start = (ask.sku.clone(), Zone::new(""));
    for ((sku, zone), counts) in fleet.index.zones.from(&start) {
        if *sku != ask.sku {
            break;
        }
        if counts.nodes > 0 && ask.admits_zone(zone) {
            why.nodes = true;
            why.usable |= counts.standard + counts.spot + counts.claimed > 0;
            let of = |ground, count: u32| count > 0 && ask.place_of(ground).is_some();
            why.allowed |= of(CapacityClass::OnDemand, counts.standard)
                || of(CapacityClass::Spot, counts.spot)
                || (policy.lends() && of(CapacityClass::Spot, counts.standard))
                || of(CapacityClass::Reserved, counts.claimed);
            zones.push(zone.clone());
        }
    }
    zones
}

/// Nodes with a model in their cache that are looked at one by one.
const MOST_HOLDERS: usize = 256;

/// The nodes of one type in one zone that are sold alike and serve the same.
struct Range<'a> {
    fleet: &'a Fleet,
    policy: &'a Policy,
    deployment: &'a DeploymentRow,
    expected: Expected<'a>,
    ask: &'a Ask,
    zone: &'a Zone,
    sold: ComputeClass,
    serves: Option<&'a OrganizationId>,
    claimed: bool,
    whole: bool,
    /// They are standard, and would be lent.
    lends: bool,
}

impl Range<'_> {
    /// The best seat of the stretch, whichever way its pools choose.
    fn best(&self, why: &mut Why) -> Option<Score> {
        let group = SeatGroup {
            sku: self.ask.sku.clone(),
            zone: self.zone.clone(),
            class: self.sold,
            serves: self.serves.cloned(),
            claimed: self.claimed,
            whole: self.whole,
        };
        let nodes = self.fleet.index.seats.get(&group)?;
        let mut best = None;
        for rank in [PlacementPolicy::BestFit, PlacementPolicy::Spread] {
            if self.policy.placement == rank || !self.policy.placement_of_pools.is_empty() {
                let score = match rank {
                    PlacementPolicy::BestFit => self.fullest(nodes, why),
                    PlacementPolicy::Spread => self.emptiest(nodes, why),
                };
                best = [best, score].into_iter().flatten().min();
            }
        }
        best
    }

    /// Keys ascend by free GPUs and node, as the rank does: the first that fits is the best unless
    /// a sibling stands there and one with as many free GPUs has none.
    fn fullest(&self, nodes: &Table<(u8, NodeId), ()>, why: &mut Why) -> Option<Score> {
        let mut from = self.ask.gpus;
        loop {
            let ((free, _), ()) = nodes.next_from(&(from, NodeId::new("")))?;
            match self.level(nodes, *free, PlacementPolicy::BestFit, why) {
                Level::Best(score) => return Some(score),
                Level::Nothing => from = free.checked_add(1)?,
                Level::Hopeless => return None,
            }
        }
    }

    /// The same from the other end.
    fn emptiest(&self, nodes: &Table<(u8, NodeId), ()>, why: &mut Why) -> Option<Score> {
        let mut levels = Vec::new();
        let mut from = Some(self.ask.gpus);
        while let Some(least) = from {
            let Some(((free, _), ())) = nodes.next_from(&(least, NodeId::new(""))) else { break };
            levels.push(*free);
            from = free.checked_add(1);
        }
        for free in levels.into_iter().rev() {
            match self.level(nodes, free, PlacementPolicy::Spread, why) {
                Level::Best(score) => return Some(score),
                Level::Nothing => {}
                Level::Hopeless => return None,
            }
        }
        None
    }

    fn fit(&self, rank: PlacementPolicy, node: &NodeRow) -> Result<Score, Rejection> {
        let (fleet, ask, of) = (self.fleet, self.ask, self.deployment);
        if self.lends {
            return fit_lent(fleet, self.policy, ask, &of.id, self.expected, node);
        }
        fit(fleet, rank, ask, &of.id, self.expected, node)
    }

    /// The best of the nodes with so many free GPUs. Where a start is shorter with the model in the
    /// cache, those that have it come before the others.
    fn level(
        &self,
        nodes: &Table<(u8, NodeId), ()>,
        level: u8,
        rank: PlacementPolicy,
        why: &mut Why,
    ) -> Level {
        let all = || {
            let level_on = nodes.from(&(level, NodeId::new(""))).map(|(key, ())| key);
            let of_level = level_on.take_while(move |(free, _)| *free == level);
            of_level.filter_map(|(_, node)| self.fleet.node(node))
        };
        if !self.expected.differs() {
            return self.first_of(all(), rank, why);
        }
        let key = self.deployment.spec.model.key();
        let few: Vec<&NodeRow> = self
            .fleet
            .index
            .holders(&key)
            .take(MOST_HOLDERS + 1)
            .filter_map(|id| self.fleet.node(id))
            .collect();
        let cached = if few.len() > MOST_HOLDERS {
            // Where so many have it, one of the level is soon found.
            let cached = all().filter(|node| self.expected.is_cached_on(node));
            self.first_of(cached, rank, why)
        } else {
            let here = few.into_iter().filter(|node| nodes.contains(&(level, node.id.clone())));
            self.first_of(here, rank, why)
        };
        match cached {
            Level::Nothing => self.first_of(all(), rank, why),
            Level::Best(_) | Level::Hopeless => cached,
        }
    }

    /// The best of nodes in the order of their names that are alike but for their siblings.
    fn first_of<'n>(
        &self,
        nodes: impl Iterator<Item = &'n NodeRow>,
        rank: PlacementPolicy,
        why: &mut Why,
    ) -> Level {
        let mut best: Option<Score> = None;
        for node in nodes.filter(|node| self.policy.placement_in(&node.pool) == rank) {
            match self.fit(rank, node) {
                Ok(score) => {
                    let stands_alone = score.siblings == 0;
                    best = best.into_iter().chain([score]).min();
                    if stands_alone {
                        break;
                    }
                }
                Err(rejection) => {
                    // The region's sum is the same for every idle node of the stretch.
                    if why.hear(&rejection) {
                        return Level::Hopeless;
                    }
                }
            }
        }
        best.map_or(Level::Nothing, Level::Best)
    }
}

/// What the nodes with one count of free GPUs give.
enum Level {
    Best(Score),
    Nothing,
    /// What rejected one of the stretch rejects all of it.
    Hopeless,
}

/// What stood in the way, coarsely.
#[derive(Debug, Default)]
struct Why {
    nodes: bool,
    usable: bool,
    allowed: bool,
    not_offered: bool,
    guaranteed: bool,
}

impl Why {
    /// Notes a rejection; whether it holds for the whole stretch.
    fn hear(&mut self, rejection: &Rejection) -> bool {
        self.guaranteed |= matches!(rejection, Rejection::Guaranteed { .. });
        self.not_offered |= matches!(
            rejection,
            Rejection::NoEngine { .. }
                | Rejection::NoVersion { .. }
                | Rejection::NotOverNodes { .. }
                | Rejection::NoAddress
                | Rejection::SplitGpus
                | Rejection::NoHook { .. }
        );
        matches!(rejection, Rejection::Guaranteed { .. })
    }

    fn kind(&self) -> Blocked {
        if !self.nodes {
            Blocked::NoSuchNodes
        } else if !self.usable {
            Blocked::NodesNotUsable
        } else if !self.allowed {
            Blocked::ClassesForbid
        } else if self.guaranteed {
            Blocked::Guaranteed
        } else if self.not_offered {
            Blocked::NotOffered
        } else {
            Blocked::NoRoom
        }
    }
}

/// How a plain scan ranks a deployment's seats: what `decide` must agree with.
pub fn scan<'a>(
    fleet: &'a Fleet,
    policy: &'a Policy,
    deployment: &'a DeploymentRow,
    ask: &'a Ask,
) -> Box<dyn Iterator<Item = (&'a NodeRow, Result<Score, Rejection>)> + 'a> {
    let of = &deployment.id;
    let expected = Expected::of(fleet, deployment);
    if ask.is_gang() {
        let alone = fleet.every_node().map(|node| {
            let rank = policy.placement_in(&node.pool);
            (node, fit(fleet, rank, ask, of, expected, node))
        });
        return Box::new(gang::together(fleet, ask, alone.collect()).into_iter());
    }
    let each = fleet.every_node();
    Box::new(each.map(move |node| (node, fit_or_lend(fleet, policy, ask, of, expected, node))))
}
