//! Work mode: as many replicas as the offered work needs, whatever queues while replicas load.
//!
//! Three terms, the largest wins. *Base*: with the offered work of the last quarter of an hour
//! (arrivals x mean service time, in slots) so many slots that the share of requests that find none
//! free stays small (Erlang's C), held for two minutes. *Forecast*: what will still wait when a
//! replica that is ordered now would serve, with those on their way counted in, is drained at once
//! then. *Backlog*: what is there stays while something waits for it. Integers throughout.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wharfage_shared::time::{Millis, Timestamp};

use crate::words::deployment::Scaling;

/// How far back the offered work is looked at.
const WINDOW: Millis = Millis::from_seconds(900);

/// How far back a step of the arrivals is looked at.
const SHORT: Millis = Millis::from_seconds(60);

/// The distance of samples.
pub const SAMPLE: Millis = Millis::from_seconds(5);

/// How long the base is held: one that comes and goes would be loaded again and again.
const HOLD: Millis = Millis::from_seconds(120);

/// What waits when new replicas serve is drained within this time: they go at once afterwards.
const DRAIN: Millis = Millis::from_seconds(2);

/// The mean service time while no request has ended yet.
const FIRST_SERVICE: Millis = Millis::from_seconds(5);

/// Fewer seconds of history say nothing about a rate.
const LEAST_SPAN: Millis = Millis::from_seconds(30);

/// The same of the arrivals of the last minute.
const LEAST_SHORT_SPAN: Millis = Millis::from_seconds(10);

/// The mean service time is that of about so many requests: one that still runs counts little.
const MANY_REQUESTS: u64 = 1024;

/// Above so many busy slots Erlang's sum is not worth its length: two deviations do as well.
const MANY_SLOTS: u64 = 1_000;

/// Fixed point of probabilities.
const ONE: u128 = 1_000_000_000;

/// What happened in one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Timestamp,
    arrivals: u64,
}

/// The history of one deployment's work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Since when arrivals are counted.
    since: Option<Timestamp>,
    /// Those with arrivals.
    samples: VecDeque<Sample>,
    arrivals: u64,
    bases: VecDeque<(Timestamp, u32)>,
    /// Requests that ended, and slots in use times milliseconds: what is old counts ever less.
    finished: u64,
    served: u64,
}

/// What stands and waits at the instant of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Requests that find no free slot.
    pub waiting: u64,
    /// Replicas that serve.
    pub ready: u32,
    /// Of each replica on its way, when it is expected to serve; in order.
    pub starting: &'a [Timestamp],
    /// How long a start takes.
    pub load: Millis,
}

/// The terms of a wish, for `scaling` to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Offered work, in thousandths of slots.
    pub offered_millislots: u64,
    /// Mean service time.
    pub service: Millis,
    /// Replicas for the offered work.
    pub base: u32,
    /// Replicas for what will wait when one that is ordered now would serve.
    pub forecast: u32,
    /// Replicas that stay for what waits.
    pub backlog: u32,
}

impl Terms {
    /// The largest.
    pub fn wish(&self) -> u32 {
        self.base.max(self.forecast).max(self.backlog)
    }
}

impl Work {
    /// The history of one that had no request since then.
    pub fn quiet_since(since: Option<Timestamp>) -> Self {
        Self { since, ..Self::default() }
    }

    /// Takes in what happened in the last `span`: arrivals, requests that ended, and slots in use
    /// times milliseconds.
    pub fn sample(&mut self, at: Timestamp, span: Millis, seen: (u64, u64, u64)) {
        let (arrivals, finished, served) = seen;
        self.finished = self.finished.saturating_add(finished);
        self.served = self.served.saturating_add(served);
        while self.finished > MANY_REQUESTS {
            (self.finished, self.served) = (self.finished / 2, self.served / 2);
        }
        if arrivals > 0 {
            // What nobody has looked at before the first request says nothing about its rate.
            self.since.get_or_insert(at.minus(span));
            self.samples.push_back(Sample { at, arrivals });
            self.arrivals = self.arrivals.saturating_add(arrivals);
        }
        let edge = at.minus(WINDOW);
        while let Some(old) = self.samples.front().copied().filter(|sample| sample.at <= edge) {
            self.arrivals = self.arrivals.saturating_sub(old.arrivals);
            self.samples.pop_front();
        }
    }

    /// How long arrivals have been counted, within a window.
    fn counted(&self, window: Millis, now: Timestamp) -> Millis {
        self.since.map_or(Millis(0), |since| now.since(since)).min(window)
    }

    /// The mean service time, as Little's law gives it.
    fn service(&self) -> Millis {
        let mean = self.served.checked_div(self.finished);
        mean.map_or(FIRST_SERVICE, |mean| Millis(mean.max(1)))
    }

    /// How many replicas the work wants, term by term.
    pub fn wish(&mut self, scaling: &Scaling, standing: Standing<'_>, now: Timestamp) -> Terms {
        let service = self.service();
        let slots = u64::from(scaling.concurrency);
        let offered = rate(self.arrivals, service, self.counted(WINDOW, now).max(LEAST_SPAN));
        let base = self.hold(base(scaling, offered), now);
        let flow = Flow { work: offered.max(self.step(service, now)), slots };
        let waits = standing.waiting.saturating_mul(service.0);
        let will_wait = flow.waits_after(waits, standing, now);
        let forecast = if will_wait > 0 { flow.drains(will_wait) } else { 0 };
        let here = standing.ready + u32::try_from(standing.starting.len()).unwrap_or(u32::MAX);
        let backlog = match (standing.waiting, standing.starting) {
            (0, _) => 0,
            (_, []) => flow.drains(waits).min(here),
            // They were ordered for it.
            (_, _) => here,
        };
        Terms { offered_millislots: offered, service, base, forecast, backlog }
    }

    /// The largest base of the last while.
    fn hold(&mut self, base: u32, now: Timestamp) -> u32 {
        let edge = now.minus(HOLD);
        self.bases.retain(|(at, _)| *at > edge);
        // A smaller one before a larger one never decides.
        while self.bases.back().is_some_and(|(_, before)| *before <= base) {
            self.bases.pop_back();
        }
        self.bases.push_back((now, base));
        self.bases.front().map_or(base, |(_, base)| *base)
    }

    /// The work of the last minute, as little as it may be by chance: one deviation below.
    fn step(&self, service: Millis, now: Timestamp) -> u64 {
        let edge = now.minus(SHORT);
        let late = self.samples.iter().rev().take_while(|sample| sample.at > edge);
        let arrivals: u64 = late.map(|sample| sample.arrivals).sum();
        let sure = arrivals.saturating_sub(arrivals.isqrt());
        rate(sure, service, self.counted(SHORT, now).max(LEAST_SHORT_SPAN))
    }

    /// Whether nothing of it is left.
    pub fn is_over(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Slots in use by so many arrivals in a span, in thousandths.
fn rate(arrivals: u64, service: Millis, span: Millis) -> u64 {
    let slots = u128::from(arrivals) * u128::from(service.0) * 1000 / u128::from(span.0.max(1));
    u64::try_from(slots).unwrap_or(u64::MAX)
}

/// Work that flows in and is served, as a fluid.
#[derive(Clone, Copy)]
struct Flow {
    /// In thousandths of slots.
    work: u64,
    /// Of one replica.
    slots: u64,
}

impl Flow {
    /// What waits, in slot-milliseconds, when one that is ordered now would serve.
    fn waits_after(self, waits: u64, standing: Standing<'_>, now: Timestamp) -> u64 {
        let end = now + standing.load;
        let (mut at, mut waits) = (now, i128::from(waits));
        let mut serves = i128::from(self.slots) * i128::from(standing.ready) * 1000;
        for ready_at in standing.starting.iter().chain([&end]) {
            let next = (*ready_at).clamp(at, end);
            let more = (i128::from(self.work) - serves) * i128::from(next.since(at).0) / 1000;
            waits = (waits + more).max(0);
            serves += i128::from(self.slots) * 1000;
            at = next;
        }
        u64::try_from(waits).unwrap_or(u64::MAX)
    }

    /// Replicas that serve the flow and drain so many slot-milliseconds in time.
    fn drains(self, waits: u64) -> u32 {
        let drain = u128::from(waits) * 1000 / u128::from(DRAIN.0);
        let all = (u128::from(self.work) + drain).div_ceil(u128::from(self.slots.max(1)) * 1000);
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}

/// The fewest replicas with which few enough requests find no free slot.
fn base(scaling: &Scaling, offered: u64) -> u32 {
    if offered == 0 {
        return 0;
    }
    let slots = u64::from(scaling.concurrency.max(1));
    if offered / 1000 > MANY_SLOTS {
        let busy = offered.div_ceil(1000);
        let all = (busy + 2 * busy.isqrt()).div_ceil(slots);
        return u32::try_from(all).unwrap_or(u32::MAX);
    }
    let may_wait = may_wait(scaling.utilization_percent);
    let mut replicas = (offered / 1000 / slots).max(1);
    while waits(offered, replicas * slots) > may_wait {
        replicas += 1;
    }
    u32::try_from(replicas).unwrap_or(u32::MAX)
}

/// The share of requests that may find no free slot, by the utilization that is aimed at: a fifth
/// of its fourth power. 5 % at 70 %, 20 % at 100 %.
fn may_wait(utilization_percent: u8) -> u128 {
    let share = ONE * u128::from(utilization_percent) / 100;
    let square = share * share / ONE;
    square * square / ONE / 5
}

/// Erlang's C: the share of requests that find no free slot.
fn waits(offered_millislots: u64, slots: u64) -> u128 {
    let offered = u128::from(offered_millislots);
    let all = u128::from(slots) * 1000;
    if offered >= all {
        return ONE;
    }
    // Erlang's B, one slot after the other.
    let mut blocked = ONE;
    for slot in 1..=u128::from(slots) {
        let part = offered * blocked / 1000;
        blocked = part * ONE / (slot * ONE + part);
        if blocked == 0 {
            return 0;
        }
    }
    let busy = offered * ONE / all;
    blocked * ONE / (ONE - busy * (ONE - blocked) / ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::deployment::Bounds;

    fn scaling(concurrency: u32, utilization_percent: u8) -> Scaling {
        let bounds = Bounds::new(1, 32).expect("good bounds");
        Scaling { bounds, concurrency, utilization_percent, ..Scaling::baseten() }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0) + Millis::from_seconds(seconds)
    }

    const LOAD: Millis = Millis::from_seconds(240);

    fn idle(ready: u32) -> Standing<'static> {
        Standing { waiting: 0, ready, starting: &[], load: LOAD }
    }

    /// So many arrivals every five seconds, each of so many milliseconds.
    fn worked(arrivals: u64, service: u64, seconds: u64) -> Work {
        let mut work = Work::default();
        for turn in 1..=seconds / 5 {
            work.sample(at(turn * 5), SAMPLE, (arrivals, arrivals, arrivals * service));
        }
        work
    }

    #[test]
    fn the_share_that_waits_is_erlangs() {
        let percent = |offered, slots| (waits(offered, slots) * 1000 + ONE / 2) / ONE;
        assert_eq!(percent(500, 1), 500, "one slot: as often as it is busy");
        assert_eq!(percent(1000, 2), 333, "a third");
        assert_eq!(percent(20_000, 24), 298);
        assert_eq!(waits(2000, 2), ONE, "too much work waits always");
        assert_eq!(waits(10, 1_000_000), 0);
        assert_eq!(may_wait(100), ONE / 5);
        assert_eq!(may_wait(70) * 1000 / ONE, 48);
    }

    #[test]
    fn base_serves_the_offered_work_with_few_that_wait_and_is_held() {
        let mut work = worked(10, 1000, 900);
        let terms = work.wish(&scaling(1, 100), idle(5), at(900));
        assert_eq!((terms.offered_millislots, terms.service), (2000, Millis(1000)));
        assert_eq!((terms.base, terms.wish()), (4, 4), "three slots let 44 % wait, four 17 %");
        let strict = worked(10, 1000, 900).wish(&scaling(1, 50), idle(5), at(900));
        assert_eq!(strict.base, 7, "a lower utilization lets fewer wait");
        assert_eq!(work.wish(&scaling(1, 100), idle(4), at(1_190)).base, 4, "the window's");
        work.sample(at(1_300), SAMPLE, (0, 0, 0));
        assert_eq!(work.wish(&scaling(1, 100), idle(4), at(1_300)).base, 4, "held");
        assert_eq!(work.wish(&scaling(1, 100), idle(4), at(1_311)).base, 3);
    }

    #[test]
    fn a_rush_orders_what_will_wait_when_it_serves_and_orders_it_once() {
        // Ten requests a second of five seconds each: fifty slots busy; one replica of eight.
        let mut work = worked(50, 5000, 30);
        let first = Standing { waiting: 200, ..idle(1) };
        let terms = work.wish(&scaling(8, 70), first, at(30));
        assert!(terms.forecast > 32, "{terms:?}");
        // All 31 others are on their way: nothing more is wanted, and none is taken back.
        let starting = [at(270); 31];
        let next = Standing { waiting: 250, starting: &starting, ..first };
        let terms = work.wish(&scaling(8, 70), next, at(35));
        assert_eq!(terms.backlog, 32, "{terms:?}");
        // They serve, nothing waits: what the work needs stays.
        let terms = work.wish(&scaling(8, 70), idle(32), at(275));
        assert_eq!((terms.forecast, terms.backlog), (0, 0), "{terms:?}");
        assert!(terms.wish() < 10, "{terms:?}");
    }

    #[test]
    fn what_is_there_stays_while_something_waits_for_it() {
        let mut work = worked(5, 1000, 900);
        let waits = Standing { waiting: 8, ..idle(3) };
        assert_eq!(work.wish(&scaling(1, 100), waits, at(900)).backlog, 3);
        let few = Standing { waiting: 1, ..idle(9) };
        assert_eq!(work.wish(&scaling(1, 100), few, at(905)).backlog, 2);
    }

    #[test]
    fn a_few_requests_by_chance_are_no_rush() {
        let mut work = worked(0, 0, 0);
        work.sample(at(5), SAMPLE, (1, 1, 27_000));
        work.sample(at(900), Millis::from_seconds(895), (2, 2, 54_000));
        let terms = work.wish(&scaling(1, 100), Standing { waiting: 1, ..idle(1) }, at(900));
        assert_eq!(terms.forecast, 0, "it is served long before another one would be there");
    }

    #[test]
    fn without_a_request_for_the_whole_window_nothing_is_wanted() {
        let mut work = worked(5, 1000, 60);
        work.sample(at(960), Millis::from_seconds(900), (0, 0, 0));
        assert!(work.is_over());
        assert_eq!(work.wish(&scaling(1, 70), idle(2), at(1_200)).wish(), 0);
    }

    #[test]
    fn a_large_flow_is_decided_without_a_long_sum() {
        let mut work = worked(100_000, 60_000, 900);
        let terms = work.wish(&scaling(1_000_000, 70), idle(2), at(900));
        assert!(terms.offered_millislots.abs_diff(1_200_000_000) < 12_000_000, "{terms:?}");
        assert_eq!(terms.base, 2);
    }
}
