//! What can be asked of the controller, resource by resource, and what it answers.

pub mod access;
pub mod claims;
pub mod deployments;
pub mod drills;
pub mod gateways;
pub mod money;
pub mod nodes;

use serde::{Deserialize, Serialize};

use super::principal::Caller;

/// One command with its caller. Ids, secrets' hashes and other random things come in with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Who asks.
    pub caller: Caller,
    /// For what.
    pub action: Action,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Deployments.
    Deployment(deployments::Action),
    /// Gateway resources.
    Gateway(gateways::Action),
    /// Capacity claims and quotas.
    Claim(claims::Action),
    /// Drills.
    Drill(drills::Action),
    /// Nodes and pools.
    Node(nodes::Action),
    /// Contracts, prices, invoices.
    Money(money::Action),
    /// Organizations, tokens, joins.
    Access(access::Action),
}

/// What a command that was carried out answers; rows are read from the view that follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done (created, changed, deleted).
    Done,
    /// Baseten's answer to a change of scaling settings.
    Settings {
        /// Which word.
        status: SettingsStatus,
        /// Never empty.
        message: String,
    },
}

/// Baseten's words for what became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SettingsStatus {
    /// Being applied.
    Accepted,
    /// Will be applied after the rollout in progress.
    Queued,
    /// The resulting settings are the current ones.
    Unchanged,
}
