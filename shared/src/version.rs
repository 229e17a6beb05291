//! The three counters of the protocol, and nothing else decides what is newer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the words between our programs; N and N-1 work together.
pub const PROTOCOL_VERSION: u16 = 1;

/// Leadership of a scheduler. At a start: max(last + 1, Unix seconds), so that a restored backup
/// never repeats one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

/// One start of one agent, issued by the scheduler; asked again with the same nonce it is the same.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The desired state of one node: raised whenever it changes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// (term, generation), compared as a pair: an older one never undoes a newer one (S9).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct DesiredVersion {
    /// Who said it.
    pub term: Term,
    /// Which of the desired states of this node it is.
    pub generation: Generation,
}

impl fmt::Display for DesiredVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term.0, self.generation.0)
    }
}
