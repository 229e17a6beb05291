//! Commands about capacity claims and quotas.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{ClaimId, OrganizationId};

use crate::words::claim::Spec;
use crate::words::quota::QuotaKey;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a new one.
    Create {
        /// Its id.
        id: ClaimId,
        /// For whom.
        organization: OrganizationId,
        /// What.
        spec: Spec,
    },
    /// The whole spec anew; only the count may differ.
    Replace {
        /// Which.
        id: ClaimId,
        /// What.
        spec: Spec,
    },
    /// Give all instances back.
    Delete {
        /// Which.
        id: ClaimId,
    },
    /// How many instances an organization's CUSTOMER claims may take in a zone.
    SetQuota {
        /// Of what.
        quota: QuotaKey,
        /// How many; absent = what follows from nodes and contracts.
        instances: Option<u32>,
    },
}
