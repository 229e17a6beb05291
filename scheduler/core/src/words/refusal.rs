//! Why a command was not carried out: the caller can act, nothing changed.

use serde::{Deserialize, Serialize};

/// The kinds of things that commands name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A deployment.
    Deployment,
    /// A gateway resource.
    Gateway,
    /// A capacity claim.
    CapacityClaim,
    /// A node.
    Node,
    /// A drill.
    Drill,
    /// A pool.
    Pool,
    /// A replica.
    Replica,
    /// An organization.
    Organization,
    /// A token.
    Token,
    /// A join.
    Join,
    /// A contract.
    Contract,
    /// An invoice.
    Invoice,
    /// The brake of a health rule.
    Brake,
}

impl Kind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deployment => "deployment",
            Kind::Gateway => "gateway",
            Kind::CapacityClaim => "capacityClaim",
            Kind::Node => "node",
            Kind::Drill => "drill",
            Kind::Pool => "pool",
            Kind::Replica => "replica",
            Kind::Organization => "organization",
            Kind::Token => "token",
            Kind::Join => "join",
            Kind::Contract => "contract",
            Kind::Invoice => "invoice",
            Kind::Brake => "brake",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One field that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The field as the client wrote it (`autoscaling.max`).
    pub field: String,
    /// What was wrong and what is accepted.
    pub description: String,
}

/// A command that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Another organization's things do not exist for the caller either.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// Of what kind.
        kind: Kind,
        /// What was asked for.
        id: String,
    },
    /// The name or id is in use.
    #[error("a {kind} named `{name}` exists already")]
    NameTaken {
        /// Of what kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// Fields that cannot be taken as they are.
    #[error("{}", .violations.iter().map(|v| format!("{}: {}", v.field, v.description))
        .collect::<Vec<_>>().join("; "))]
    Invalid {
        /// Field by field.
        violations: Vec<Violation>,
    },
    /// It cannot be done in the state that things are in.
    #[error("{description}")]
    Precondition {
        /// What it is about.
        subject: String,
        /// Why not, and what to do.
        description: String,
    },
    /// There is not enough.
    #[error("{description}")]
    Exhausted {
        /// Of what.
        subject: String,
        /// How much there is and how much was asked for.
        description: String,
    },
    /// The caller's token does not allow it.
    #[error("{description}")]
    Forbidden {
        /// What is needed.
        description: String,
    },
}

impl Refusal {
    /// One field, one sentence.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation { field: field.into(), description: description.into() };
        Refusal::Invalid { violations: vec![violation] }
    }
}
