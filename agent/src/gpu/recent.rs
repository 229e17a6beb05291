//! What happened to a GPU within the last minutes, counted as NVIDIA's exporter counts it: XIDs one
//! by one, reasons that held its clocks down by the samples that showed them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wharfage_shared::time::{Boottime, Millis};

/// The exporter's own window.
pub const WINDOW: Millis = Millis::from_seconds(300);

/// The exporter samples this often: more looks of ours within one sample count once.
const SAMPLE: Millis = Millis::from_seconds(30);

/// XIDs kept; a GPU that tells more of them in a window is not worth a longer list.
const MOST_XIDS: usize = 1024;

/// What happened lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    xids: VecDeque<(Boottime, u32)>,
    /// The numbers of the samples that showed each reason.
    clocks: BTreeMap<String, BTreeSet<u64>>,
}

impl Recent {
    /// An XID came.
    pub(super) fn xid(&mut self, at: Boottime, xid: u32) {
        self.xids.retain(|(then, _)| at.since(*then) < WINDOW);
        if self.xids.len() == MOST_XIDS {
            self.xids.pop_front();
        }
        self.xids.push_back((at, xid));
    }

    /// These reasons held the clocks down.
    pub(super) fn held_down(&mut self, at: Boottime, reasons: &[String]) {
        let sample = at.0 / SAMPLE.0;
        let first = first_sample(at);
        self.clocks.retain(|_, samples| {
            samples.retain(|sample| *sample >= first);
            !samples.is_empty()
        });
        for reason in reasons {
            match self.clocks.get_mut(reason) {
                Some(samples) => drop(samples.insert(sample)),
                None => drop(self.clocks.insert(reason.clone(), BTreeSet::from([sample]))),
            }
        }
    }

    /// How many of each XID came within the window.
    pub fn xids(&self, now: Boottime) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        for (_, xid) in self.xids.iter().filter(|(at, _)| now.since(*at) < WINDOW) {
            *counts.entry(*xid).or_default() += 1;
        }
        counts
    }

    /// In how many samples of the window each reason was seen.
    pub fn clock_events(&self, now: Boottime) -> BTreeMap<String, u64> {
        let first = first_sample(now);
        let seen = self
            .clocks
            .iter()
            .map(|(reason, samples)| (reason.clone(), samples.range(first..).count() as u64));
        seen.filter(|(_, count)| *count > 0).collect()
    }
}

/// The first sample of the window that ends now.
fn first_sample(now: Boottime) -> u64 {
    (now.0 / SAMPLE.0).saturating_sub(WINDOW.0 / SAMPLE.0 - 1)
}

#[cfg(test)]
mod tests {
    use super::Recent;
    use wharfage_shared::time::Boottime;

    fn at(seconds: u64) -> Boottime {
        Boottime(seconds * 1000)
    }

    #[test]
    fn xids_count_for_five_minutes() {
        let mut recent = Recent::default();
        recent.xid(at(1000), 79);
        recent.xid(at(1100), 13);
        recent.xid(at(1100), 13);
        let said = |now| recent.xids(at(now)).into_iter().collect::<Vec<_>>();
        assert_eq!(said(1100), [(13, 2), (79, 1)]);
        assert_eq!(said(1300), [(13, 2)]);
        assert_eq!(said(1400), []);
    }

    #[test]
    fn a_reason_counts_once_in_each_sample() {
        let mut recent = Recent::default();
        for second in 0..90 {
            recent.held_down(at(3000 + second), &["sw_power_cap".to_owned()]);
        }
        recent.held_down(at(3090), &[]);
        let said = |now| recent.clock_events(at(now)).into_values().collect::<Vec<_>>();
        assert_eq!(said(3090), [3]);
        assert_eq!(said(3300), [2], "the first sample is older than five minutes");
        assert_eq!(said(3400), Vec::<u64>::new());
    }
}
