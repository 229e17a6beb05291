//! The log: one SQLite file that holds every fact of the fleet, in order, chained by hashes.
//!
//! The rule it guards: what was appended is durable and unchanged, or the process does not go on.
//! All SQL of the scheduler is in this folder.

mod error;
mod lock;
mod open;
mod read;
mod snapshot;
mod sql;
mod tip;
mod write;

use wharfage_billing::chain::Hash;
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

pub use error::{AppendError, Error};
pub use open::{Opening, Options};
pub use read::Reader;
pub use snapshot::{Snapshot, Snapshots};
pub use write::Writer;

/// One record before it has a place: all facts of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Who leads.
    pub term: Term,
    /// When it was decided.
    pub at: Timestamp,
    /// Canonical JSON.
    pub payload: String,
}

/// One record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Dense from 1.
    pub position: u64,
    /// Who led.
    pub term: Term,
    /// When it was decided.
    pub at: Timestamp,
    /// Canonical JSON.
    pub payload: String,
    /// Its link of the chain.
    pub hash: Hash,
}

/// The end of the log: what the next record follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last record's position; 0 while the log is empty.
    pub position: u64,
    /// The last record's hash.
    pub hash: Hash,
    /// The last record's term.
    pub term: Term,
    /// The last record's instant.
    pub at: Timestamp,
}

impl Tip {
    /// The end of an empty log.
    pub const EMPTY: Self =
        Self { position: 0, hash: Hash::GENESIS, term: Term(0), at: Timestamp(0) };
}
