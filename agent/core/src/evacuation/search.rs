//! Which checkpoints are written, and in which order, where they share what carries them.
//!
//! Guards that the choice is the best one by (checkpoints completed, requests completed, work
//! lost): exact for as many replicas as a node has GPUs, the best found within a bound beyond that.

use std::cmp::Reverse;

/// Places looked for at most where every order is tried: all orders of this many have fewer.
const EXACT: (usize, u32) = (8, 120_000);

/// Places looked for at most among more jobs: a step of the node's decisions stays short.
const MOST_LOOKS: u32 = 10_000;

/// One checkpoint that may be written. Instants and lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub takes: u64,
    /// Bytes a second that it needs all the while.
    pub rate: u64,
    /// It is worth nothing later.
    pub stop_at: u64,
    /// Requests in flight need this long after it.
    pub quiet: u64,
    /// The drain hook needs this long after them.
    pub drain_hook: u64,
    pub in_flight: u32,
    /// The work that is lost without it.
    pub lost: u64,
}

/// When something is written, and how much of what carries it it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub begins: u64,
    pub ends: u64,
    pub rate: u64,
}

/// Larger is better, compared left to right: checkpoints completed, requests completed, work lost.
pub(crate) type Score = (u32, u64, Reverse<u64>);

/// For each job when it is written, if it is.
///
/// Every order of beginnings is tried, each job as early as what goes before it lets it: some best
/// plan has this shape, since nothing gets worse when a checkpoint is done earlier.
pub(crate) fn best(now: u64, carries: u64, held: &[Span], jobs: &[Job]) -> Vec<Option<Span>> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    // The first order tried is a good one, and mostly the last: earliest stop, then shortest.
    order.sort_by_key(|at| jobs.get(*at).map(|job| (job.stop_at, job.takes, *at)));
    let looks = if jobs.len() <= EXACT.0 { EXACT.1 } else { MOST_LOOKS };
    let mut search = Search { now, carries, jobs, order, looks, best: None };
    search.descend(&mut held.to_vec(), &mut vec![None; jobs.len()]);
    search.best.map_or_else(|| vec![None; jobs.len()], |(_, spans)| spans)
}

struct Search<'a> {
    now: u64,
    carries: u64,
    jobs: &'a [Job],
    order: Vec<usize>,
    /// Places that may still be looked for.
    looks: u32,
    best: Option<(Score, Vec<Option<Span>>)>,
}

impl Search<'_> {
    fn descend(&mut self, held: &mut Vec<Span>, spans: &mut Vec<Option<Span>>) {
        let next = self.next(held, spans);
        let hoped = self.hoped(spans, &next);
        if self.best.as_ref().is_some_and(|(best, _)| *best >= hoped) {
            return;
        }
        if next.is_empty() {
            self.best = Some((hoped, spans.clone()));
            return;
        }
        if self.looks == 0 && self.best.is_some() {
            return;
        }
        let open = u32::try_from(spans.iter().filter(|span| span.is_none()).count());
        self.looks = self.looks.saturating_sub(open.unwrap_or(u32::MAX));
        let mut tried: Vec<Job> = Vec::new();
        for (at, span) in next {
            // Of equal ones the first goes first.
            let Some(job) = self.jobs.get(at).filter(|job| !tried.contains(job)) else { continue };
            tried.push(*job);
            held.push(span);
            place(spans, at, Some(span));
            self.descend(held, spans);
            place(spans, at, None);
            held.pop();
        }
    }

    /// The jobs that still fit beside what is held, each as early as it can be.
    fn next(&self, held: &[Span], spans: &[Option<Span>]) -> Vec<(usize, Span)> {
        let open = self.order.iter().filter(|at| spans.get(**at).is_some_and(Option::is_none));
        open.filter_map(|at| {
            let job = self.jobs.get(*at)?;
            let span = earliest(self.now, self.carries, held, job);
            (span.ends <= job.stop_at).then_some((*at, span))
        })
        .collect()
    }

    /// The score if everything that still fits came as early as it does alone; exact when nothing
    /// more fits.
    fn hoped(&self, spans: &[Option<Span>], next: &[(usize, Span)]) -> Score {
        let mut score: Score = (0, 0, Reverse(0));
        for (at, job) in self.jobs.iter().enumerate() {
            let placed = spans.get(at).copied().flatten();
            let hoped = next.iter().find(|(other, _)| *other == at).map(|(_, span)| *span);
            add(&mut score, self.now, job, placed.or(hoped));
        }
        score
    }
}

fn place(spans: &mut [Option<Span>], at: usize, span: Option<Span>) {
    if let Some(place) = spans.get_mut(at) {
        *place = span;
    }
}

/// Adds what comes of one job.
pub(crate) fn add(score: &mut Score, now: u64, job: &Job, span: Option<Span>) {
    let from = span.map_or(now, |span| span.ends);
    score.1 += completed(job, job.stop_at.saturating_sub(from));
    match span {
        Some(_) => score.0 += 1,
        None => score.2.0 = score.2.0.saturating_add(job.lost),
    }
}

/// Requests that come to their end in what is left for the drain; the hook goes before them.
fn completed(job: &Job, room: u64) -> u64 {
    let quiet = room.saturating_sub(job.drain_hook).min(job.quiet);
    let all = u64::from(job.in_flight);
    all.saturating_mul(quiet).checked_div(job.quiet).unwrap_or(all)
}

/// The earliest moment from which a job's rate is free for as long as it takes.
fn earliest(now: u64, carries: u64, held: &[Span], job: &Job) -> Span {
    let mut begins = now;
    loop {
        let span = Span { begins, ends: begins.saturating_add(job.takes), rate: job.rate };
        // What is taken grows only where something begins.
        let beginnings = held.iter().map(|other| other.begins.max(begins));
        let full = beginnings.filter(|at| *at < span.ends).any(|at| {
            let taken = held.iter().filter(|other| other.begins <= at && at < other.ends);
            let taken = taken.fold(0u64, |sum, other| sum.saturating_add(other.rate));
            taken.saturating_add(job.rate) > carries && taken > 0
        });
        if !full {
            return span;
        }
        // Something ends later than `begins`, else nothing would be taken.
        let later = held.iter().map(|other| other.ends).filter(|ends| *ends > begins).min();
        let Some(later) = later else { return span };
        begins = later;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every job at every whole moment or never, whatever the order.
    fn by_brute_force(now: u64, carries: u64, held: &[Span], jobs: &[Job]) -> Score {
        fn with(
            now: u64,
            carries: u64,
            held: &mut Vec<Span>,
            jobs: &[Job],
            so_far: Score,
        ) -> Score {
            let Some((job, rest)) = jobs.split_first() else {
                return so_far;
            };
            let mut without = so_far;
            add(&mut without, now, job, None);
            let mut best = with(now, carries, held, rest, without);
            for begins in now..=job.stop_at.saturating_sub(job.takes) {
                let span = Span { begins, ends: begins + job.takes, rate: job.rate };
                let fits = (span.begins..span.ends).all(|at| {
                    let beside = held.iter().filter(|other| other.begins <= at && at < other.ends);
                    let taken: u64 = beside.map(|other| other.rate).sum();
                    taken == 0 || taken + job.rate <= carries
                });
                if span.ends <= job.stop_at && fits {
                    let mut score = so_far;
                    add(&mut score, now, job, Some(span));
                    held.push(span);
                    best = best.max(with(now, carries, held, rest, score));
                    held.pop();
                }
            }
            best
        }
        with(now, carries, &mut held.to_vec(), jobs, (0, 0, Reverse(0)))
    }

    fn job() -> impl Strategy<Value = Job> {
        (0u64..6, 1u64..5, 0u64..12, 0u64..5, 0u64..3, 0u32..4, 0u64..5).prop_map(
            |(takes, rate, stop_at, quiet, drain_hook, in_flight, lost)| Job {
                takes,
                rate,
                stop_at,
                quiet,
                drain_hook,
                in_flight,
                lost,
            },
        )
    }

    fn score_of(now: u64, jobs: &[Job], spans: &[Option<Span>]) -> Score {
        let mut score = (0, 0, Reverse(0));
        for (job, span) in jobs.iter().zip(spans) {
            add(&mut score, now, job, *span);
        }
        score
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_500,
            rng_seed: proptest::test_runner::RngSeed::Fixed(6),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_plan_is_as_good_as_the_best_of_all_plans(
            jobs in prop::collection::vec(job(), 0..4), carries in 1u64..5,
            held in prop::collection::vec((1u64..6, 1u64..4), 0..2),
        ) {
            let spans = held.into_iter().map(|(ends, rate)| Span { begins: 0, ends, rate });
            let held: Vec<Span> = spans.collect();
            let jobs: Vec<Job> =
                jobs.into_iter().map(|job| Job { rate: job.rate.min(carries), ..job }).collect();
            let found = best(0, carries, &held, &jobs);
            prop_assert_eq!(
                score_of(0, &jobs, &found), by_brute_force(0, carries, &held, &jobs), "{:?}", found
            );
        }
    }

    #[test]
    fn of_more_than_fit_those_are_written_that_make_the_most_of_the_disk() {
        let long = Job {
            takes: 60,
            rate: 10,
            stop_at: 100,
            quiet: 0,
            drain_hook: 0,
            in_flight: 0,
            lost: 0,
        };
        let short = Job { takes: 45, ..long };
        let found = best(0, 10, &[], &[long, short, short]);
        let spans: Vec<_> = found.iter().map(|span| span.map(|s| (s.begins, s.ends))).collect();
        assert_eq!(spans, [None, Some((0, 45)), Some((45, 90))]);
    }

    #[test]
    fn a_node_full_of_small_instances_is_planned_in_a_bounded_time() {
        let job = |n: u64| Job {
            takes: 900 + n * 37 % 211,
            rate: 3 + n % 5,
            stop_at: 6_000 + n * 53 % 997,
            quiet: 100,
            drain_hook: 10,
            in_flight: 5,
            lost: n,
        };
        let jobs: Vec<Job> = (0..56).map(job).collect();
        let found = best(0, 10, &[], &jobs);
        assert!(score_of(0, &jobs, &found).0 >= 10, "{found:?}");
    }
}
