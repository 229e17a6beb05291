//! Where the scheduler's clock stands on the host's boot-time clock.
//!
//! Guards the rule that deadlines of the scheduler are kept on a clock that nobody can set: an
//! instant is mapped once, when it is first heard.

use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

/// The narrowest known bounds of the offset: those of the answer with the smallest delay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulerClock {
    best: Option<Bounds>,
}

/// The true offset lies between the earliest start and the end of an answer's way.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: ClockOffset,
    high: ClockOffset,
}

impl SchedulerClock {
    /// An answer that said `wall` came at `now`; it had left at `left_at` at the earliest: when what
    /// it answers was sent, and as much later as that was held.
    ///
    /// Kept bounds that no longer meet those of an answer show that the scheduler's clock was set
    /// (or that one of the two drifts): the new ones replace them however long the answer took.
    /// Where they meet, the narrower ones are better however lopsided the longer way was.
    pub fn hear(&mut self, left_at: Boottime, now: Boottime, wall: Timestamp) {
        let low = ClockOffset::between(wall, now);
        let heard = Bounds { low, high: ClockOffset::between(wall, left_at) };
        if let Some(kept) = self.best
            && kept.meets(heard)
            && kept.width() <= heard.width()
        {
            return;
        }
        self.best = Some(heard);
    }

    /// The host's instant of `wall`; nothing before the first answer.
    pub fn boottime(&self, wall: Timestamp) -> Option<Boottime> {
        self.best.map(|bounds| bounds.middle().boottime(wall))
    }
}

impl Bounds {
    fn meets(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    fn width(self) -> i64 {
        self.high.0.saturating_sub(self.low.0)
    }

    fn middle(self) -> ClockOffset {
        ClockOffset(self.low.0.saturating_add(self.width() / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_wins_until_the_clock_is_set() {
        let mut clock = SchedulerClock::default();
        assert_eq!(clock.boottime(Timestamp(10_000)), None);
        // Quick: the scheduler's 1,000,000 is the host's 1,010.
        clock.hear(Boottime(1_000), Boottime(1_020), Timestamp(1_000_000));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_010)));
        // Held open for five seconds: nothing better is learnt from it.
        clock.hear(Boottime(2_000), Boottime(7_000), Timestamp(1_005_980));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_010)));
        // Three seconds up and none down: the quick answer's bounds still meet these, and stay.
        clock.hear(Boottime(7_000), Boottime(10_003), Timestamp(1_008_995));
        assert_eq!(clock.boottime(Timestamp(1_000_000)), Some(Boottime(1_010)));
        // The scheduler's clock was set an hour ahead.
        clock.hear(Boottime(8_000), Boottime(8_100), Timestamp(4_607_000));
        assert_eq!(clock.boottime(Timestamp(4_607_000)), Some(Boottime(8_050)));
    }
}
