//! The plan of one replica's stop, made backwards from its deadline.
//!
//! Guards the rule that nothing of a replica runs at its deadline: a short window cuts the drain
//! first, then the checkpoint, never the stop.

use serde::Serialize;
use wharfage_shared::time::{Boottime, Millis};

/// The latest moment for each step. Invariant: `planned_at <= drain_at <= drain_hook_at <= stop_at
/// <= kill_at <= gone_at`, except that a deadline which had passed when the plan was made leaves
/// every step at `planned_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timetable {
    /// When the plan was made.
    pub planned_at: Boottime,
    /// Traffic off at the latest: from here drain, drain hook and stop still fit.
    pub drain_at: Boottime,
    /// Requests still in flight are given up for the drain hook.
    pub drain_hook_at: Boottime,
    /// SIGTERM at the latest; hooks that still run are cut off.
    pub stop_at: Boottime,
    /// SIGKILL at the latest.
    pub kill_at: Boottime,
    /// The deadline.
    pub gone_at: Boottime,
}

/// What the steps of one stop are expected to take; a step that is not needed takes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// What is left of the checkpoint.
    pub checkpoint: Millis,
    /// Requests in flight coming to their end.
    pub quiet: Millis,
    /// The drain hook.
    pub drain_hook: Millis,
    /// From SIGTERM to the last process's end.
    pub stop: Millis,
    /// Between the last process's end and the deadline.
    pub margin: Millis,
}

/// Plans backwards from `gone_at`. The stop keeps its time; the checkpoint, which runs beside
/// traffic from `now` on, takes what is left before the drain does.
pub fn timetable(now: Boottime, gone_at: Boottime, steps: Steps) -> Timetable {
    let kill_at = gone_at.minus(steps.margin).max(now);
    let stop_at = kill_at.minus(steps.stop).max(now);
    let for_drain = stop_at.since(now) - steps.checkpoint;
    let drain_hook = steps.drain_hook.min(for_drain);
    let quiet = steps.quiet.min(for_drain - drain_hook);
    let drain_hook_at = stop_at.minus(drain_hook);
    let drain_at = drain_hook_at.minus(quiet);
    debug_assert!(now <= drain_at && drain_at <= drain_hook_at);
    debug_assert!(drain_hook_at <= stop_at && stop_at <= kill_at);
    Timetable { planned_at: now, drain_at, drain_hook_at, stop_at, kill_at, gone_at }
}
