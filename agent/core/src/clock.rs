//! Where the scheduler's clock stands on the host's boot-time clock.
//!
//! Guards the rule that deadlines of the scheduler are kept on a clock that nobody can set: an
//! instant is mapped once, when it is first heard.

use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

/// How far apart two clocks may run, in parts of a million: what time daemons take a clock for that
/// still works.
const MOST_DRIFT_PPM: u64 = 500;

/// What all answers so far leave open of the offset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulerClock {
    known: Option<Bounds>,
}

/// The true offset lies between the earliest start and the end of an answer's way.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: ClockOffset,
    high: ClockOffset,
    at: Boottime,
}

impl SchedulerClock {
    /// An answer that said `wall` came at `now`; it had left at `left_at` at the earliest: when what
    /// it answers was sent, and as much later as that was held.
    ///
    /// Each answer narrows what is known, and between answers drift widens it again. Bounds that do
    /// not meet those of an answer show that the scheduler's clock was set: the new ones replace
    /// them however long the answer took.
    pub fn hear(&mut self, left_at: Boottime, now: Boottime, wall: Timestamp) {
        let low = ClockOffset::between(wall, now);
        let heard = Bounds { low, high: ClockOffset::between(wall, left_at), at: now };
        let known = self.known.and_then(|known| known.drifted(now).within(heard));
        self.known = Some(known.unwrap_or(heard));
    }

    /// The host's instant of `wall`; nothing before the first answer.
    pub fn boottime(&self, wall: Timestamp) -> Option<Boottime> {
        self.known.map(|bounds| bounds.middle().boottime(wall))
    }
}

impl Bounds {
    /// The same bounds later: rounded up, since instants are whole milliseconds.
    fn drifted(self, now: Boottime) -> Self {
        let most = now.since(self.at).0.saturating_mul(MOST_DRIFT_PPM).div_ceil(1_000_000);
        let low = ClockOffset(self.low.0.saturating_sub_unsigned(most));
        Self { low, high: ClockOffset(self.high.0.saturating_add_unsigned(most)), at: now }
    }

    /// What both leave open; nothing where they contradict each other.
    fn within(self, other: Self) -> Option<Self> {
        let low = self.low.max(other.low);
        let high = self.high.min(other.high);
        (low <= high).then_some(Self { low, high, at: self.at })
    }

    fn middle(self) -> ClockOffset {
        let width = self.high.0.saturating_sub(self.low.0);
        ClockOffset(self.low.0.saturating_add(width / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_narrows_what_is_known_until_the_clock_is_set() {
        let mut clock = SchedulerClock::default();
        assert_eq!(clock.boottime(Timestamp(10_000)), None);
        // Quick: the scheduler's 1,000,000 is the host's 1,000 to 1,020.
        clock.hear(Boottime(1_000), Boottime(1_020), Timestamp(1_000_000));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_010)));
        // Five seconds on the way: it was 1,020 at the latest, whatever the drift since.
        clock.hear(Boottime(2_000), Boottime(7_000), Timestamp(1_005_980));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_009)));
        // Three seconds up and none down: it was 1,008 at the latest.
        clock.hear(Boottime(7_000), Boottime(10_003), Timestamp(1_008_995));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_002)));
        // The scheduler's clock was set an hour ahead.
        clock.hear(Boottime(8_000), Boottime(10_100), Timestamp(4_609_000));
        assert_eq!(clock.boottime(Timestamp(4_609_000)), Some(Boottime(9_050)));
    }

    #[test]
    fn a_slow_answer_does_not_spoil_what_quick_ones_told_though_the_clocks_drift() {
        let mut clock = SchedulerClock::default();
        // The host's clock loses 200 in a million: 20 ms in 100 s, more than the way took.
        clock.hear(Boottime(0), Boottime(2), Timestamp(1_000_001));
        // Twelve seconds up, one millisecond down.
        clock.hear(Boottime(87_980), Boottime(99_981), Timestamp(1_100_000));
        let known = clock.boottime(Timestamp(1_110_000)).expect("known");
        assert!(known.0.abs_diff(109_980) <= 60, "{known:?}");
    }
}
