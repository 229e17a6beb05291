//! What the node's owner may tune in the node's decisions. Every length has a default that the
//! design names or that a comment explains.

use std::collections::BTreeMap;

use wharfage_shared::ids::HookId;
use wharfage_shared::time::Millis;

use crate::health;

/// Lengths and limits of the node's decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A replica is killed this long before its deadline, so that nothing of it runs at it.
    pub stop_margin: Millis,
    /// What the steps of a stop are expected to take.
    pub budget: Budget,
    /// How many bytes a second go through what all checkpoints of the host share (its disk, the
    /// link to a shared place), where the node's owner says.
    pub checkpoints_carry: Option<u64>,
    /// What each local hook is expected to take, where that is known better than by `budget`.
    pub hook_estimates: BTreeMap<HookId, Millis>,
    /// How often a replica is looked at until it is ready.
    pub probe_until_ready: Millis,
    /// How often a ready replica must prove itself again.
    pub probe_when_ready: Millis,
    /// So many failed proofs in a row make a ready replica degraded.
    pub failures_to_degrade: u32,
    /// A probe or a look at released slots without an answer is asked again after this long.
    pub unanswered_after: Millis,
    /// The first pause between two looks at released slots; doubled up to `release_longest`.
    pub release_first: Millis,
    /// The longest pause between two looks at released slots.
    pub release_longest: Millis,
    /// How long a replica may serve without any answer of the scheduler.
    pub serving_lease: Millis,
    /// How often the open segment is noted in the log: what a crash of the agent may lose.
    pub note_segment_every: Millis,
    /// A segment is cut after this long even if nothing changed.
    pub segment_longest: Millis,
    /// Gates and XIDs.
    pub health: health::Settings,
}

/// What the steps of a stop are expected to take, before anything was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The checkpoint hook.
    pub checkpoint: Millis,
    /// Traffic off: the requests in flight come to their end.
    pub quiet: Millis,
    /// The drain hook.
    pub drain_hook: Millis,
    /// From SIGTERM to the end of the last process.
    pub stop: Millis,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            checkpoint: Millis::from_seconds(30),
            quiet: Millis::from_seconds(10),
            drain_hook: Millis::from_seconds(5),
            stop: Millis::from_seconds(5),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stop_margin: Millis::from_seconds(2),
            budget: Budget::default(),
            checkpoints_carry: None,
            hook_estimates: BTreeMap::new(),
            probe_until_ready: Millis(500),
            probe_when_ready: Millis::from_seconds(5),
            failures_to_degrade: 3,
            unanswered_after: Millis::from_seconds(30),
            release_first: Millis(250),
            release_longest: Millis::from_seconds(5),
            serving_lease: Millis::from_seconds(24 * 3600),
            note_segment_every: Millis::from_seconds(5),
            segment_longest: Millis::from_seconds(24 * 3600),
            health: health::Settings::default(),
        }
    }
}
