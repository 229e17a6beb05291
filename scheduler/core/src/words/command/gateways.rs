//! Commands about gateway resources.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GatewayId, OrganizationId};

use crate::words::gateway::Spec;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a new one.
    Create {
        /// Its id.
        id: GatewayId,
        /// For whom.
        organization: OrganizationId,
        /// What.
        spec: Spec,
    },
    /// The whole spec anew (name fixed, additional DNS merged).
    Replace {
        /// Which.
        id: GatewayId,
        /// What.
        spec: Spec,
    },
    /// Remove it; refused while deployments name it.
    Delete {
        /// Which.
        id: GatewayId,
    },
}
