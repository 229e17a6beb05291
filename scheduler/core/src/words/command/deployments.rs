//! Commands about deployments.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};

use crate::words::deployment::{ScalingPatch, Spec};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a new one.
    Create {
        /// Its id: the client's or a fresh UUID.
        id: DeploymentId,
        /// For whom: the caller's, or any when the provider asks.
        organization: OrganizationId,
        /// What.
        spec: Arc<Spec>,
    },
    /// CoreWeave's PATCH: the whole spec anew (name fixed; DNS merged elsewhere).
    Replace {
        /// Which.
        id: DeploymentId,
        /// What.
        spec: Arc<Spec>,
    },
    /// Baseten's PATCH: only what is present changes.
    Settings {
        /// Which.
        id: DeploymentId,
        /// What changes.
        patch: ScalingPatch,
    },
    /// Remove it and its replicas.
    Delete {
        /// Which.
        id: DeploymentId,
    },
    /// End one replica; it is replaced if the deployment wants it.
    Terminate {
        /// Which.
        replica: ReplicaId,
    },
}
