//! What machines say, taken in.

mod drills;
mod gateway;
mod heartbeat;
mod replicas;
mod segments;

use wharfage_shared::enroll::MachineProblem;

/// A problem for a machine: a stable code and what to do.
fn problem(code: &str, detail: String) -> MachineProblem {
    MachineProblem { code: code.to_owned(), detail }
}
