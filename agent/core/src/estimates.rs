//! What hooks, starts and ends are expected to take: what was measured on this host wins over what
//! was configured.

use wharfage_shared::ids::DeploymentId;
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use crate::config::Config;
use crate::history::{History, Start, Took};
use crate::runs::RunKind;

/// A measured margin is never longer than the configured one by more than this: a host whose
/// processes do not end needs a person, not a longer wait.
const MARGIN_GROWS: Millis = Millis::from_seconds(10);

/// No engine is believed to end sooner.
const LEAST_STOP: Millis = Millis::from_seconds(1);

/// No requests are believed to end sooner.
const LEAST_QUIET: Millis = Millis::from_seconds(1);

/// What was measured here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Estimates {
    pub history: History,
}

/// A hook of one order: how long it is expected to take and how much to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub takes: Millis,
    pub bytes: Option<u64>,
}

impl Estimates {
    /// What a hook of this order is expected to be; nothing where the order names none.
    ///
    /// A quarter is added to what was measured, since the next run may be a little slower and a
    /// hook that is cut off is worth nothing.
    pub fn hook(
        &self,
        order: &RunOrder,
        kind: HookKind,
        hardware: &str,
        config: &Config,
    ) -> Expected {
        let Some(run) = run_kind(order, kind, hardware) else { return Expected::default() };
        if let Some(ran) = self.history.runs.expected(&run) {
            return Expected { takes: and_a_quarter(ran.took), bytes: ran.bytes };
        }
        let unmeasured = match kind {
            HookKind::Checkpoint => config.budget.checkpoint,
            HookKind::Drain | HookKind::Restore | HookKind::Post => config.budget.drain_hook,
        };
        let takes = config.hook_estimates.get(&run.hook).copied().unwrap_or(unmeasured);
        Expected { takes, bytes: None }
    }

    /// How long before a deadline everything is killed: as configured, or longer where engines of
    /// this host were seen to live on after SIGKILL.
    pub fn margin(&self, config: &Config) -> Millis {
        let measured = self.history.runs.longest_kill().map(and_a_quarter).unwrap_or_default();
        measured.clamp(config.stop_margin, config.stop_margin + MARGIN_GROWS)
    }

    /// What an engine is given between SIGTERM and SIGKILL under a deadline: as configured, or less
    /// where it was seen to end sooner. The time that it does not need is served.
    pub fn stop(&self, engine: &str, config: &Config) -> Millis {
        let measured = self.history.runs.longest_stop(engine).map(and_a_quarter);
        let configured = config.budget.stop;
        measured.map_or(configured, |measured| measured.max(LEAST_STOP).min(configured))
    }

    /// What requests in flight are given to come to their end under a deadline: as configured until
    /// it was seen on this host what those of the deployment need, be that less or more.
    pub fn quiet(&self, deployment: &DeploymentId, config: &Config) -> Millis {
        let measured = self.history.runs.longest_quiet(deployment).map(and_a_quarter);
        measured.map_or(config.budget.quiet, |measured| measured.max(LEAST_QUIET))
    }

    /// Bytes a second that checkpoints share: the owner's word, else what was measured.
    pub fn carries(&self, config: &Config) -> Option<u64> {
        config.checkpoints_carry.or(self.history.runs.carries())
    }

    /// How long a start like this one is expected to take, from the last ones.
    pub fn start(&self, start: &Start) -> Option<Took> {
        self.history.expected(start)
    }
}

/// What a hook of this order is known by, if the order names one.
pub(crate) fn run_kind(order: &RunOrder, kind: HookKind, hardware: &str) -> Option<RunKind> {
    Some(RunKind {
        hook: order.hooks.get(&kind)?.clone(),
        kind,
        model: format!("{}/{}", order.model_bucket, order.model_path),
        hardware: hardware.to_owned(),
    })
}

fn and_a_quarter(took: Millis) -> Millis {
    Millis(took.0.saturating_add(took.0.div_ceil(4)))
}
