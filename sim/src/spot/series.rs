//! One zone's spot capacity over time, as it was recorded: when each instance was there.

use std::collections::BTreeMap;

use wharfage_shared::time::Millis;

use crate::rng::Rng;
use crate::table::{BadTrace, Table};

/// The longest series that is read, in seconds: a year.
const LONGEST: u64 = 366 * 86_400;
/// The most instances that a series may show at once.
const MOST_INSTANCES: u64 = 1_000;

/// How many instances there were, from each instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    counts: BTreeMap<u64, u64>,
}

/// One instance: from when to when it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub from: Millis,
    pub to: Millis,
}

impl Series {
    /// Reads one series of a file of many (columns `series`, `t_seconds`, `count`).
    pub fn read(file: &str, text: &str, series: &str) -> Result<Self, BadTrace> {
        let mut counts = BTreeMap::new();
        for row in Table::new(file, text, &["series", "t_seconds", "count"])? {
            if row.text(0) == series {
                counts.insert(row.number(1, LONGEST)?, row.number(2, MOST_INSTANCES)?);
            }
        }
        if counts.len() < 2 {
            let what = format!("there is no series `{series}` with a beginning and an end");
            return Err(BadTrace::Empty { file: file.to_owned(), what });
        }
        Ok(Self { counts })
    }

    /// The most instances at once.
    pub fn most(&self) -> u64 {
        self.counts.values().copied().max().unwrap_or_default()
    }

    /// How long it was recorded, at most `most`.
    pub fn length(&self, most: Millis) -> Millis {
        let first = self.counts.keys().next().copied().unwrap_or_default();
        let last = self.counts.keys().next_back().copied().unwrap_or_default();
        Millis::from_seconds(last - first).min(most)
    }

    /// Every instance of the first `length`, in the order of their beginnings. Which of those that
    /// were there went is not recorded: chance decides.
    pub(super) fn instances(&self, length: Millis, seed: u64) -> Vec<Instance> {
        let mut rng = Rng::new(seed);
        let first = self.counts.keys().next().copied().unwrap_or_default();
        let (mut here, mut gone): (Vec<Millis>, Vec<Instance>) = (Vec::new(), Vec::new());
        for (at, count) in &self.counts {
            let at = Millis::from_seconds(at - first);
            if at >= length {
                break;
            }
            while (here.len() as u64) < *count {
                here.push(at);
            }
            while here.len() as u64 > *count {
                let which = rng.between(0, here.len() as u64 - 1) as usize;
                gone.push(Instance { from: here.swap_remove(which), to: at });
            }
        }
        gone.extend(here.into_iter().map(|from| Instance { from, to: length }));
        gone.sort_by_key(|instance| (instance.from, instance.to));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "series,zone,t_seconds,count,delta,event\n\
                          a,z,0,2,0,start\na,z,100,1,-1,preempted\na,z,150,2,1,launched\n\
                          b,z,0,9,0,start\na,z,400,2,0,end\n";

    #[test]
    fn an_instance_is_there_from_its_launch_to_its_preemption() {
        let series = Series::read("events.csv", EVENTS, "a").expect("a good file");
        let seconds = |instances: Vec<Instance>| -> Vec<(u64, u64)> {
            instances.iter().map(|of| (of.from.0 / 1000, of.to.0 / 1000)).collect()
        };
        let whole = series.length(Millis(u64::MAX));
        assert_eq!(whole, Millis::from_seconds(400));
        assert_eq!(seconds(series.instances(whole, 1)), [(0, 100), (0, 400), (150, 400)]);
        let part = Millis::from_seconds(120);
        assert_eq!(seconds(series.instances(part, 1)), [(0, 100), (0, 120)]);
        assert_eq!(series.most(), 2);
    }

    #[test]
    fn a_bad_file_is_refused_with_what_is_wrong_in_it() {
        let cases = [
            (
                EVENTS.replace("t_seconds", "t"),
                "a",
                "events.csv: line 1: there is no column `t_seconds`",
            ),
            (EVENTS.replace("100,1", "x,1"), "a", "events.csv: line 3: t_seconds is `x`"),
            (EVENTS.replace("100,1", "100,-1"), "a", "events.csv: line 3: count is `-1`"),
            (EVENTS.to_owned(), "c", "there is no series `c`"),
            (EVENTS.to_owned(), "b", "there is no series `b` with a beginning and an end"),
        ];
        for (text, series, words) in cases {
            let error = Series::read("events.csv", &text, series).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
