//! The rules that never bend, as far as the fleet itself can tell: one file a rule.
//!
//! A check shares no code with the decision that it checks: it counts rows plainly and reads
//! phases and axes with its own words, so that a broken ledger, index or fit cannot pass itself.

mod bounds;
mod claims;
mod classes;
mod drills;
mod generations;
mod history;
mod leaving;
mod lending;
mod meter;
mod moves;
mod oversold;
mod placement;
mod references;
mod slots;
mod victims;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GpuUuid, NodeId};

use crate::fleet::Fleet;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::policy::PriorityScope;
use crate::words::replica::{MemberFact, Phase, Seat};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule: `S1` to `S12`, `drills`, `meter`, `moves` or `references`.
    pub rule: String,
    /// What was found, one sentence.
    pub found: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

/// Every rule that does not hold; empty = all hold.
pub fn check(fleet: &Fleet) -> Vec<Violation> {
    check_under(fleet, PriorityScope::Organization)
}

/// Every rule that does not hold where priority decides among these.
pub fn check_under(fleet: &Fleet, scope: PriorityScope) -> Vec<Violation> {
    let mut found = Findings::default();
    references::check(fleet, &mut found);
    slots::check(fleet, &mut found);
    bounds::check(fleet, &mut found);
    classes::check(fleet, &mut found);
    claims::check(fleet, &mut found);
    victims::check(fleet, scope, &mut found);
    moves::check(fleet, &mut found);
    placement::check(fleet, &mut found);
    leaving::check(fleet, &mut found);
    lending::check(fleet, &mut found);
    drills::check(fleet, &mut found);
    meter::check(fleet, &mut found);
    found.0
}

/// Every rule that one step broke: `before` and `after` are the fleet around one command, one
/// heartbeat or one tick.
pub fn check_step(before: &Fleet, after: &Fleet) -> Vec<Violation> {
    check_step_under(before, after, PriorityScope::Organization)
}

/// Every rule that one step broke where priority decides among these.
pub fn check_step_under(before: &Fleet, after: &Fleet, scope: PriorityScope) -> Vec<Violation> {
    let mut found = Findings(check_under(after, scope));
    let step = Step { before, after };
    generations::check_step(&step, &mut found);
    history::check_step(&step, &mut found);
    bounds::check_step(&step, &mut found);
    classes::check_step(&step, &mut found);
    claims::check_step(&step, &mut found);
    victims::check_step(&step, &mut found);
    moves::check_step(&step, &mut found);
    placement::check_step(&step, &mut found);
    oversold::check_step(&step, &mut found);
    leaving::check_step(&step, &mut found);
    lending::check_step(&step, &mut found);
    drills::check_step(&step, &mut found);
    meter::check_step(&step, &mut found);
    found.0
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: &str, found: String) {
        self.0.push(Violation { rule: rule.to_owned(), found });
    }
}

/// The fleet around one step.
struct Step<'a> {
    before: &'a Fleet,
    after: &'a Fleet,
}

impl<'a> Step<'a> {
    /// Members of replicas that were placed in this step, each as a seat of its own node.
    fn placed_on(&self) -> Vec<(&'a ReplicaRow, Seat)> {
        self.placed().flat_map(|(row, seat)| apart(row, seat)).collect()
    }

    /// Members of replicas for which a seat was promised in this step likewise.
    fn promised_on(&self) -> Vec<(&'a ReplicaRow, Seat)> {
        self.promised().flat_map(|(row, seat)| apart(row, seat)).collect()
    }

    /// Replicas that were placed in this step, with their seats.
    fn placed(&self) -> impl Iterator<Item = (&'a ReplicaRow, &'a Seat)> {
        let before = self.before;
        self.after.replicas().filter_map(move |row| {
            let Phase::Placed { seat, .. } = &row.phase else { return None };
            let was = before.replica(row.id).map(|row| &row.phase);
            (!matches!(was, Some(Phase::Placed { .. }))).then_some((row, seat))
        })
    }

    /// Replicas for which a seat was promised in this step.
    fn promised(&self) -> impl Iterator<Item = (&'a ReplicaRow, &'a Seat)> {
        let before = self.before;
        self.after.replicas().filter_map(move |row| {
            let Phase::Promised { seat, .. } = &row.phase else { return None };
            let was = before.replica(row.id).map(|row| &row.phase);
            let same = matches!(was, Some(Phase::Promised { seat: old, .. }) if old == seat);
            (!same).then_some((row, seat))
        })
    }
}

/// A seat as seats of one node each.
fn apart<'a>(row: &'a ReplicaRow, seat: &Seat) -> Vec<(&'a ReplicaRow, Seat)> {
    let mut seats = vec![Seat { others: Box::default(), ..seat.clone() }];
    for member in &seat.others {
        let (node, gpus) = (member.node.clone(), member.gpus.clone());
        seats.push(Seat { node, gpus, others: Box::default() });
    }
    seats.into_iter().map(|seat| (row, seat)).collect()
}

/// Where a replica's slots are its own by its phase: from its placement until proof.
fn held(phase: &Phase) -> Option<&Seat> {
    match phase {
        Phase::Pending { .. } | Phase::Promised { .. } => None,
        Phase::Placed { seat, .. } | Phase::Leaving { seat, .. } => Some(seat),
        Phase::Stopped { seat, proven, .. } => {
            if *proven {
                None
            } else {
                seat.as_ref()
            }
        }
    }
}

/// The same, node by node: what a gang's member held on a node where its end is proven is free once
/// the whole is closed, and with the last proof otherwise.
fn held_on(row: &ReplicaRow) -> Vec<(&NodeId, &[GpuUuid])> {
    let Some(seat) = held(&row.phase) else { return Vec::new() };
    let closed = matches!(row.phase, Phase::Stopped { .. });
    let mut parts = vec![(&seat.node, &*seat.gpus)];
    for member in &seat.others {
        parts.push((&member.node, &*member.gpus));
    }
    parts.retain(|(node, _)| !closed || row.members.get(*node) != Some(&MemberFact::Gone));
    parts
}

/// `r-3 of chat on node-1`.
fn name(fleet: &Fleet, row: &ReplicaRow) -> String {
    let deployment = fleet.deployment(&row.deployment);
    let of = deployment.map_or_else(|| row.deployment.to_string(), |row| row.spec.name.clone());
    match held(&row.phase) {
        Some(seat) => format!("{} of {of} on {}", row.id, seat.node),
        None => format!("{} of {of}", row.id),
    }
}

/// The first reason why a node may take nothing new, read straight from its four axes.
fn closed(fleet: &Fleet, id: &NodeId) -> Option<&'static str> {
    use crate::words::node::{Health, Intent, Reach};
    let Some(node) = fleet.node(id) else { return Some("unknown") };
    let reach = match node.reach {
        Reach::Connected => None,
        Reach::Joining => Some("joining"),
        Reach::Silent => Some("silent"),
        Reach::Lost => Some("lost"),
    };
    let intent = match node.intent {
        Intent::Open => None,
        Intent::Cordoned { .. } => Some("cordoned"),
        Intent::Draining { .. } => Some("draining"),
        Intent::Retired => Some("retired"),
    };
    let health = match node.health {
        Health::Fit => None,
        Health::Qualifying => Some("qualifying"),
        Health::Unfit { .. } => Some("unfit"),
    };
    let departure = if node.departed_at.is_some() {
        Some("departed")
    } else if node.notices.is_empty() {
        None
    } else {
        Some("under a notice")
    };
    let unproven = (node.held_for.is_none() && !node.replicas.is_empty())
        .then_some("holding what is not proven gone");
    let held = node.held_for.as_ref().and_then(|held| held.claim.as_ref());
    let kept = match (&node.claimed, held) {
        (Some(claimed), Some(held)) => (claimed.claim != *held).then_some("kept for a claim"),
        (Some(_), None) => Some("kept for a claim"),
        (None, _) => None,
    };
    let hinted = node.doubts.hint.as_ref().map(|_| "likely to be taken away");
    intent.or(hinted).or(departure).or(reach).or(health).or(unproven).or(kept)
}
