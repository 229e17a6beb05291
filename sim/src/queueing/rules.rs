//! The rules: Baseten's and CoreWeave's as this scheduler follows them, the Kubernetes autoscaler
//! (HPA) and Knative's (KPA) as their documents describe them with their defaults, and work mode.

use std::collections::VecDeque;

use wharfage_scheduler_core::policies::autoscale::work::{SAMPLE, Standing, Work};
use wharfage_scheduler_core::policies::autoscale::{self, Load, Window};
use wharfage_scheduler_core::words::deployment::{Bounds, Scaling};
use wharfage_shared::time::{Millis, Timestamp};

use super::{Seen, Settings};

/// What decides how many replicas there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// In flight over a minute, 70 %, fifteen minutes of delay.
    Baseten,
    /// In flight over a minute, 100 %, five minutes of delay.
    CoreWeave,
    /// Kubernetes' autoscaler on requests in flight: 100 %, five minutes of stabilization.
    Hpa,
    /// Knative's autoscaler: 70 %, a window of a minute, one of six seconds for a panic.
    Kpa,
    /// Work mode at a utilization in percent.
    Work(u8),
}

impl Rule {
    /// All of them, work mode at both dialects' utilization.
    pub const ALL: [Rule; 6] =
        [Rule::Baseten, Rule::CoreWeave, Rule::Hpa, Rule::Kpa, Rule::Work(70), Rule::Work(100)];
}

/// One rule with what it remembers.
pub(super) enum Decider {
    InFlight { scaling: Scaling, window: Window, below_since: Option<Timestamp> },
    Hpa { target: u64, wishes: VecDeque<(Millis, u32)> },
    Kpa { slots: u64, stable: Mean, short: Mean, panic: Option<Millis>, most: u32 },
    Work { scaling: Scaling, load: Millis, work: Work },
}

/// A mean of requests in flight over the last while.
pub(super) struct Mean {
    length: Millis,
    window: Window,
    last: Millis,
}

impl Mean {
    fn new(length: Millis) -> Self {
        Self { length, window: Window::default(), last: Millis(0) }
    }

    /// Replicas for the mean, each with 70 % of its slots in use.
    fn wish(&mut self, seen: &Seen, slots: u64) -> u32 {
        let span = (seen.now - self.last).0;
        self.last = seen.now;
        let at = Timestamp(0) + seen.now;
        if span > 0 {
            self.window.push(at, seen.in_flight_ms, span);
        }
        self.window.forget(at, self.length);
        let Some(mean) = self.window.mean() else { return 0 };
        let replicas = (mean.amount * 10).div_ceil(mean.weight * slots * 7);
        u32::try_from(replicas).unwrap_or(u32::MAX)
    }
}

/// Knative's panic lasts so long after its last cause.
const PANIC: Millis = Millis::from_seconds(60);

/// Knative's largest step upwards, as a multiple of what is ready.
const KPA_MOST_UP: u32 = 1000;

/// The Kubernetes autoscaler's stabilization of smaller wishes.
const STABILIZATION: Millis = Millis::from_seconds(300);

impl Decider {
    pub fn new(rule: Rule, settings: Settings) -> Self {
        let bounds = Bounds::new(settings.min, settings.max);
        let coreweave = |bounds| Scaling::coreweave(bounds, Some(settings.slots));
        let base = bounds.map_or_else(Scaling::baseten, coreweave);
        let baseten =
            Scaling { bounds: base.bounds, concurrency: settings.slots, ..Scaling::baseten() };
        let in_flight =
            |scaling| Decider::InFlight { scaling, window: Window::default(), below_since: None };
        match rule {
            Rule::Baseten => in_flight(baseten),
            Rule::CoreWeave => in_flight(base),
            Rule::Hpa => Decider::Hpa { target: settings.slots.into(), wishes: VecDeque::new() },
            Rule::Kpa => Decider::Kpa {
                slots: settings.slots.into(),
                stable: Mean::new(Millis::from_seconds(60)),
                short: Mean::new(Millis::from_seconds(6)),
                panic: None,
                most: 0,
            },
            Rule::Work(utilization_percent) => Decider::Work {
                scaling: Scaling { utilization_percent, ..base },
                load: settings.load,
                work: Work::default(),
            },
        }
    }

    /// The distance of decisions.
    pub fn interval(&self) -> Millis {
        match self {
            Decider::InFlight { .. } | Decider::Work { .. } => SAMPLE,
            Decider::Hpa { .. } => Millis::from_seconds(15),
            Decider::Kpa { .. } => Millis::from_seconds(2),
        }
    }

    pub fn decide(&mut self, seen: &Seen) -> u32 {
        let now = Timestamp(0) + seen.now;
        match self {
            Decider::InFlight { scaling, window, below_since } => {
                window.push(now, seen.in_flight, 1);
                window.forget(now, Millis::from_seconds(u64::from(scaling.window_seconds)));
                let wish = window.mean().map(|requests| {
                    let load = Load { requests, tokens: None, is_there_now: false };
                    autoscale::wish(scaling, &load)
                });
                let decision = autoscale::decide(scaling, wish, seen.current, *below_since, now);
                *below_since = decision.below_since;
                decision.desired
            }
            Decider::Hpa { target, wishes } => hpa(*target, wishes, seen),
            Decider::Kpa { slots, stable, short, panic, most } => {
                let (wide, narrow) = (stable.wish(seen, *slots), short.wish(seen, *slots));
                let ready = seen.ready.max(1);
                // No more than a thousand times what is ready, no less than half of it.
                let limit = |wish: u32| wish.clamp(seen.ready / 2, ready * KPA_MOST_UP);
                let (wide, narrow) = (limit(wide), limit(narrow));
                if narrow >= 2 * ready {
                    *panic = Some(seen.now);
                } else if panic.is_some_and(|since| seen.now - since > PANIC) {
                    (*panic, *most) = (None, 0);
                }
                if panic.is_some() {
                    // In a panic nothing goes.
                    *most = narrow.max(*most);
                    return wide.max(*most);
                }
                wide
            }
            Decider::Work { scaling, load, work } => {
                let counts = (seen.arrivals, seen.finished, seen.served_ms);
                work.sample(now, SAMPLE, counts);
                let starting: Vec<Timestamp> =
                    seen.starting.iter().map(|at| Timestamp(0) + *at).collect();
                let standing = Standing {
                    waiting: seen.waiting,
                    ready: seen.ready,
                    starting: &starting,
                    load: *load,
                };
                work.wish(scaling, standing, now).wish()
            }
        }
    }
}

/// `ceil(current x metric / target)`, unless it is within a tenth; up by at most double or four,
/// down to the largest wish of five minutes.
fn hpa(target: u64, wishes: &mut VecDeque<(Millis, u32)>, seen: &Seen) -> u32 {
    let meant = u64::from(seen.current) * target;
    let near = seen.in_flight.abs_diff(meant) * 10 <= meant && meant > 0;
    let wish = if near {
        seen.current
    } else {
        u32::try_from(seen.in_flight.div_ceil(target)).unwrap_or(u32::MAX).max(1)
    };
    wishes.push_back((seen.now, wish));
    wishes.retain(|(at, _)| *at + STABILIZATION >= seen.now);
    if wish > seen.current {
        return wish.min((seen.current * 2).max(seen.current + 4));
    }
    let largest = wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(wish);
    largest.min(seen.current)
}
