//! The rules that never bend, as far as the fleet itself can tell. A check shares no code with the
//! decision that it checks: it reads rows and nothing else.
//!
//! S5, S7, S8, S9, S11 and S12 are about more than one fleet: attribution, replay, agents, messages.
//! They are checked where those are (billing, the properties of this crate, the simulator).

mod capacity;
mod counts;
mod places;
mod rows;

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule: `S1` to `S12`, or `rows` where tables contradict each other.
    pub rule: String,
    /// What was found, one sentence.
    pub found: String,
}

impl Violation {
    fn new(rule: &str, found: String) -> Self {
        Self { rule: rule.to_owned(), found }
    }
}

/// Every rule that does not hold; empty = all hold.
pub fn check(fleet: &Fleet) -> Vec<Violation> {
    let mut found = Vec::new();
    rows::check(fleet, &mut found);
    places::check(fleet, &mut found);
    counts::check(fleet, &mut found);
    capacity::check(fleet, &mut found);
    found
}
