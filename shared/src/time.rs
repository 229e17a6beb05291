//! Two clocks that are never mixed: the scheduler's wall clock and a host's boot-time clock.
//!
//! Money and people use [`Timestamp`]; leases and segments use [`Boottime`], which no clock step
//! can move.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An instant on the scheduler's clock: milliseconds since 1970 in UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// An instant on one host's `CLOCK_BOOTTIME`, in milliseconds; runs on through suspend.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Boottime(pub u64);

/// A length of time in milliseconds, never negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// So many whole seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Seconds, for people.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            f.pad(&format!("{}s", self.0 / 1000))
        } else {
            f.pad(&format!("{:.3}s", self.as_seconds()))
        }
    }
}

impl Timestamp {
    /// How long `earlier` lies back; zero when it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// So much earlier.
    pub fn minus(self, length: Millis) -> Self {
        Self(self.0.saturating_sub_unsigned(length.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add_unsigned(length.0))
    }
}

impl Boottime {
    /// How long `earlier` lies back; zero when it lies ahead.
    pub fn since(self, earlier: Boottime) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// So much earlier, not before the boot.
    pub fn minus(self, length: Millis) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

impl Add<Millis> for Boottime {
    type Output = Self;

    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Self;

    /// The difference, zero when `other` is longer.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// What a host's boot-time clock must be moved by to give the scheduler's wall clock:
/// `wall = boottime + offset`. A fact of the log, one per (node, boot), with each later step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockOffset(pub i64);

impl ClockOffset {
    /// The offset that makes `at` on the host equal `wall` here.
    pub fn between(wall: Timestamp, at: Boottime) -> Self {
        Self(wall.0.saturating_sub_unsigned(at.0))
    }

    /// The wall-clock instant of `at`.
    pub fn wall(self, at: Boottime) -> Timestamp {
        Timestamp(self.0.saturating_add_unsigned(at.0))
    }

    /// The host's instant of `wall`; the boot itself when it lies before it.
    pub fn boottime(self, wall: Timestamp) -> Boottime {
        Boottime(u64::try_from(wall.0.saturating_sub(self.0)).unwrap_or(0))
    }
}
