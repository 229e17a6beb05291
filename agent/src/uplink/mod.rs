//! The line to the scheduler. The agent dials out and never listens for commands.

mod enrolment;
mod heartbeat;
mod output;

pub use enrolment::{address, enrol};
pub use heartbeat::{Line, run};
pub use output::{LastWords, Output, send_output};
