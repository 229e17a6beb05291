//! Commands about drills.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::DrillId;

use crate::words::drill::Drill;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Begin one.
    Create(Box<Drill>),
    /// Give it up: notices are withdrawn and nothing more begins.
    Abort {
        /// Which.
        id: DrillId,
        /// Why, in the operator's words.
        reason: String,
    },
}
