//! Recorded requests through replicas that take time to load, under several rules for their number:
//! what each rule costs and how long requests wait.
//!
//! One queue, first come first served, to the fullest replica with a free slot. A replica costs from
//! its order until it is empty after its end was decided. Work mode is the production core's; the
//! others are written after their documents, to compare with.

mod rules;
mod traces;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use wharfage_shared::time::Millis;

pub use self::rules::Rule;
pub use self::traces::{Request, conversations, images};

/// What the replicas are like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests that one replica serves at a time.
    pub slots: u32,
    /// How long one loads.
    pub load: Millis,
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// What a rule came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Paid for, in hours.
    pub replica_hours: f64,
    /// The share of requests that waited.
    pub waited: f64,
    /// The mean wait, in seconds.
    pub mean_wait: f64,
    /// One in a hundred waited longer, in seconds.
    pub p99_wait: f64,
    /// How often the number was changed.
    pub changes: u32,
}

/// What a rule sees.
#[derive(Clone, Debug, Default)]
struct Seen {
    now: Millis,
    /// In slots and in the queue.
    in_flight: u64,
    /// In the queue.
    waiting: u64,
    /// The mean of what was in flight since the last decision, times milliseconds.
    in_flight_ms: u64,
    /// Slots in use since the last decision, times milliseconds.
    served_ms: u64,
    arrivals: u64,
    finished: u64,
    ready: u32,
    /// When each of those on their way serves, in order.
    starting: Vec<Millis>,
    /// Ready and starting.
    current: u32,
}

#[derive(Clone, Copy, Debug)]
struct Replica {
    ordered: Millis,
    ready: Millis,
    busy: u32,
    ends: bool,
}

struct World<'a> {
    settings: Settings,
    requests: &'a [Request],
    next: usize,
    now: Millis,
    /// After the last arrival nothing is paid for.
    end: Millis,
    replicas: Vec<Replica>,
    /// Those that are not to end.
    active: Vec<usize>,
    queue: VecDeque<Millis>,
    services: VecDeque<Millis>,
    running: BinaryHeap<Reverse<(Millis, usize)>>,
    waits: Vec<Millis>,
    paid: u64,
    seen: Seen,
}

/// Replays the requests under a rule.
pub fn run(requests: &[Request], settings: Settings, rule: Rule) -> Outcome {
    let end = requests.last().map_or(Millis(0), |request| request.at);
    let mut world = World {
        settings,
        requests,
        next: 0,
        now: Millis(0),
        end,
        replicas: Vec::new(),
        active: Vec::new(),
        queue: VecDeque::new(),
        services: VecDeque::new(),
        running: BinaryHeap::new(),
        waits: Vec::with_capacity(requests.len()),
        paid: 0,
        seen: Seen::default(),
    };
    world.order(settings.min, Millis(0));
    let mut decider = rules::Decider::new(rule, settings);
    let (mut decides, mut changes) = (Millis(0), 0);
    while world.waits.len() < requests.len() {
        let at = world.next_event().min(decides);
        world.pass_to(at);
        world.end_services();
        world.arrive();
        world.dispatch();
        if at == decides {
            let wanted = decider.decide(&world.look()).clamp(settings.min, settings.max);
            changes += u32::from(wanted != world.active.len() as u32);
            world.become_so_many(wanted);
            decides = at + decider.interval();
        }
        world.dispatch();
    }
    world.outcome(changes)
}

impl World<'_> {
    fn next_event(&self) -> Millis {
        let arrives = self.requests.get(self.next).map(|request| request.at);
        let ends = self.running.peek().map(|Reverse((at, _))| *at);
        let starts = self.active.iter().map(|at| self.replicas[*at].ready);
        let starts = starts.filter(|at| *at > self.now).min();
        [arrives, ends, starts].into_iter().flatten().min().unwrap_or(Millis(u64::MAX))
    }

    fn pass_to(&mut self, at: Millis) {
        let span = (at - self.now).0;
        self.seen.served_ms += self.running.len() as u64 * span;
        self.seen.in_flight_ms += (self.running.len() + self.queue.len()) as u64 * span;
        self.now = at;
    }

    fn end_services(&mut self) {
        while let Some(Reverse((_, on))) =
            self.running.peek().copied().filter(|Reverse((at, _))| *at <= self.now)
        {
            self.running.pop();
            self.seen.finished += 1;
            self.replicas[on].busy -= 1;
            if self.replicas[on].ends && self.replicas[on].busy == 0 {
                self.pay(on);
            }
        }
    }

    fn arrive(&mut self) {
        while let Some(request) = self.requests.get(self.next).filter(|one| one.at <= self.now) {
            self.queue.push_back(request.at);
            self.services.push_back(request.service);
            self.seen.arrivals += 1;
            self.next += 1;
        }
    }

    fn dispatch(&mut self) {
        while !self.queue.is_empty() {
            let slots = self.settings.slots;
            let free = |at: &usize| {
                let replica = self.replicas[*at];
                replica.ready <= self.now && replica.busy < slots
            };
            let fullest = self.active.iter().copied().filter(free);
            let Some(on) = fullest.max_by_key(|at| self.replicas[*at].busy) else { return };
            let (Some(came), Some(service)) = (self.queue.pop_front(), self.services.pop_front())
            else {
                return;
            };
            self.waits.push(self.now - came);
            self.replicas[on].busy += 1;
            self.running.push(Reverse((self.now + service, on)));
        }
    }

    /// What a rule is told; the counts begin anew.
    fn look(&mut self) -> Seen {
        let replicas = self.active.iter().map(|at| self.replicas[*at].ready);
        let mut starting: Vec<Millis> = replicas.filter(|ready| *ready > self.now).collect();
        starting.sort_unstable();
        let current = self.active.len() as u32;
        let seen = Seen {
            now: self.now,
            in_flight: (self.running.len() + self.queue.len()) as u64,
            waiting: self.queue.len() as u64,
            ready: current - starting.len() as u32,
            starting,
            current,
            ..self.seen.clone()
        };
        self.seen = Seen::default();
        seen
    }

    fn order(&mut self, count: u32, load: Millis) {
        for _ in 0..count {
            self.active.push(self.replicas.len());
            let (ordered, ready) = (self.now, self.now + load);
            self.replicas.push(Replica { ordered, ready, busy: 0, ends: false });
        }
    }

    /// Those that were ordered last and load still go first, then the emptiest.
    fn become_so_many(&mut self, wanted: u32) {
        let current = self.active.len() as u32;
        self.order(wanted.saturating_sub(current), self.settings.load);
        for _ in wanted..current {
            let rank = |at: &usize| {
                let replica = self.replicas[*at];
                let loads = replica.ready > self.now;
                (Reverse(loads), replica.busy, Reverse(if loads { replica.ready.0 } else { 0 }))
            };
            let least = self.active.iter().enumerate().min_by_key(|(_, at)| rank(at));
            let Some(at) = least.map(|(at, _)| at) else { return };
            let on = self.active.remove(at);
            self.replicas[on].ends = true;
            if self.replicas[on].busy == 0 {
                self.pay(on);
            }
        }
    }

    fn pay(&mut self, on: usize) {
        self.paid += (self.now.min(self.end) - self.replicas[on].ordered).0;
    }

    fn outcome(mut self, changes: u32) -> Outcome {
        for replica in &self.replicas {
            // What was not paid for yet runs to the end.
            if !replica.ends || replica.busy > 0 {
                self.paid += (self.end - replica.ordered).0;
            }
        }
        self.waits.sort_unstable();
        let count = self.waits.len().max(1) as f64;
        let all: u64 = self.waits.iter().map(|wait| wait.0).sum();
        let waited = self.waits.iter().filter(|wait| wait.0 > 0).count();
        let p99 = self.waits.get(self.waits.len() * 99 / 100).map_or(0.0, |wait| wait.as_seconds());
        Outcome {
            replica_hours: self.paid as f64 / 3_600_000.0,
            waited: waited as f64 / count,
            mean_wait: all as f64 / 1000.0 / count,
            p99_wait: p99,
            changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = Millis::from_seconds(60);

    /// A request every `every`, for `length`, each of `service`.
    fn steady(every: Millis, length: Millis, service: Millis) -> Vec<Request> {
        let count = length.0 / every.0;
        (0..count).map(|turn| Request { at: Millis(turn * every.0), service }).collect()
    }

    #[test]
    fn one_replica_serves_one_after_the_other() {
        let requests = steady(Millis(1000), Millis(10_000), Millis(1500));
        let one = Settings { slots: 1, load: MINUTE, min: 1, max: 1 };
        let outcome = run(&requests, one, Rule::Baseten);
        assert!((outcome.mean_wait - 2.25).abs() < 1e-9, "{outcome:?}");
        assert!((outcome.waited - 0.9).abs() < 1e-9, "all but the first: {outcome:?}");
        assert!((outcome.replica_hours * 3600.0 - 9.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!(outcome.changes, 0);
    }

    #[test]
    fn every_rule_serves_every_request_and_stays_within_its_bounds() {
        let mut requests = steady(Millis(700), Millis::from_seconds(1200), Millis(4000));
        let later = steady(Millis(9000), Millis::from_seconds(1200), Millis(4000));
        let pause = Millis::from_seconds(2400);
        requests.extend(later.iter().map(|one| Request { at: one.at + pause, ..*one }));
        let settings = Settings { slots: 2, load: MINUTE, min: 1, max: 6 };
        for rule in Rule::ALL {
            let outcome = run(&requests, settings, rule);
            let hours = 3600.0 / 3600.0;
            assert!(outcome.replica_hours >= 0.9 * hours, "{rule:?} {outcome:?}");
            assert!(outcome.replica_hours <= 6.0 * hours, "{rule:?} {outcome:?}");
            assert_eq!(outcome, run(&requests, settings, rule), "the same again");
        }
    }

    #[test]
    fn work_mode_orders_for_a_rush_at_once_and_lets_it_go_when_it_is_served() {
        // A rush out of nothing, four minutes to load: what queues meanwhile is no reason to keep
        // what serves it.
        let requests = steady(Millis(200), Millis::from_seconds(3000), Millis(5000));
        let settings = Settings { slots: 8, load: Millis::from_seconds(240), min: 1, max: 32 };
        let work = run(&requests, settings, Rule::Work(70));
        for rule in [Rule::Baseten, Rule::CoreWeave, Rule::Hpa, Rule::Kpa] {
            let other = run(&requests, settings, rule);
            assert!(work.replica_hours < other.replica_hours, "{rule:?} {other:?} {work:?}");
            assert!(work.mean_wait <= other.mean_wait, "{rule:?} {other:?} {work:?}");
        }
    }
}
