//! Facts about capacity claims and quotas.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{ClaimId, NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::claim::Spec;
use crate::words::quota::QuotaKey;

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A claim was made.
    Created {
        /// Its id.
        claim: ClaimId,
        /// Whose.
        organization: OrganizationId,
        /// What it asks for.
        spec: Spec,
        /// When.
        at: Timestamp,
    },
    /// Another count is asked for.
    Resized {
        /// Which.
        claim: ClaimId,
        /// How many instances.
        instances: u32,
        /// When.
        at: Timestamp,
    },
    /// The claim is to hold so many instances from now on: a decrease may be later than its wish.
    Granted {
        /// Which.
        claim: ClaimId,
        /// How many instances.
        instances: u32,
        /// Since when.
        at: Timestamp,
    },
    /// An instance is set aside; it counts as allocated once nothing of others stands there.
    Bound {
        /// For which claim.
        claim: ClaimId,
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// The claim had all that it is to hold for the first time.
    Filled {
        /// Which.
        claim: ClaimId,
        /// When.
        at: Timestamp,
    },
    /// An instance is not set aside any more.
    Released {
        /// By which claim.
        claim: ClaimId,
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// The claim has ended.
    Deleted {
        /// Which.
        claim: ClaimId,
        /// When.
        at: Timestamp,
    },
    /// An instance quota was set, or taken back to what follows from nodes and contracts.
    QuotaSet {
        /// Of what.
        quota: QuotaKey,
        /// How many instances; absent = what follows from nodes and contracts.
        instances: Option<u32>,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// The claim, unless the fact is about a quota.
    pub fn claim(&self) -> Option<&ClaimId> {
        match self {
            Event::Created { claim, .. }
            | Event::Resized { claim, .. }
            | Event::Granted { claim, .. }
            | Event::Bound { claim, .. }
            | Event::Filled { claim, .. }
            | Event::Released { claim, .. }
            | Event::Deleted { claim, .. } => Some(claim),
            Event::QuotaSet { .. } => None,
        }
    }
}
