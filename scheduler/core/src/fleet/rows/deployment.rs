//! A deployment as the fleet holds it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};

use super::revisions::Revisions;
use crate::fleet::table::Table;
use crate::words::because::scaling::{DesiredBecause, ScaledOn};
use crate::words::deployment::Spec;

/// A deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentRow {
    /// Its id.
    pub id: DeploymentId,
    /// Whose.
    pub organization: OrganizationId,
    /// What was asked for, as of now.
    pub spec: Arc<Spec>,
    /// Which spec new replicas run.
    pub revision: u32,
    /// The specs that replicas run, by revision; the current one always.
    pub revisions: Revisions,
    /// Since when.
    pub created_at: Timestamp,
    /// When its spec or settings changed last.
    pub updated_at: Timestamp,
    /// Since when it is being deleted.
    pub deleting: Option<Timestamp>,
    /// How many replicas it is to have.
    pub desired: u32,
    /// Why so many.
    pub because: DesiredBecause,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_at: Option<Timestamp>,
    /// What was seen of the load then, where that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_on: Option<ScaledOn>,
    /// Failures in a row.
    pub failures: u32,
    /// No new replica before this instant.
    pub backoff_until: Option<Timestamp>,
    /// How long the last start took from its placement until it was ready.
    pub last_start: Option<Millis>,
    /// Replicas whose end is not proven, in the order of their ids.
    pub replicas: Table<ReplicaId, ()>,
    /// How many of them are placed and have not been told to leave: derived from their rows.
    #[serde(skip)]
    pub placed: u32,
}

impl DeploymentRow {
    /// Whether it holds more than its `min`.
    pub fn is_above_min(&self) -> bool {
        self.would_be_above_min(self.placed)
    }

    /// Whether so many placed ones would be more than its `min`.
    pub(in crate::fleet) fn would_be_above_min(&self, placed: u32) -> bool {
        placed > self.spec.scaling.bounds.min()
    }

    /// How many are placed once one more is, or one less.
    pub(in crate::fleet) fn placed_after(&self, one_more: bool) -> u32 {
        if one_more { self.placed + 1 } else { self.placed.saturating_sub(1) }
    }
}
