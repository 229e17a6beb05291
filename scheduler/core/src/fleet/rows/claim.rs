//! A capacity claim as the fleet holds it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{ClaimId, NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::claim::{Claimed, Spec};

/// A claim. It stays after its end, for the time that was billed to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// Its id.
    pub id: ClaimId,
    /// Whose.
    pub organization: OrganizationId,
    /// What is asked for.
    pub spec: Spec,
    /// How many instances it is to hold now: above what is asked for while a decrease waits.
    pub granted: u32,
    /// Since when.
    pub created_at: Timestamp,
    /// When something that its owner sees changed last.
    pub updated_at: Timestamp,
    /// When it had all for the first time.
    pub filled_at: Option<Timestamp>,
    /// When a decrease took effect last.
    pub decreased_at: Option<Timestamp>,
    /// When it ended.
    pub deleted_at: Option<Timestamp>,
    /// The instances that are set aside for it.
    pub instances: BTreeSet<NodeId>,
}

impl ClaimRow {
    /// What a node that is set aside for it says.
    pub fn claimed(&self) -> Claimed {
        Claimed {
            claim: self.id.clone(),
            organization: self.organization.clone(),
            capacity_type: self.spec.capacity_type,
        }
    }
}
