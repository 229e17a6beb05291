//! What is counted of requests: how long they took, and what became of them. Its size does not grow
//! with their number.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// Slices of time that figures are kept for.
pub const SLICES: usize = 120;

/// Kinds of failures told apart; what comes after them is `other`.
const MOST_KINDS: usize = 16;

/// So much later than it was due a request is late.
const LATE: Duration = Duration::from_millis(100);

/// Steps within each power of two: one is less than a hundredth of the value.
const STEPS: u64 = 128;

/// Times in steps of less than one percent.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    steps: BTreeMap<u64, u64>,
    count: u64,
    longest: u64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, length: Duration) {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        *self.steps.entry(step_of(micros)).or_default() += 1;
        self.count += 1;
        self.longest = self.longest.max(micros);
    }

    /// The time within which so many of a thousand came to their end; nothing where none did.
    pub fn permille(&self, permille: u64) -> Option<Duration> {
        let rank = (self.count * permille).div_ceil(1_000).max(1);
        let mut before = 0;
        let mut steps = self.steps.iter();
        let (step, _) = steps.find(|(_, count)| {
            before += **count;
            before >= rank
        })?;
        Some(Duration::from_micros(top_of(*step).min(self.longest)))
    }

    fn shown(&self) -> Value {
        let ms = |length: Option<Duration>| length.map(millis);
        json!({
            "p50": ms(self.permille(500)),
            "p90": ms(self.permille(900)),
            "p99": ms(self.permille(990)),
            "max": ms((self.count > 0).then(|| Duration::from_micros(self.longest))),
        })
    }
}

/// Milliseconds with one decimal.
fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 10_000.0).round() / 10.0
}

fn step_of(micros: u64) -> u64 {
    if micros < STEPS {
        return micros;
    }
    let power = u64::from(micros.ilog2()) - u64::from(STEPS.ilog2());
    (power + 1) * STEPS + (micros >> power) - STEPS
}

/// The largest value of a step.
fn top_of(step: u64) -> u64 {
    if step < STEPS {
        return step;
    }
    let power = step / STEPS - 1;
    (((step % STEPS + STEPS + 1) as u128) << power).saturating_sub(1).min(u64::MAX.into()) as u64
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer came.
    Completed {
        /// From sending to the first byte of the answer.
        first_byte: Duration,
        /// From sending to its end.
        total: Duration,
    },
    /// No answer began; the kind of failure.
    Failed(String),
    /// An answer began and did not come to its end.
    Cut,
}

/// One slice of time, by when requests were sent.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Requests sent.
    pub sent: u64,
    /// Of them, those without an answer.
    pub failed: u64,
    /// Of them, those that were cut.
    pub cut: u64,
    /// How long the whole answers took.
    pub total: Histogram,
}

/// Everything that is counted of requests.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Slices of the rehearsal.
    pub slices: Vec<Slice>,
    /// How long one is.
    pub slice: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Whole answers.
    pub completed: u64,
    /// Answers that did not come to their end.
    pub cut: u64,
    /// Requests sent later than they were due: as many as may be were under way.
    pub late: u64,
    failures: BTreeMap<String, u64>,
    first_byte: Histogram,
    total: Histogram,
}

impl Tally {
    /// For a rehearsal of this length.
    pub fn new(length: Duration) -> Self {
        let slice = (length / SLICES as u32).max(Duration::from_secs(1));
        Self {
            slices: vec![Slice::default(); SLICES],
            slice,
            sent: 0,
            completed: 0,
            cut: 0,
            late: 0,
            failures: BTreeMap::new(),
            first_byte: Histogram::default(),
            total: Histogram::default(),
        }
    }

    /// One is sent, so long after the beginning and so long after it was due.
    pub fn send(&mut self, at: Duration, behind: Duration) {
        self.sent += 1;
        self.late += u64::from(behind > LATE);
        self.slice_at(at).sent += 1;
    }

    /// What became of the one that was sent then.
    pub fn end(&mut self, sent_at: Duration, outcome: &Outcome) {
        match outcome {
            Outcome::Completed { first_byte, total } => {
                self.completed += 1;
                self.first_byte.add(*first_byte);
                self.total.add(*total);
                self.slice_at(sent_at).total.add(*total);
            }
            Outcome::Failed(kind) => {
                let room = self.failures.len() < MOST_KINDS || self.failures.contains_key(kind);
                let kind = if room { kind.as_str() } else { "other" };
                *self.failures.entry(kind.to_owned()).or_default() += 1;
                self.slice_at(sent_at).failed += 1;
            }
            Outcome::Cut => {
                self.cut += 1;
                self.slice_at(sent_at).cut += 1;
            }
        }
    }

    /// Requests without an answer.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Requests of which nothing is known yet.
    pub fn open(&self) -> u64 {
        self.sent - self.completed - self.cut - self.failed()
    }

    /// What became of requests.
    pub fn requests(&self) -> Value {
        json!({
            "sent": self.sent,
            "completed": self.completed,
            "failed": self.failed(),
            "cut": self.cut,
            "unfinished": self.open(),
            "late": self.late,
            "failures": self.failures,
        })
    }

    /// How long whole answers took.
    pub fn latency(&self) -> Value {
        json!({"first_byte": self.first_byte.shown(), "total": self.total.shown()})
    }

    fn slice_at(&mut self, at: Duration) -> &mut Slice {
        let number = (at.as_secs_f64() / self.slice.as_secs_f64()) as usize;
        &mut self.slices[number.min(SLICES - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Histogram, Outcome, SLICES, Tally, step_of, top_of};

    #[test]
    fn a_time_is_found_again_within_a_hundredth() {
        for micros in [0, 1, 127, 128, 129, 1_000, 65_535, 65_536, 12_345_678, u64::MAX / 2] {
            let (step, top) = (step_of(micros), top_of(step_of(micros)));
            assert!(top >= micros && top - micros <= micros / 100, "{micros} {step} {top}");
            assert_eq!(step_of(top), step, "{micros}");
            assert_eq!(step_of(top + 1), step + 1, "{micros}: steps leave no gap");
        }
        let mut all = Histogram::default();
        assert_eq!(all.permille(500), None, "nothing was measured");
        for ms in 1..=1_000 {
            all.add(Duration::from_millis(ms));
        }
        for permille in [500, 900, 990, 1_000] {
            let found = all.permille(permille).map(|found| found.as_millis() as u64).unwrap_or(0);
            assert!(found.abs_diff(permille) <= permille / 100, "{permille}: {found}");
        }
    }

    #[test]
    fn every_request_is_counted_once_whatever_became_of_it() {
        let mut tally = Tally::new(Duration::from_secs(240));
        let second = Duration::from_secs(1);
        for at in 0..40 {
            tally.send(second * at, Duration::from_millis(if at == 7 { 200 } else { 0 }));
        }
        tally.end(second, &Outcome::Completed { first_byte: second, total: second * 2 });
        tally.end(second * 10_000, &Outcome::Cut);
        for kind in 0..30 {
            tally.end(second, &Outcome::Failed(format!("HTTP {kind}")));
        }
        let told = tally.requests();
        let keys = ["sent", "completed", "failed", "cut", "unfinished", "late"];
        assert_eq!(keys.map(|key| told[key].as_u64()), [40, 1, 30, 1, 8, 1].map(Some));
        assert_eq!(told["failures"]["other"], 14, "kinds are bounded: {told}");
        let slices = (&tally.slices[0], &tally.slices[SLICES - 1]);
        assert_eq!((slices.0.sent, slices.0.failed, slices.1.cut), (2, 30, 1));
    }
}
