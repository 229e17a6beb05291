//! The two leases: the control lease under which new things start, and the serving lease up to
//! which a guard keeps its replica running.
//!
//! Guards the rule that both count from the *sending* of the acknowledged heartbeat.

use std::fmt;

use wharfage_shared::time::{Boottime, Millis};

use crate::status::ControlLease;

/// A serving lease of a day is told to the guard anew only when it has moved this far: telling
/// costs a write, and a day minus this is still a day to people.
const SERVING_LEASE_STEP: Millis = Millis::from_seconds(600);

/// What the acknowledged heartbeats have granted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leases {
    acknowledged: Option<Boottime>,
    control_until: Option<Boottime>,
}

/// Why nothing new may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStart {
    NeverAnswered,
    LeaseOver { silent_for: Millis },
    Noticed,
    NotOrdered,
}

impl fmt::Display for NoStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoStart::NeverAnswered => f.write_str("waits: the scheduler has not answered yet"),
            NoStart::LeaseOver { silent_for } => {
                write!(f, "waits: the control lease is over, no answer since {silent_for}")
            }
            NoStart::Noticed => f.write_str("waits: the node is under a notice"),
            NoStart::NotOrdered => f.write_str("waits: the scheduler no longer names it"),
        }
    }
}

impl Leases {
    /// A heartbeat that was sent at `sent_at` was acknowledged with a lease of this length.
    pub fn renew(&mut self, sent_at: Boottime, lease: Millis) {
        self.acknowledged = self.acknowledged.max(Some(sent_at));
        self.control_until = self.control_until.max(Some(sent_at + lease));
    }

    /// When the last acknowledged heartbeat was sent.
    pub fn acknowledged(&self) -> Option<Boottime> {
        self.acknowledged
    }

    /// Whether something new may start as far as the control lease goes.
    pub fn may_start(&self, now: Boottime) -> Result<(), NoStart> {
        match (self.control_until, self.acknowledged) {
            (Some(until), _) if now < until => Ok(()),
            (Some(_), Some(sent_at)) => Err(NoStart::LeaseOver { silent_for: now.since(sent_at) }),
            (_, _) => Err(NoStart::NeverAnswered),
        }
    }

    /// The end of a replica's serving lease, when its guard must be told: it knows `told`.
    pub fn serve_until(
        &self,
        single_copy: bool,
        serving_lease: Millis,
        told: Option<Boottime>,
    ) -> Option<Boottime> {
        if single_copy {
            return self.control_until.filter(|until| Some(*until) > told);
        }
        let until = self.acknowledged? + serving_lease;
        let worth_it = told.is_none_or(|told| until >= told + SERVING_LEASE_STEP);
        worth_it.then_some(until)
    }

    /// When the control lease ends.
    pub fn control_until(&self) -> Option<Boottime> {
        self.control_until
    }

    /// For the status page.
    pub fn shown(&self, now: Boottime) -> ControlLease {
        ControlLease { until: self.control_until, live: self.may_start(now).is_ok() }
    }
}
