//! A host's boot-time clock: starts with the boot, runs on whatever anybody sets, and may drift
//! against the scheduler's.

use wharfage_shared::time::{Boottime, Millis};

/// The clock of one boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    booted_at: Millis,
    shown_at_boot: u64,
    drift_ppm: i64,
}

impl HostClock {
    /// A clock that shows `shown` at `now` and then gains `drift_ppm` parts in a million.
    pub fn booted(now: Millis, shown: Millis, drift_ppm: i64) -> Self {
        Self { booted_at: now, shown_at_boot: shown.0, drift_ppm }
    }

    /// What it shows.
    pub fn at(&self, now: Millis) -> Boottime {
        let passed = (now - self.booted_at).0 as i64;
        let gained = passed * self.drift_ppm / 1_000_000;
        Boottime(self.shown_at_boot.saturating_add_signed(passed + gained))
    }

    /// The first instant at which it shows `at` or more.
    pub fn when(&self, at: Boottime) -> Millis {
        let shown = at.0.saturating_sub(self.shown_at_boot) as i128;
        let passed = (shown * 1_000_000 / i128::from(1_000_000 + self.drift_ppm)).max(0);
        let mut when = self.booted_at + Millis(u64::try_from(passed).unwrap_or(u64::MAX / 2));
        while self.at(when) < at {
            when = when + Millis(1);
        }
        when
    }

    /// How fast it runs.
    pub fn drift_ppm(&self) -> i64 {
        self.drift_ppm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_of_the_host_is_found_again_whatever_the_drift() {
        for drift in [-1000, 0, 1, 777, 10_000] {
            let clock = HostClock::booted(Millis(5_000), Millis(60_000), drift);
            for shown in [60_000, 60_001, 90_000, 3_600_000] {
                let when = clock.when(Boottime(shown));
                assert!(clock.at(when).0 >= shown);
                assert!(when == Millis(5_000) || clock.at(when - Millis(1)).0 < shown);
            }
        }
    }
}
