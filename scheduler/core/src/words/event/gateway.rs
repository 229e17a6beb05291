//! Facts about gateway resources and gateway processes.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{GatewayId, GatewayName, JoinId, OrganizationId};
use wharfage_shared::time::Timestamp;

use crate::words::gateway::Spec;

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A resource was made.
    Created {
        /// Which.
        gateway: GatewayId,
        /// Whose.
        organization: OrganizationId,
        /// What.
        spec: Spec,
        /// When.
        at: Timestamp,
    },
    /// A resource's spec was replaced.
    Replaced {
        /// Which.
        gateway: GatewayId,
        /// What it is now.
        spec: Spec,
        /// When.
        at: Timestamp,
    },
    /// A resource was deleted.
    Deleted {
        /// Which.
        gateway: GatewayId,
        /// When.
        at: Timestamp,
    },
    /// A process was admitted.
    Enrolled {
        /// Its name.
        name: GatewayName,
        /// The join that it presented.
        join: JoinId,
        /// SHA-256 of its public key.
        key: String,
        /// When.
        at: Timestamp,
    },
    /// A process is heard (again).
    Connected {
        /// Which.
        name: GatewayName,
        /// When.
        at: Timestamp,
    },
    /// A process's lease has ended: removals do not wait for it.
    Lapsed {
        /// Which.
        name: GatewayName,
        /// When.
        at: Timestamp,
    },
}
