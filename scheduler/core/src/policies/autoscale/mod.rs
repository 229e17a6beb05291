//! How many replicas a load wants: a wish from the mean load, the bounds, up at once, down in steps
//! after a delay. Integers throughout: no rounding decides but the one upwards to whole replicas.

pub mod window;
pub mod work;

use wharfage_shared::time::{Millis, Timestamp};

pub use self::window::Window;
use crate::words::because::scaling::DesiredBecause;
use crate::words::deployment::Scaling;

pub use crate::words::because::scaling::{Mean, Target, Wish};

/// What is known of a deployment's load at the instant of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests in flight, those that wait included.
    pub requests: Mean,
    /// Tokens in flight, where they are counted.
    pub tokens: Option<Mean>,
    /// Whether there is a request at this very instant: it wakes a deployment that has nothing.
    pub is_there_now: bool,
}

/// A number with its reason, and since when the wish has been below the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many.
    pub desired: u32,
    /// Why.
    pub because: DesiredBecause,
    /// What the load alone wants; none when nothing is known of it.
    pub wish: Option<Wish>,
    /// Since when the wish has been below the count: the next decision is told it.
    pub below_since: Option<Timestamp>,
    /// Until the next step down, while it is waited for.
    pub left: Option<Millis>,
}

/// What the load wants: of several targets the largest wish.
pub fn wish(settings: &Scaling, load: &Load) -> Wish {
    let percent = u128::from(settings.utilization_percent) * u128::from(settings.concurrency);
    let mut replicas = over(load.requests, 100, percent);
    if load.is_there_now {
        replicas = replicas.max(1);
    }
    let requests = Wish { replicas, target: Target::Requests };
    let tokens = settings.in_flight_tokens.zip(load.tokens).map(|(target, mean)| Wish {
        replicas: over(mean, 1, u128::from(target)),
        target: Target::Tokens,
    });
    match tokens {
        Some(tokens) if tokens.replicas > requests.replicas => tokens,
        Some(_) | None => requests,
    }
}

/// `mean x factor / each`, rounded up to whole replicas.
fn over(mean: Mean, factor: u128, each: u128) -> u32 {
    let all = u128::from(mean.amount) * factor;
    let replicas = all.div_ceil((u128::from(mean.weight) * each).max(1));
    u32::try_from(replicas).unwrap_or(u32::MAX)
}

/// What follows from a wish for a deployment that is to have `current` replicas. Without a wish
/// nothing is known of the load: the count stays, and no delay runs.
pub fn decide(
    settings: &Scaling,
    wish: Option<Wish>,
    current: u32,
    below_since: Option<Timestamp>,
    now: Timestamp,
) -> Decision {
    let bounds = settings.bounds;
    let stay =
        |desired, because| Decision { desired, because, wish, below_since: None, left: None };
    let Some(Wish { replicas, .. }) = wish else {
        let desired = bounds.clamp(current);
        return match desired.cmp(&current) {
            std::cmp::Ordering::Greater => stay(desired, DesiredBecause::AtMin),
            std::cmp::Ordering::Less => stay(desired, DesiredBecause::AtMax),
            std::cmp::Ordering::Equal => stay(desired, DesiredBecause::NoReading),
        };
    };
    // What is beyond `max` goes whatever the load was.
    let current = current.min(bounds.max());
    let wanted = bounds.clamp(replicas);
    if wanted > current {
        let because = match (current, replicas < wanted) {
            (_, true) => DesiredBecause::AtMin,
            (0, false) => DesiredBecause::Woken,
            (_, false) => DesiredBecause::DemandAboveTarget,
        };
        return stay(wanted, because);
    }
    if wanted == current {
        let because = if replicas > wanted {
            DesiredBecause::AtMax
        } else if wanted == bounds.min() {
            DesiredBecause::AtMin
        } else {
            DesiredBecause::WithinTarget
        };
        return stay(wanted, because);
    }
    let since = below_since.unwrap_or(now);
    let delay = Millis::from_seconds(u64::from(settings.scale_down_delay_seconds));
    let waited = now.since(since);
    if waited < delay {
        let left = Some(delay - waited);
        let because = DesiredBecause::WaitingForScaleDownDelay;
        return Decision { desired: current, because, wish, below_since: Some(since), left };
    }
    let desired = current - step(current - wanted, settings.max_scale_down_percent);
    let because = DesiredBecause::DemandBelowTarget;
    // The clock starts anew; at the wish there is nothing left to wait for.
    let below_since = (desired > wanted).then_some(now);
    Decision { desired, because, wish, below_since, left: below_since.map(|_| delay) }
}

/// How many of an excess go in one step: a share of it, rounded up.
fn step(excess: u32, percent: u8) -> u32 {
    let share = (u64::from(excess) * u64::from(percent)).div_ceil(100);
    u32::try_from(share).unwrap_or(excess).clamp(1, excess.max(1))
}

#[cfg(test)]
mod tests;
