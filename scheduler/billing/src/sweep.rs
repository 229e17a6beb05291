//! The sweep: exact attribution of one series, by counting nodes between instants at which
//! anything changes.
//!
//! Between two neighbouring instants n nodes are active; they fill Reserved, then Flex, and the
//! rest is On-Demand. Every quantity is a sum of count x length, so it does not depend on order,
//! batching or names (S5), and nothing is ever clamped.

use serde::Serialize;
use wharfage_shared::time::Timestamp;

use crate::money::{InstanceMs, MicroRate};
use crate::spans::{Period, Span, Standing};
use crate::terms::{Contract, Plan, Price};

/// Where a series' proven and unproven time went. At every instant the accounts add up to the
/// nodes there were, so their sum is the series' whole time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accounts {
    /// Within Reserved bands.
    pub reserved: InstanceMs,
    /// Within Flex bands.
    pub flex: InstanceMs,
    /// Beyond all bands.
    pub on_demand: InstanceMs,
    /// Sold as spot.
    pub spot: InstanceMs,
    /// Held by SERVERLESS claims.
    pub claim: InstanceMs,
    /// The provider's own account.
    pub provider: InstanceMs,
    /// Without evidence yet.
    pub unproven: InstanceMs,
}

impl Accounts {
    /// All accounts together.
    pub fn sum(&self) -> InstanceMs {
        let Self { reserved, flex, on_demand, spot, claim, provider, unproven } = *self;
        [reserved, flex, on_demand, spot, claim, provider, unproven].into_iter().sum()
    }

    /// These accounts and `other`'s.
    pub fn plus(self, other: Self) -> Self {
        Self {
            reserved: self.reserved + other.reserved,
            flex: self.flex + other.flex,
            on_demand: self.on_demand + other.on_demand,
            spot: self.spot + other.spot,
            claim: self.claim + other.claim,
            provider: self.provider + other.provider,
            unproven: self.unproven + other.unproven,
        }
    }
}

/// A stretch of the period in which one rate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First instant.
    pub start: Timestamp,
    /// End, not part of it.
    pub end: Timestamp,
    /// The rate; `None` where the terms have no price.
    pub rate: Option<MicroRate>,
}

/// The period cut at each change of one rate. `prices` are in order of time.
pub fn pieces(
    prices: &[Price],
    period: Period,
    rate_of: impl Fn(&Price) -> Option<MicroRate>,
) -> Vec<Piece> {
    let mut pieces = vec![Piece { start: period.from, end: period.to, rate: None }];
    for price in prices {
        let rate = rate_of(price);
        let from = price.from.unwrap_or(period.from).max(period.from);
        let last = pieces.last_mut().expect("the period is one piece at first");
        if from >= period.to || same(last.rate, rate) {
            continue;
        }
        if last.start == from {
            last.rate = rate;
        } else {
            last.end = from;
            pieces.push(Piece { start: from, end: period.to, rate });
        }
    }
    pieces
}

fn same(a: Option<MicroRate>, b: Option<MicroRate>) -> bool {
    a.map(MicroRate::micros) == b.map(MicroRate::micros)
}

/// Time that went to one contract or one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Portion {
    /// Used by the customer.
    pub used: InstanceMs,
    /// Unusable through no fault of theirs.
    pub faulty: InstanceMs,
}

/// What the fill of one series gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// One for each contract, in the order given.
    pub contracts: Vec<Portion>,
    /// One for each piece of the On-Demand price. Faulty time beyond all bands is the provider's.
    pub on_demand: Vec<InstanceMs>,
    /// Where the time went.
    pub accounts: Accounts,
}

/// Fills the bands of `contracts` (in fill order) with united spans; the rest is On-Demand.
pub fn fill(spans: &[Span], period: Period, contracts: &[Contract], prices: &[Piece]) -> Filled {
    let mut filled = Filled {
        contracts: vec![Portion::default(); contracts.len()],
        on_demand: vec![InstanceMs::default(); prices.len()],
        accounts: Accounts::default(),
    };
    let ends = contracts.iter().flat_map(|c| [c.start, c.end]);
    let cuts = ends.chain(prices.iter().map(|piece| piece.start)).collect();
    let mut piece = 0;
    each_step(spans, period, cuts, |step| {
        let [unproven, mut active, mut faulty, provider] = step.count;
        let accounts = &mut filled.accounts;
        accounts.unproven += step.times(unproven);
        accounts.provider += step.times(provider + faulty);
        for (contract, portion) in contracts.iter().zip(&mut filled.contracts) {
            if active + faulty == 0 {
                break;
            }
            if !(contract.start <= step.start && step.start < contract.end) {
                continue;
            }
            let width = u64::from(contract.instances);
            let used = active.min(width);
            // Unusable nodes take the last seats, so a credit refunds the dearest of what was held.
            let idle = faulty.min(width - used);
            active -= used;
            faulty -= idle;
            portion.used += step.times(used);
            portion.faulty += step.times(idle);
            match contract.plan {
                Plan::Reserved { .. } => accounts.reserved += step.times(used),
                Plan::Flex { .. } => accounts.flex += step.times(used),
            }
        }
        while prices[piece].end <= step.start {
            piece += 1;
        }
        filled.on_demand[piece] += step.times(active);
        accounts.on_demand += step.times(active);
    });
    filled
}

/// What counting outside the fill gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// One for each piece of the price.
    pub pieces: Vec<Portion>,
    /// The provider's own account, faulty time left out.
    pub provider: InstanceMs,
    /// Without evidence yet.
    pub unproven: InstanceMs,
}

/// Counts united spans outside the fill (spot, claims), by piece of the price.
pub fn count(spans: &[Span], period: Period, prices: &[Piece]) -> Counted {
    let pieces = vec![Portion::default(); prices.len()];
    let mut counted = Counted { pieces, ..Counted::default() };
    let mut piece = 0;
    each_step(spans, period, prices.iter().map(|piece| piece.start).collect(), |step| {
        let [unproven, active, faulty, provider] = step.count;
        while prices[piece].end <= step.start {
            piece += 1;
        }
        counted.pieces[piece].used += step.times(active);
        counted.pieces[piece].faulty += step.times(faulty);
        counted.provider += step.times(provider);
        counted.unproven += step.times(unproven);
    });
    counted
}

/// A stretch in which nothing changes.
struct Step {
    start: Timestamp,
    length: u64,
    /// Nodes by standing.
    count: [u64; Standing::ALL.len()],
}

impl Step {
    fn times(&self, nodes: u64) -> InstanceMs {
        InstanceMs(u128::from(nodes) * u128::from(self.length))
    }
}

/// Visits, in order, every stretch of the period in which some node stands and nothing changes.
fn each_step(spans: &[Span], period: Period, cuts: Vec<Timestamp>, mut visit: impl FnMut(&Step)) {
    let mut changes: Vec<(Timestamp, Change)> = Vec::with_capacity(spans.len() * 2 + cuts.len());
    for span in spans {
        if let Some((start, end)) = period.clip(span.start, span.end) {
            changes.push((start, Change::Opens(span.standing)));
            changes.push((end, Change::Closes(span.standing)));
        }
    }
    changes.extend(cuts.into_iter().map(|at| (at, Change::Cut)));
    changes.sort_unstable_by_key(|(at, _)| *at);
    let mut count = [0i64; Standing::ALL.len()];
    let mut start = period.from;
    for (at, change) in changes {
        if start < at {
            let length = at.since(start).0;
            // Closings may come before openings of the same instant, never before an earlier one.
            let count = count.map(|nodes| u64::try_from(nodes).expect("what closes was open"));
            if count != [0; Standing::ALL.len()] {
                visit(&Step { start, length, count });
            }
            start = at;
        }
        match change {
            Change::Opens(standing) => count[standing as usize] += 1,
            Change::Closes(standing) => count[standing as usize] -= 1,
            Change::Cut => {}
        }
    }
}

/// What happens at an instant.
#[derive(Clone, Copy)]
enum Change {
    Opens(Standing),
    Closes(Standing),
    Cut,
}
