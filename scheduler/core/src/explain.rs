//! Why here, why not there, when: a plain scan with the same rules that decide.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::words::because::placement::{Rejection, Score};
use crate::words::policy::Policy;
use crate::words::replica::PhaseWord;

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
    _policy: &Policy,
    id: ReplicaId,
    _now: Timestamp,
) -> Option<Explanation> {
    let row = fleet.replica(id)?;
    Some(Explanation {
        deployment: row.deployment.clone(),
        replica: Some(id),
        phase: Some(fleet.phase_word(row)),
        node: row.node().cloned(),
        summary: row.because().unwrap_or_default(),
        classes: Vec::new(),
        ahead: 0,
        earliest: None,
        candidates: Vec::new(),
    })
}

/// Where a deployment's next replica would go.
pub fn deployment(
    fleet: &Fleet,
    _policy: &Policy,
    id: &DeploymentId,
    _now: Timestamp,
) -> Option<Explanation> {
    let row = fleet.deployment(id)?;
    Some(Explanation {
        deployment: row.id.clone(),
        replica: None,
        phase: None,
        node: None,
        summary: row.because.to_string(),
        classes: row.spec.classes.clone(),
        ahead: 0,
        earliest: None,
        candidates: Vec::new(),
    })
}
