//! Commands about drills.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::DrillId;
use wharfage_shared::time::Timestamp;

use crate::words::drill::{Drill, Schedule};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Begin one.
    Create(Box<Drill>),
    /// Begin one like it again and again.
    Schedule {
        /// The pattern; its id is the schedule's.
        drill: Box<Drill>,
        /// When.
        schedule: Schedule,
    },
    /// A schedule's time has come.
    Fire {
        /// Which schedule.
        schedule: DrillId,
        /// The id of the drill that begins.
        run: DrillId,
        /// The time that has come; each is told once.
        due: Timestamp,
    },
    /// Give it up, or end a schedule: notices are withdrawn and nothing more begins.
    Abort {
        /// Which.
        id: DrillId,
        /// Why, in the operator's words.
        reason: String,
    },
}
