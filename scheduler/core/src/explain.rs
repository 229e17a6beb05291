//! Why here, why not there, when: a plain scan with the same rules that decide.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::capacity::ask::Ask;
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::{placement, queue};
use crate::words::because::placement::{Blocked, Rejection, Score};
use crate::words::policy::Policy;
use crate::words::replica::{Phase, PhaseWord};

/// Why a replica, or a deployment's next one, is where it is or nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Every node: options first, best first, then the others by name.
    pub candidates: Vec<Candidate>,
}

/// When something that is known ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earliest {
    /// When.
    pub at: Timestamp,
    /// What ends then, as one sentence.
    pub because: String,
}

/// One node's case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Where.
    pub zone: Zone,
    /// How it is sold.
    pub compute_class: ComputeClass,
    /// GPUs that are free there.
    pub free: u8,
    /// Whom it serves now; only the provider and that organization are told.
    pub serves: Option<OrganizationId>,
    /// Whether it is an option.
    pub verdict: Verdict,
    /// The verdict as one sentence.
    pub sentence: String,
}

/// Whether a node is an option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is, with its rank.
    Feasible(Score),
    /// It is not: the first rule that fails.
    Rejected(Rejection),
}

impl Explanation {
    /// The same without what another organization must not learn.
    pub fn for_tenant(mut self, organization: &OrganizationId) -> Self {
        for candidate in &mut self.candidates {
            candidate.serves = candidate.serves.take().filter(|serves| serves == organization);
        }
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
            explanation.summary = pending(&explanation, *blocked);
            explanation.ahead = of.map_or(0, |of| ahead(fleet, of, row));
        }
        Phase::Placed { .. } | Phase::Leaving { .. } | Phase::Promised { .. } => {
            let word = format!("{phase:?}").to_lowercase();
            explanation.summary = format!("{id} is {word}: {because}");
            explanation.earliest = None;
        }
        Phase::Stopped { .. } => {
            explanation.summary = format!("{id} has ended: {because}");
            explanation.earliest = None;
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
        candidates: Vec::new(),
    }
}

/// Every node's case for the deployment's next replica.
fn next_one(fleet: &Fleet, policy: &Policy, row: &DeploymentRow, now: Timestamp) -> Explanation {
    let ask = Ask::of(fleet, row);
    let mut candidates: Vec<Candidate> = placement::scan(fleet, policy, row, &ask)
        .map(|(node, verdict)| candidate(node, verdict))
        .collect();
    candidates.sort_by(|a, b| match (&a.verdict, &b.verdict) {
        (Verdict::Feasible(a), Verdict::Feasible(b)) => a.cmp(b),
        (Verdict::Feasible(_), Verdict::Rejected(_)) => Ordering::Less,
        (Verdict::Rejected(_), Verdict::Feasible(_)) => Ordering::Greater,
        (Verdict::Rejected(_), Verdict::Rejected(_)) => a.node.cmp(&b.node),
    });
    let summary = match candidates.first() {
        Some(Candidate { verdict: Verdict::Feasible(_), sentence, .. }) => {
            format!("the next replica would go to {sentence}")
        }
        Some(_) | None => format!("no node is an option now: {}", counts(&candidates)),
    };
    let mut explanation = Explanation {
        summary,
        classes: ask.classes.clone(),
        earliest: earliest(fleet, policy, row, &candidates, now),
        ..bare(&row.id)
    };
    explanation.candidates = candidates;
    explanation
}

fn candidate(node: &NodeRow, verdict: Result<Score, Rejection>) -> Candidate {
    let (verdict, sentence) = match verdict {
        Ok(score) => {
            let sentence = placement::sentence(node, &score);
            (Verdict::Feasible(score), sentence)
        }
        Err(rejection) => {
            let sentence = format!("{}: {rejection}", node.id);
            (Verdict::Rejected(rejection), sentence)
        }
    };
    Candidate {
        node: node.id.clone(),
        zone: node.zone.clone(),
        compute_class: node.compute_class,
        free: node.free(),
        serves: node.held_for.as_ref().map(|held| held.organization.clone()),
        verdict,
        sentence,
    }
}

fn pending(explanation: &Explanation, blocked: Blocked) -> String {
    let counts = counts(&explanation.candidates);
    let when = explanation.earliest.as_ref();
    let when = when.map_or_else(String::new, |earliest| format!("; {}", earliest.because));
    if counts.is_empty() {
        return format!("pending: {blocked}{when}");
    }
    format!("pending: {blocked} ({counts}){when}")
}

/// How many nodes fail which rule, the most frequent first.
fn counts(candidates: &[Candidate]) -> String {
    let mut rules: BTreeMap<String, u32> = BTreeMap::new();
    for candidate in candidates {
        if let Verdict::Rejected(rejection) = &candidate.verdict {
            *rules.entry(rejection.to_string()).or_default() += 1;
        }
    }
    let mut rules: Vec<(String, u32)> = rules.into_iter().collect();
    rules.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let texts = rules.into_iter().map(|(rule, count)| match count {
        1 => format!("1 node: {rule}"),
        count => format!("{count} nodes: {rule}"),
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// When something that is known ends: a back-off, or a leaving replica's deadline on a node that
/// only lacks room.
fn earliest(
    fleet: &Fleet,
    _policy: &Policy,
    row: &DeploymentRow,
    candidates: &[Candidate],
    now: Timestamp,
) -> Option<Earliest> {
    if let Some(at) = row.backoff_until.filter(|until| *until > now) {
        let failures = row.failures;
        let wait = at.since(now);
        let because = format!("after {failures} failed starts the next is tried in {wait}");
        return Some(Earliest { at, because });
    }
    let is_option = |candidate: &&Candidate| matches!(candidate.verdict, Verdict::Feasible(_));
    if candidates.iter().any(|candidate| is_option(&candidate)) {
        return None;
    }
    let full = candidates.iter().filter(|candidate| {
        matches!(
            candidate.verdict,
            Verdict::Rejected(Rejection::NotEnoughGpus { .. } | Rejection::ServesAnother)
        )
    });
    let leaving = full.flat_map(|candidate| fleet.replicas_on(&candidate.node));
    let deadlines = leaving.filter_map(|replica| {
        replica.phase.leaving().map(|leaving| (leaving.deadline, replica.node().cloned()))
    });
    let (at, node) = deadlines.min()?;
    let node = node.map_or_else(String::new, |node| format!(" on {node}"));
    let because = format!("a replica{node} leaves within {}", at.since(now));
    Some(Earliest { at, because })
}

/// Pending replicas of the same organization that go before this one.
fn ahead(fleet: &Fleet, of: &DeploymentRow, row: &ReplicaRow) -> u32 {
    let own = queue::place(fleet, of, row.id, row.created_at);
    let others = fleet.replicas().filter(|other| {
        let waits = matches!(other.phase, Phase::Pending { .. });
        waits && other.organization == row.organization && other.id != row.id
    });
    let before = others.filter(|other| {
        let theirs = fleet.deployment(&other.deployment);
        theirs.is_some_and(|theirs| queue::place(fleet, theirs, other.id, other.created_at) < own)
    });
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}
