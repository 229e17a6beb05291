//! The rules that never bend, as far as the fleet itself can tell. A check shares no code with the
//! decision that it checks.

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule: `S1` to `S12`.
    pub rule: String,
    /// What was found, one sentence.
    pub found: String,
}

/// Every rule that does not hold; empty = all hold.
pub fn check(_fleet: &Fleet) -> Vec<Violation> {
    Vec::new()
}
