//! The scheduler's clock: it never goes back and never jumps while the process lives.
//!
//! A step of the host's wall clock (a wrong hand, a bad time server) must move no deadline and no
//! billed second. So the clock runs on the host's boot-time clock, which nobody can step and which
//! counts suspended time, and leans towards the wall clock so slowly that no one notices.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use wharfage_shared::time::Timestamp;

/// The lean towards the wall clock: one part in two thousand, what time servers slew with.
const SLEW: i64 = 2000;

/// Read by everybody, moved by reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    slewed: Arc<Mutex<Slewed>>,
}

impl Clock {
    /// Starts at the wall clock, or at `floor` (the last record's instant) if that is later.
    pub fn start(floor: Timestamp) -> Self {
        let slewed = Slewed::start(boottime_micros(), wall_micros(), floor);
        Self { slewed: Arc::new(Mutex::new(slewed)) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let mut slewed = self.slewed.lock().unwrap_or_else(PoisonError::into_inner);
        slewed.read(boottime_micros(), wall_micros())
    }
}

/// Unix microseconds as the host has them.
fn wall_micros() -> i64 {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    wall.unwrap_or(i64::MAX)
}

fn boottime_micros() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

/// The arithmetic, told both clocks in microseconds.
#[derive(Debug)]
struct Slewed {
    steady: i64,
    shown: i64,
}

impl Slewed {
    fn start(steady: i64, wall: i64, floor: Timestamp) -> Self {
        Self { steady, shown: wall.max(floor.0.saturating_mul(1000)) }
    }

    fn read(&mut self, steady: i64, wall: i64) -> Timestamp {
        let passed = steady.saturating_sub(self.steady).max(0);
        let unleaned = self.shown.saturating_add(passed);
        let most = passed / SLEW;
        let lean = wall.saturating_sub(unleaned).clamp(-most, most);
        // A lean needs time to pass: without it frequent readers would never lean at all.
        if most > 0 {
            self.steady = steady;
            self.shown = unleaned.saturating_add(lean);
        }
        Timestamp(unleaned.saturating_add(lean).div_euclid(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// The readings at each (boot time, wall) in seconds, from a start at wall 1000.
    fn story(steps: &[(i64, i64)]) -> Vec<i64> {
        let mut clock = Slewed::start(0, 1000 * SECOND, Timestamp(0));
        steps.iter().map(|(at, wall)| clock.read(at * SECOND, wall * SECOND).0).collect()
    }

    #[test]
    fn it_follows_a_wall_clock_that_is_right() {
        assert_eq!(story(&[(1, 1001), (2, 1002)]), [1_001_000, 1_002_000]);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_it_by_one_part_in_two_thousand() {
        let forward = story(&[(1, 1001), (2, 1002 + 3600), (3, 1003 + 3600)]);
        assert_eq!(forward, [1_001_000, 1_002_000, 1_003_001]);
        let back = story(&[(2, 1002 - 3600), (4, 1004 - 3600), (2004, 3004 - 3600)]);
        assert_eq!(back, [1_001_999, 1_003_998, 3_002_998]);
    }

    #[test]
    fn it_never_starts_before_the_last_record() {
        let mut clock = Slewed::start(0, 1000 * SECOND, Timestamp(5_000_000));
        assert_eq!(clock.read(0, 1000 * SECOND), Timestamp(5_000_000));
        assert_eq!(clock.read(2 * SECOND, 1002 * SECOND), Timestamp(5_001_999));
    }

    #[test]
    fn it_never_goes_back_whatever_the_wall_clock_does() {
        let mut clock = Slewed::start(0, 0, Timestamp(0));
        let mut last = Timestamp(0);
        for step in 0..20_000 {
            let wall = (step * 7919) % 1_000_003 * 1000;
            let now = clock.read(step * 137, wall);
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
        }
    }
}
