//! Where the scheduler's clock stands on the host's boot-time clock.
//!
//! Guards the rule that deadlines of the scheduler are kept on a clock that nobody can set: an
//! instant is mapped once, when it is first heard.

use wharfage_shared::time::{Boottime, ClockOffset, Millis, Timestamp};

/// The best known offset: the one from the answer with the smallest delay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedulerClock {
    best: Option<(ClockOffset, Millis)>,
}

impl SchedulerClock {
    /// An answer that said `wall` came at `now` to what was sent at `sent_at`.
    ///
    /// The true offset lies between the two ends of the exchange. A kept one that does not shows
    /// that the scheduler's clock was set: the new sample replaces it however long it took.
    pub fn hear(&mut self, sent_at: Boottime, now: Boottime, wall: Timestamp) {
        let delay = now.since(sent_at);
        let possible = ClockOffset::between(wall, now)..=ClockOffset::between(wall, sent_at);
        if let Some((kept, kept_delay)) = self.best
            && possible.contains(&kept)
            && kept_delay <= delay
        {
            return;
        }
        self.best = Some((ClockOffset::between(wall, sent_at + Millis(delay.0 / 2)), delay));
    }

    /// The host's instant of `wall`; nothing before the first answer.
    pub fn boottime(&self, wall: Timestamp) -> Option<Boottime> {
        self.best.map(|(offset, _)| offset.boottime(wall))
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
        // The scheduler's clock was set an hour ahead.
        clock.hear(Boottime(8_000), Boottime(8_100), Timestamp(4_607_000));
        assert_eq!(clock.boottime(Timestamp(4_607_000)), Some(Boottime(8_050)));
    }
}
