//! Facts about deployments.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::because::scaling::{DesiredBecause, ScaledOn};
use crate::words::deployment::{Scaling, Spec};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made.
    Created {
        /// Which.
        deployment: DeploymentId,
        /// Whose.
        organization: OrganizationId,
        /// What.
        spec: Arc<Spec>,
        /// When.
        at: Timestamp,
    },
    /// Its spec was replaced.
    Replaced {
        /// Which.
        deployment: DeploymentId,
        /// What it is now.
        spec: Arc<Spec>,
        /// Raised when running replicas must be replaced for it.
        revision: u32,
        /// When.
        at: Timestamp,
    },
    /// Its scaling settings changed.
    SettingsChanged {
        /// Which.
        deployment: DeploymentId,
        /// What they are now.
        scaling: Scaling,
        /// When.
        at: Timestamp,
    },
    /// It is to have so many replicas.
    Scaled {
        /// Which.
        deployment: DeploymentId,
        /// How many.
        desired: u32,
        /// Why.
        because: DesiredBecause,
        /// What was seen of the load, where that decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<ScaledOn>,
        /// When.
        at: Timestamp,
    },
    /// A replica failed: the next one waits.
    BackedOff {
        /// Which.
        deployment: DeploymentId,
        /// Failures in a row.
        failures: u32,
        /// Until when no new replica is made.
        until: Timestamp,
    },
    /// It was deleted; its replicas leave.
    Deleted {
        /// Which.
        deployment: DeploymentId,
        /// When.
        at: Timestamp,
    },
    /// The last replica of a deleted deployment is gone.
    Removed {
        /// Which.
        deployment: DeploymentId,
    },
}

impl Event {
    /// The deployment.
    pub fn deployment(&self) -> &DeploymentId {
        match self {
            Event::Created { deployment, .. }
            | Event::Replaced { deployment, .. }
            | Event::SettingsChanged { deployment, .. }
            | Event::Scaled { deployment, .. }
            | Event::BackedOff { deployment, .. }
            | Event::Deleted { deployment, .. }
            | Event::Removed { deployment } => deployment,
        }
    }
}
