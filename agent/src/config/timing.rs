//! `[timing]`: margins, and estimates of what was not measured yet.

use serde::Deserialize;

use crate::bad_key::BadKey;

/// No margin, estimate or drain is longer than a day.
pub(super) const LONGEST_SECONDS: u32 = 86_400;

/// Margins and estimates of the node's decisions, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Everything is gone this long before a deadline.
    #[serde(default = "default_stop_margin")]
    pub stop_margin_seconds: u32,
    /// What a checkpoint is believed to take before one was seen.
    #[serde(default = "default_checkpoint_estimate")]
    pub checkpoint_seconds: u32,
    /// What a drain hook is believed to take.
    #[serde(default = "default_drain_estimate")]
    pub drain_seconds: u32,
    /// What an engine is given between SIGTERM and SIGKILL under a deadline.
    #[serde(default = "default_stop_estimate")]
    pub stop_seconds: u32,
}

impl Timing {
    pub(super) fn check(&self) -> Result<(), BadKey> {
        let all = [
            ("timing.stop_margin_seconds", self.stop_margin_seconds),
            ("timing.checkpoint_seconds", self.checkpoint_seconds),
            ("timing.drain_seconds", self.drain_seconds),
            ("timing.stop_seconds", self.stop_seconds),
        ];
        match all.into_iter().find(|(_, seconds)| *seconds > LONGEST_SECONDS) {
            Some((key, seconds)) => Err(BadKey::new(key, too_long(seconds))),
            None => Ok(()),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stop_margin_seconds: default_stop_margin(),
            checkpoint_seconds: default_checkpoint_estimate(),
            drain_seconds: default_drain_estimate(),
            stop_seconds: default_stop_estimate(),
        }
    }
}

fn default_stop_margin() -> u32 {
    2
}

fn default_checkpoint_estimate() -> u32 {
    30
}

fn default_drain_estimate() -> u32 {
    5
}

fn default_stop_estimate() -> u32 {
    5
}

pub(super) fn too_long(seconds: u32) -> String {
    format!("{seconds} is longer than a day; accepted: 0 to {LONGEST_SECONDS}")
}
