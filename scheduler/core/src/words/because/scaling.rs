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
    /// Offered work.
    Work,
}

/// An exact mean: `amount / weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mean {
    /// What was counted.
    pub amount: u64,
    /// Over how much; at least 1.
    pub weight: u64,
}

impl Mean {
    /// So many, neither more nor less.
    pub fn of(amount: u64) -> Self {
        Self { amount, weight: 1 }
    }

    /// The mean in thousandths, rounded up, for people.
    pub fn thousandths(self) -> u64 {
        let exact = (u128::from(self.amount) * 1000).div_ceil(u128::from(self.weight.max(1)));
        u64::try_from(exact).unwrap_or(u64::MAX)
    }
}

/// Requests of one deployment at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// At replicas.
    pub in_flight: u32,
    /// In queues.
    pub queued: u32,
    /// Waiting for a first replica.
    pub parked: u32,
}

impl Requests {
    /// All of them.
    pub fn all(self) -> u64 {
        u64::from(self.in_flight) + u64::from(self.queued) + u64::from(self.parked)
    }

    /// These and others.
    pub fn and(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight.saturating_add(other.in_flight),
            queued: self.queued.saturating_add(other.queued),
            parked: self.parked.saturating_add(other.parked),
        }
    }
}

/// What a decision was made on: kept with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaledOn {
    /// What was there at that instant.
    pub requests: Requests,
    /// The mean over the window.
    pub mean: Option<Mean>,
    /// What the load alone wanted.
    pub wish: Option<Wish>,
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
