//! Why here, why not there, when: a plain scan with the same rules that decide.

mod candidate;
mod candidates;
mod counterfactual;
pub mod drill;
mod groups;
mod joining;
mod moving;
mod starved;
mod when;

pub use self::candidate::Candidate;
pub use self::candidates::Candidates;
pub use self::counterfactual::Counterfactual;
pub use self::groups::Group;
pub use self::starved::starved;
pub use self::when::Earliest;

use serde::Serialize;
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::Ask;
use crate::capacity::expected::Expected;
use crate::capacity::pick::pick;
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::{placement, queue};
use crate::words::because::placement::Blocked;
use crate::words::policy::Policy;
use crate::words::replica::{Phase, PhaseWord};

/// Why a replica, or a deployment's next one, is where it is or nowhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Which replica; absent = the deployment's next one.
    pub replica: Option<ReplicaId>,
    /// Its phase.
    pub phase: Option<PhaseWord>,
    /// Where it stands.
    pub node: Option<NodeId>,
    /// The whole in one sentence.
    pub summary: String,
    /// Where it may run, in the order of preference.
    pub classes: Vec<CapacityClass>,
    /// Replicas that go before it in the organization's order.
    pub ahead: u32,
    /// When it could run at the earliest, where something that is known ends.
    pub earliest: Option<Earliest>,
    /// What would help, where no such event is known and no node is an option.
    pub unknown: Option<String>,
    /// Who could move so that it fits, and why that does not happen yet.
    pub moves: Option<String>,
    /// Single changes with which it would run now.
    pub counterfactuals: Vec<Counterfactual>,
    /// Since it waits, so many of a higher priority have been placed: it is starved.
    pub overtaken: u32,
    /// How many nodes fail which rule, the most frequent first.
    pub groups: Vec<Group>,
    /// Every node: options first, best first, then the others by name. Written beside the rest.
    #[serde(skip)]
    pub candidates: Candidates,
}

impl Explanation {
    /// It is somewhere: what the next one would wait for is not its concern.
    fn waits_for_nothing(&mut self) {
        self.earliest = None;
        self.unknown = None;
        self.counterfactuals.clear();
    }

    /// All of it as JSON.
    pub fn json(&self) -> Vec<u8> {
        let mut written = Vec::new();
        self.candidates.write_within(self, &mut written);
        written
    }

    /// The same without what another organization must not learn: whom nodes serve, and what an
    /// operator said of them.
    pub fn for_tenant(mut self, organization: &OrganizationId) -> Self {
        self.candidates.keep_to(organization);
        let groups = groups::of(&self.candidates);
        let (told, kept) = (groups::sentence(&self.groups), groups::sentence(&groups));
        self.summary = self.summary.replace(&told, &kept);
        self.groups = groups;
        self
    }
}

/// Why a replica is where it is, or nowhere.
pub fn replica(
    fleet: &Fleet,
    policy: &Policy,
    id: ReplicaId,
    now: Timestamp,
) -> Option<Explanation> {
    let row = fleet.replica(id)?;
    let of = fleet.deployment(&row.deployment);
    let mut explanation = match of {
        Some(of) => next_one(fleet, policy, of, now),
        None => bare(&row.deployment),
    };
    let phase = fleet.phase_word(row);
    explanation.replica = Some(id);
    explanation.phase = Some(phase);
    explanation.node = row.phase.seat().map(|seat| seat.node.clone());
    let because = row.because().unwrap_or_default();
    match &row.phase {
        Phase::Pending { blocked } => {
            explanation.overtaken = of.map_or(0, |of| overtaken(fleet, of, row));
            if let Some(comes) = when::called_back(fleet, row) {
                explanation.earliest = Some(comes);
                explanation.unknown = None;
            }
            if let (Blocked::NoRoom, Some(of)) = (blocked, of) {
                let ask = Ask::of(fleet, of);
                explanation.moves = moving::would_help(fleet, policy, of, &ask, now);
            }
            explanation.summary = pending(&explanation, *blocked);
            explanation.ahead = of.map_or(0, |of| ahead(fleet, of, row));
        }
        Phase::Placed { .. } | Phase::Leaving { .. } | Phase::Promised { .. } => {
            let word = format!("{phase:?}").to_lowercase();
            explanation.summary = format!("{id} is {word}: {because}");
            explanation.waits_for_nothing();
            explanation.earliest = when::vacant(fleet, row, now);
        }
        Phase::Stopped { .. } => {
            explanation.summary = format!("{id} has ended: {because}");
            explanation.waits_for_nothing();
        }
    }
    Some(explanation)
}

/// Where a deployment's next replica would go.
pub fn deployment(
    fleet: &Fleet,
    policy: &Policy,
    id: &DeploymentId,
    now: Timestamp,
) -> Option<Explanation> {
    Some(next_one(fleet, policy, fleet.deployment(id)?, now))
}

fn bare(deployment: &DeploymentId) -> Explanation {
    Explanation {
        deployment: deployment.clone(),
        replica: None,
        phase: None,
        node: None,
        summary: String::new(),
        classes: Vec::new(),
        ahead: 0,
        earliest: None,
        unknown: None,
        moves: None,
        counterfactuals: Vec::new(),
        overtaken: 0,
        groups: Vec::new(),
        candidates: Candidates::default(),
    }
}

/// Every node's case for the deployment's next replica.
fn next_one(fleet: &Fleet, policy: &Policy, row: &DeploymentRow, now: Timestamp) -> Explanation {
    let ask = Ask::of(fleet, row);
    let scan = placement::scan(fleet, policy, row, &ask);
    let candidates = Candidates::of(scan, fleet.nodes.len());
    let groups = groups::of(&candidates);
    let best = candidates.first().and_then(|best| Some((fleet.node(best.node)?, best.rank()?)));
    let earliest = when::earliest(fleet, row, &ask, &candidates, now)
        .or_else(|| when::would_call(fleet, policy, &ask, &candidates, now))
        .or_else(|| joining::earliest(fleet, &ask, &candidates).filter(|_| best.is_none()));
    let (summary, counterfactuals) = match &best {
        Some((node, score)) => {
            let nearness = pick(node, ask.gpus).nearness;
            let seat = placement::ranked(node, Expected::of(fleet, row), nearness).of(score);
            (format!("the next replica would go to {seat}"), Vec::new())
        }
        None => (
            format!("no node is an option now: {}", groups::sentence(&groups)),
            counterfactual::all(fleet, policy, row, &ask),
        ),
    };
    let is_unknown = best.is_none() && earliest.is_none();
    Explanation {
        summary,
        classes: ask.classes.clone(),
        earliest,
        unknown: is_unknown.then(|| when::unknown(&ask)),
        counterfactuals,
        groups,
        candidates,
        ..bare(&row.id)
    }
}

fn pending(explanation: &Explanation, blocked: Blocked) -> String {
    let counts = groups::sentence(&explanation.groups);
    let counts = if counts.is_empty() { counts } else { format!(" ({counts})") };
    let when = explanation.earliest.as_ref().map(|earliest| &earliest.because);
    let when = when.or(explanation.unknown.as_ref());
    let when = when.map_or_else(String::new, |when| format!("; {when}"));
    let moves = explanation.moves.as_ref();
    let moves = moves.map_or_else(String::new, |moves| format!("; {moves}"));
    let others = match explanation.counterfactuals.as_slice() {
        [] => String::new(),
        others => format!("; {}", counterfactual::sentence(others)),
    };
    let starved = match explanation.overtaken {
        0 => String::new(),
        1 => "; starved: 1 of higher priority has been placed since".to_owned(),
        many => format!("; starved: {many} of higher priority have been placed since"),
    };
    format!("pending: {blocked}{counts}{when}{moves}{others}{starved}")
}

/// Replicas of a higher priority of the same organization and type that were placed while this one
/// has waited.
fn overtaken(fleet: &Fleet, of: &DeploymentRow, row: &ReplicaRow) -> u32 {
    let mine = (of.organization.clone(), of.spec.sku.clone(), of.spec.priority);
    let mut from_mine_on = fleet.index.priorities.from(&mine).map(|(key, _)| key);
    let next = from_mine_on.find(|key| **key != mine);
    if next.is_none_or(|next| (&next.0, &next.1) != (&mine.0, &mine.1)) {
        // Nothing there has a higher priority: no need to look at every replica.
        return 0;
    }
    let others = fleet.replicas().filter(|other| {
        let Phase::Placed { since, .. } = &other.phase else { return false };
        let higher = || {
            let theirs = fleet.deployment(&other.deployment);
            theirs.is_some_and(|theirs| {
                theirs.spec.priority > of.spec.priority && theirs.spec.sku == of.spec.sku
            })
        };
        *since > row.created_at && other.organization == row.organization && higher()
    });
    u32::try_from(others.count()).unwrap_or(u32::MAX)
}

/// Pending replicas of the same organization that go before this one.
fn ahead(fleet: &Fleet, of: &DeploymentRow, row: &ReplicaRow) -> u32 {
    let own = queue::place(of, row.id, row.created_at);
    let waiting = fleet.index.pending.keys().filter_map(|(_, _, id)| fleet.replica(*id));
    let others =
        waiting.filter(|other| other.organization == row.organization && other.id != row.id);
    let before = others.filter(|other| {
        let theirs = fleet.deployment(&other.deployment);
        theirs.is_some_and(|theirs| queue::place(theirs, other.id, other.created_at) < own)
    });
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}
