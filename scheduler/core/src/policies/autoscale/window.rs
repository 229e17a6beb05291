//! The load of the last seconds: samples with their weights, and their exact mean.
//!
//! A sample belongs to the window `(t - W, t]`. At the start the mean is that of what there is.
//! Equal samples at equal distances are kept as one run, so that a load that does not change costs
//! a few words of memory however long the window is.

use std::collections::VecDeque;

use wharfage_shared::time::{Millis, Timestamp};

use crate::words::because::scaling::Mean;

/// Equal samples at equal distances.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    first: Timestamp,
    step: Millis,
    count: u32,
    amount: u64,
    weight: u64,
}

impl Run {
    fn last(&self) -> Timestamp {
        let steps = u64::from(self.count - 1);
        self.first + Millis(self.step.0.saturating_mul(steps))
    }

    /// Takes the sample in, if it continues the run.
    fn takes(&mut self, at: Timestamp, amount: u64, weight: u64) -> bool {
        let step = at.since(self.last());
        let continues = self.count == 1 || self.step == step;
        if amount != self.amount || weight != self.weight || !continues {
            return false;
        }
        self.step = step;
        self.count += 1;
        true
    }
}

/// Samples of one deployment's load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    runs: VecDeque<Run>,
    amount: u64,
    weight: u64,
}

impl Window {
    /// A window that was full of nothing up to now: `count` samples of zero at this distance, each
    /// of this weight.
    pub fn at_rest(now: Timestamp, step: Millis, count: u32, weight: u64) -> Self {
        if count == 0 {
            return Self::default();
        }
        let back = Millis(step.0.saturating_mul(u64::from(count - 1)));
        let run = Run { first: now.minus(back), step, count, amount: 0, weight };
        Self { runs: VecDeque::from([run]), amount: 0, weight: weight * u64::from(count) }
    }

    /// One more sample, not earlier than the one before it; its weight is at least 1.
    pub fn push(&mut self, at: Timestamp, amount: u64, weight: u64) {
        self.amount = self.amount.saturating_add(amount);
        self.weight = self.weight.saturating_add(weight);
        let continues = self.runs.back_mut().is_some_and(|run| run.takes(at, amount, weight));
        if !continues {
            self.runs.push_back(Run { first: at, step: Millis(0), count: 1, amount, weight });
        }
    }

    /// Forgets what is `length` old or older.
    pub fn forget(&mut self, now: Timestamp, length: Millis) {
        let edge = now.minus(length);
        while let Some(run) = self.runs.front_mut().filter(|run| run.first <= edge) {
            self.amount = self.amount.saturating_sub(run.amount);
            self.weight = self.weight.saturating_sub(run.weight);
            run.first = run.first + run.step;
            run.count -= 1;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// The mean of what there is; none without a sample.
    pub fn mean(&self) -> Option<Mean> {
        (self.weight > 0).then_some(Mean { amount: self.amount, weight: self.weight })
    }

    /// Whether everything in it is zero.
    pub fn is_quiet(&self) -> bool {
        self.amount == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn a_sample_counts_until_it_is_as_old_as_the_window_is_long() {
        let mut window = Window::default();
        assert_eq!(window.mean(), None);
        window.push(at(0), 60, 1);
        window.push(at(30), 0, 1);
        window.forget(at(59), Millis::from_seconds(60));
        assert_eq!(window.mean(), Some(Mean { amount: 60, weight: 2 }));
        window.forget(at(60), Millis::from_seconds(60));
        assert_eq!(window.mean(), Some(Mean { amount: 0, weight: 1 }));
        assert!(window.is_quiet());
    }

    #[test]
    fn a_load_that_does_not_change_is_one_run() {
        let mut window = Window::at_rest(at(0), Millis(1000), 60, 1000);
        for second in 1..=30 {
            window.push(at(second), 0, 1000);
        }
        for second in 31..=3000 {
            window.push(at(second), 7, 1000);
            window.forget(at(second), Millis::from_seconds(60));
        }
        assert_eq!(window.runs.len(), 1);
        assert_eq!(window.mean(), Some(Mean { amount: 420, weight: 60_000 }));
    }

    proptest! {
        #[test]
        fn the_mean_is_that_of_the_samples_in_the_window(
            samples in prop::collection::vec((0_i64..20, 0_u64..3, 1_u64..3), 1..80),
            length in 1_i64..120,
        ) {
            let (mut window, mut kept, mut now) = (Window::default(), Vec::new(), 0);
            for (gap, amount, weight) in samples {
                now += gap;
                window.push(at(now), amount, weight);
                kept.push((now, amount, weight));
                window.forget(at(now), Millis::from_seconds(length as u64));
                let inside = || kept.iter().filter(|(then, ..)| *then > now - length);
                let amount = inside().map(|(_, amount, _)| amount).sum();
                let weight = inside().map(|(_, _, weight)| weight).sum();
                prop_assert_eq!(window.mean(), Some(Mean { amount, weight }));
            }
        }
    }
}
