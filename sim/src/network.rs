//! The network between hosts, gateways and the scheduler: late, lossy, repeating, reordering, and
//! cut on order. Each direction of a link is a thing of its own.

use std::collections::BTreeMap;

use wharfage_shared::time::Millis;

use crate::rng::Rng;

/// One end of a link to the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A host, by its number.
    Host(usize),
    /// A gateway process, by its number.
    Gateway(usize),
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the scheduler.
    Up,
    /// From the scheduler.
    Down,
}

/// What messages meet with.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The shortest way.
    pub fastest: Millis,
    /// The longest way that is not an exception.
    pub slowest: Millis,
    /// So many in a thousand are lost.
    pub loss_permille: u32,
    /// So many in a thousand arrive twice.
    pub twice_permille: u32,
    /// So many in a thousand are late by up to `late_by`.
    pub late_permille: u32,
    /// How late.
    pub late_by: Millis,
}

impl Weather {
    /// A few milliseconds and nothing else.
    pub fn fair() -> Self {
        Self {
            fastest: Millis(1),
            slowest: Millis(4),
            loss_permille: 0,
            twice_permille: 0,
            late_permille: 0,
            late_by: Millis(0),
        }
    }
}

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    /// What messages meet with now.
    pub weather: Weather,
    cuts: BTreeMap<(Place, Way), Millis>,
}

impl Network {
    /// Links in fair weather.
    pub fn fair() -> Self {
        Self { weather: Weather::fair(), cuts: BTreeMap::new() }
    }

    /// Nothing passes this way before `until`.
    pub fn cut(&mut self, place: Place, way: Way, until: Millis) {
        let end = self.cuts.entry((place, way)).or_default();
        *end = (*end).max(until);
    }

    /// Every fault ends.
    pub fn heal(&mut self) {
        *self = Self::fair();
    }

    /// Whether a message that arrives now gets through.
    pub fn passes(&self, place: Place, way: Way, now: Millis) -> bool {
        self.cuts.is_empty() || self.cuts.get(&(place, way)).is_none_or(|until| now >= *until)
    }

    /// When a message that is sent now arrives: not at all, once, or twice.
    pub fn arrivals(
        &self,
        rng: &mut Rng,
        place: Place,
        way: Way,
        now: Millis,
    ) -> (Option<Millis>, Option<Millis>) {
        let weather = &self.weather;
        if !self.passes(place, way, now) || rng.chance(weather.loss_permille) {
            return (None, None);
        }
        let mut arrival = || {
            let usual = rng.between(weather.fastest.0, weather.slowest.0);
            let late = if rng.chance(weather.late_permille) {
                rng.between(0, weather.late_by.0)
            } else {
                0
            };
            now + Millis(usual + late)
        };
        let first = arrival();
        let second = arrival();
        (Some(first), rng.chance(weather.twice_permille).then_some(second))
    }
}
