//! The end of a replica's output, for people who look for what went wrong.

use serde::{Deserialize, Serialize};

use crate::ids::ReplicaId;

/// `POST /agent/v1/logs`: new lines of one replica's output, oldest first. The scheduler keeps the
/// last thousand of each replica in memory; they are no facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// Whose output.
    pub replica: ReplicaId,
    /// The lines, without their ends.
    pub lines: Vec<String>,
}
