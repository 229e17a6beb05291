//! Why a deployment is to have so many replicas.

use serde::{Deserialize, Serialize};

/// The reason, shown wherever the number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredBecause {
    /// It was just made.
    New,
    /// Its fewest are wanted.
    AtMin,
    /// It is switched off.
    Disabled,
    /// It was deleted.
    Deleted,
}

impl std::fmt::Display for DesiredBecause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            DesiredBecause::New => "it was just made",
            DesiredBecause::AtMin => "its min is wanted",
            DesiredBecause::Disabled => "it is switched off",
            DesiredBecause::Deleted => "it was deleted",
        })
    }
}
