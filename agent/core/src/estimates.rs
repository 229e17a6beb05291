//! What hooks and starts are expected to take: what was measured on this host wins over what was
//! configured.

use std::collections::BTreeMap;

use wharfage_shared::ids::HookId;
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use crate::config::Config;
use crate::history::{History, Start, Took};

/// Measured lengths: hooks of this agent's life, starts of this host's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    hooks: BTreeMap<HookId, Millis>,
    pub history: History,
}

impl Estimates {
    /// A hook was done after so long: the longest counts.
    pub fn hook_took(&mut self, hook: HookId, took: Millis) {
        let known = self.hooks.entry(hook).or_default();
        *known = (*known).max(took);
    }

    /// How long a hook of this order is expected to take; zero where the order names none.
    ///
    /// A quarter is added to what was measured, since the next run may be a little slower and a
    /// hook that is cut off is worth nothing.
    pub fn hook(&self, order: &RunOrder, kind: HookKind, config: &Config) -> Millis {
        let Some(hook) = order.hooks.get(&kind) else { return Millis(0) };
        if let Some(took) = self.hooks.get(hook) {
            return Millis(took.0.saturating_add(took.0.div_ceil(4)));
        }
        let unmeasured = match kind {
            HookKind::Checkpoint => config.budget.checkpoint,
            HookKind::Drain | HookKind::Restore | HookKind::Post => config.budget.drain_hook,
        };
        config.hook_estimates.get(hook).copied().unwrap_or(unmeasured)
    }

    /// How long a start like this one is expected to take, from the last ones.
    pub fn start(&self, start: &Start) -> Option<Took> {
        self.history.expected(start)
    }
}
