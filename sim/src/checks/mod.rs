//! The rules that never bend, checked against the truth of the world and against the facts. No check
//! shares code with the decision that it checks.
//!
//! | Rule | Where | When |
//! |---|---|---|
//! | S1 | `stops` (host truth), `facts` (fleet) | each start, each record |
//! | S2 S3 S4 S6 S10 | `facts` | each fact that could break it |
//! | S5 | `meter` | at the end |
//! | S7 | `scheduler.rs` | each death of the scheduler, at the end |
//! | S8 S12 | `stops` | each signal, each deadline |
//! | S9 | `host/hands.rs`, `scheduler.rs`, `facts` | each write, each answer, each fact |
//! | L1 L2 L3 | `ends`, `scheduler.rs` | each pass, at the end |

pub(crate) mod ends;
pub(crate) mod facts;
pub(crate) mod meter;
pub(crate) mod stops;
