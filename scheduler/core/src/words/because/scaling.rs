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
    /// It had none, and a request is there.
    Woken,
    /// The load is more than the count is meant for.
    DemandAboveTarget,
    /// The load has been less for a whole delay.
    DemandBelowTarget,
    /// The load is what the count is meant for.
    WithinTarget,
    /// The load wants more than its max.
    AtMax,
    /// The load is less, and the delay is not over.
    WaitingForScaleDownDelay,
    /// Nothing is known of the load: that takes no replica away.
    NoReading,
}

impl DesiredBecause {
    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            DesiredBecause::New => "new",
            DesiredBecause::AtMin => "at_min",
            DesiredBecause::Disabled => "disabled",
            DesiredBecause::Deleted => "deleted",
            DesiredBecause::Woken => "woken",
            DesiredBecause::DemandAboveTarget => "demand_above_target",
            DesiredBecause::DemandBelowTarget => "demand_below_target",
            DesiredBecause::WithinTarget => "within_target",
            DesiredBecause::AtMax => "at_max",
            DesiredBecause::WaitingForScaleDownDelay => "waiting_for_scale_down_delay",
            DesiredBecause::NoReading => "no_reading",
        }
    }
}

/// What the number of replicas is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Requests in flight, those that wait included.
    Requests,
    /// Tokens in flight.
    Tokens,
}

/// How many replicas the load alone wants, and by which target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// How many.
    pub replicas: u32,
    /// Measured against what.
    pub target: Target,
}

impl std::fmt::Display for DesiredBecause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            DesiredBecause::New => "it was just made",
            DesiredBecause::AtMin => "its min is wanted",
            DesiredBecause::Disabled => "it is switched off",
            DesiredBecause::Deleted => "it was deleted",
            DesiredBecause::Woken => "a request is there and it had none",
            DesiredBecause::DemandAboveTarget => "the load is above the target",
            DesiredBecause::DemandBelowTarget => "the load has been below the target for the delay",
            DesiredBecause::WithinTarget => "the load is within the target",
            DesiredBecause::AtMax => "the load wants more than its max",
            DesiredBecause::WaitingForScaleDownDelay => "the delay before fewer is not over",
            DesiredBecause::NoReading => "nothing is known of the load",
        })
    }
}
