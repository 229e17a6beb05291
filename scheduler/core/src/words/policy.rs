//! Every duration and switch of the scheduler's decisions, with the design's values as defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::PoolId;
use wharfage_shared::time::Millis;

/// What an operator may tune. Lengths are whole seconds in `scheduler.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The usual distance between an agent's heartbeats.
    pub heartbeat_interval_seconds: u32,
    /// Without a heartbeat for this long a node is silent.
    pub silent_after_seconds: u32,
    /// The control lease: without a heartbeat for this long a node is lost.
    pub lease_seconds: u32,
    /// After a start nobody is lost before this has passed.
    pub start_wait_seconds: u32,
    /// Beyond the lease: before what a lost single-copy replica held is used anew.
    pub single_copy_margin_seconds: u32,
    /// A gateway whose report is older does not count for removals.
    pub gateway_lease_seconds: u32,
    /// From a reclaim's warning to its drain.
    pub reclaim_drain_seconds: u32,
    /// From a reclaim's warning to its end.
    pub reclaim_gone_seconds: u32,
    /// The distance between attributions.
    pub tick_seconds: u32,
    /// Above this share of a zone's nodes silent at once, a partition is suspected.
    pub partition_percent: u8,
    /// And at least so many nodes.
    pub partition_nodes: u32,
    /// Within this time.
    pub partition_window_seconds: u32,
    /// For at most this long evictions wait.
    pub partition_hold_seconds: u32,
    /// A health rule that hits more than this share of all nodes stops automatic drains and resets.
    pub brake_percent: u8,
    /// And at least so many nodes.
    pub brake_nodes: u32,
    /// Within this time.
    pub brake_window_seconds: u32,
    /// At most this share of all nodes is reset or booted anew at once; always at least one.
    pub repair_percent: u8,
    /// A repair that is not over after this long keeps others waiting no more.
    pub repair_turn_seconds: u32,
    /// A node whose wall clock differs by so much or more takes nothing new.
    pub clock_off_seconds: u32,
    /// A node with so many faults of its hardware takes nothing new until an operator says so.
    pub repeated_incidents: u32,
    /// Within so many days.
    pub repeated_incident_days: u32,
    /// The first wait after a failed start.
    pub backoff_first_seconds: u32,
    /// The longest wait after failed starts.
    pub backoff_most_seconds: u32,
    /// A start may take at least this long.
    pub start_deadline_seconds: u32,
    /// And this many times what it took the last time.
    pub start_deadline_factor: u32,
    /// A replica that was ready for this long ends a row of failures.
    pub healthy_after_seconds: u32,
    /// A replica whose proof has failed for this long is given up for another one.
    pub give_up_degraded_after_seconds: u32,
    /// From one decrease of a SERVERLESS claim to the next.
    pub claim_decrease_seconds: u32,
    /// Whether idle standard nodes are lent whole as spot, to be called back when they are asked
    /// for.
    pub lend_idle: bool,
    /// Pools where it is otherwise.
    pub lend_idle_of_pools: BTreeMap<PoolId, bool>,
    /// What was called back is not lent again for so long.
    pub lend_again_after_seconds: u32,
    /// Whether priority orders all organizations as one (teams of one company).
    pub priority_scope: PriorityScope,
    /// How a seat is chosen among those that are feasible.
    pub placement: PlacementPolicy,
    /// Pools that choose otherwise.
    pub placement_of_pools: BTreeMap<PoolId, PlacementPolicy>,
    /// Whether replicas move so that a waiting one fits.
    pub consolidation: bool,
    /// Whether what stands elsewhere for want of spot goes back to spot when there is room again.
    pub spot_return: bool,
    /// After it has served elsewhere for so long.
    pub spot_return_after_seconds: u32,
    /// At most so many replicas move within an hour, over the whole fleet and for either reason.
    pub consolidation_moves_per_hour: u32,
    /// So many nodes that may be taken away are emptied early at once; 0 = hints are only shown.
    pub leave_early_nodes: u32,
    /// A hint counts when what it says lies at most so far ahead.
    pub leave_early_within_seconds: u32,
}

/// How a seat is chosen among those that are feasible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementPolicy {
    /// The fullest node with room: whole nodes stay free for large asks.
    #[default]
    BestFit,
    /// The emptiest node: replicas share as little as possible.
    Spread,
}

/// Among whom priority decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorityScope {
    /// Within one organization.
    #[default]
    Organization,
    /// Among all.
    Fleet,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            heartbeat_interval_seconds: 5,
            silent_after_seconds: 15,
            lease_seconds: 30,
            start_wait_seconds: 57,
            single_copy_margin_seconds: 27,
            gateway_lease_seconds: 30,
            reclaim_drain_seconds: 120,
            reclaim_gone_seconds: 420,
            tick_seconds: 30,
            partition_percent: 20,
            partition_nodes: 3,
            partition_window_seconds: 60,
            partition_hold_seconds: 1800,
            brake_percent: 20,
            brake_nodes: 3,
            brake_window_seconds: 600,
            repair_percent: 10,
            repair_turn_seconds: 3600,
            clock_off_seconds: 5,
            repeated_incidents: 3,
            repeated_incident_days: 28,
            backoff_first_seconds: 1,
            backoff_most_seconds: 300,
            start_deadline_seconds: 600,
            start_deadline_factor: 3,
            healthy_after_seconds: 600,
            give_up_degraded_after_seconds: 60,
            claim_decrease_seconds: 3600,
            lend_idle: true,
            lend_idle_of_pools: BTreeMap::new(),
            lend_again_after_seconds: 3600,
            priority_scope: PriorityScope::Organization,
            placement: PlacementPolicy::BestFit,
            placement_of_pools: BTreeMap::new(),
            consolidation: true,
            spot_return: true,
            spot_return_after_seconds: 600,
            consolidation_moves_per_hour: 60,
            leave_early_nodes: 1,
            leave_early_within_seconds: 3600,
        }
    }
}

/// A policy that contradicts itself: which key, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {got}; accepted: {accepted}")]
pub struct BadPolicy {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub got: u64,
    /// What is accepted.
    pub accepted: String,
}

impl Policy {
    /// The policy, if its lengths make sense together.
    pub fn check(self) -> Result<Self, BadPolicy> {
        let least = |key, got: u32, least: u32, why: &str| {
            let accepted = format!("at least {least} ({why})");
            if got < least { Err(BadPolicy { key, got: got.into(), accepted }) } else { Ok(()) }
        };
        let interval = self.heartbeat_interval_seconds;
        least("heartbeat_interval_seconds", interval, 1, "an agent cannot report more often")?;
        let silent = self.silent_after_seconds;
        least("silent_after_seconds", silent, 2 * interval, "two heartbeats")?;
        least("lease_seconds", self.lease_seconds, silent, "silent_after_seconds")?;
        least("start_wait_seconds", self.start_wait_seconds, self.lease_seconds, "lease_seconds")?;
        least("tick_seconds", self.tick_seconds, 1, "a tick is a record")?;
        least("gateway_lease_seconds", self.gateway_lease_seconds, 3, "three reports")?;
        let drain = self.reclaim_drain_seconds;
        least("reclaim_gone_seconds", self.reclaim_gone_seconds, drain, "reclaim_drain_seconds")?;
        least("backoff_first_seconds", self.backoff_first_seconds, 1, "a wait")?;
        let first = self.backoff_first_seconds;
        least("backoff_most_seconds", self.backoff_most_seconds, first, "backoff_first_seconds")?;
        least("start_deadline_seconds", self.start_deadline_seconds, 1, "a start takes time")?;
        let patience = self.give_up_degraded_after_seconds;
        least("give_up_degraded_after_seconds", patience, interval, "heartbeat_interval_seconds")?;
        least("repair_turn_seconds", self.repair_turn_seconds, 60, "a reboot takes minutes")?;
        least("clock_off_seconds", self.clock_off_seconds, 1, "reports take a while")?;
        least("repeated_incidents", self.repeated_incidents, 2, "once is no repetition")?;
        least("repeated_incident_days", self.repeated_incident_days, 1, "a time")?;
        if self.partition_percent > 100 {
            let accepted = "0 to 100".to_owned();
            let got = self.partition_percent.into();
            return Err(BadPolicy { key: "partition_percent", got, accepted });
        }
        for (key, got) in
            [("brake_percent", self.brake_percent), ("repair_percent", self.repair_percent)]
        {
            if got > 100 {
                let accepted = "0 to 100".to_owned();
                return Err(BadPolicy { key, got: got.into(), accepted });
            }
        }
        Ok(self)
    }

    /// A hint counts when what it says lies at most so far ahead.
    pub fn leave_early_within(&self) -> Millis {
        Millis::from_seconds(self.leave_early_within_seconds.into())
    }

    /// How a seat is chosen among the nodes of a pool.
    pub fn placement_in(&self, pool: &PoolId) -> PlacementPolicy {
        self.placement_of_pools.get(pool).copied().unwrap_or(self.placement)
    }

    /// Whether idle standard nodes of a pool are lent as spot.
    pub fn lends_in(&self, pool: &PoolId) -> bool {
        self.lend_idle_of_pools.get(pool).copied().unwrap_or(self.lend_idle)
    }

    /// Whether any pool's idle standard nodes are lent as spot.
    pub fn lends(&self) -> bool {
        self.lend_idle || self.lend_idle_of_pools.values().any(|lends| *lends)
    }

    /// What was called back is not lent again for so long.
    pub fn lend_again_after(&self) -> Millis {
        Millis::from_seconds(self.lend_again_after_seconds.into())
    }

    /// Without a heartbeat for this long a node is silent.
    pub fn silent_after(&self) -> Millis {
        Millis::from_seconds(self.silent_after_seconds.into())
    }

    /// The control lease.
    pub fn lease(&self) -> Millis {
        Millis::from_seconds(self.lease_seconds.into())
    }

    /// After a start nobody is lost before this has passed.
    pub fn start_wait(&self) -> Millis {
        Millis::from_seconds(self.start_wait_seconds.into())
    }

    /// Beyond the lease: before what a lost single-copy replica held is used anew.
    pub fn single_copy_margin(&self) -> Millis {
        Millis::from_seconds(self.single_copy_margin_seconds.into())
    }

    /// The lease of a gateway process.
    pub fn gateway_lease(&self) -> Millis {
        Millis::from_seconds(self.gateway_lease_seconds.into())
    }

    /// The distance between attributions.
    pub fn tick(&self) -> Millis {
        Millis::from_seconds(self.tick_seconds.into())
    }

    /// How long a replica has served elsewhere before it goes back to spot.
    pub fn spot_return_after(&self) -> Millis {
        Millis::from_seconds(self.spot_return_after_seconds.into())
    }

    /// How long a proof may fail before the replica is given up.
    pub fn give_up_degraded_after(&self) -> Millis {
        Millis::from_seconds(self.give_up_degraded_after_seconds.into())
    }

    /// How long a start may take: the deployment's own word, else what the last one took.
    pub fn start_deadline(&self, own: Option<u32>, last_start: Option<Millis>) -> Millis {
        let least = Millis::from_seconds(self.start_deadline_seconds.into());
        let expected = last_start.unwrap_or_default().0;
        let of_history = Millis(expected.saturating_mul(self.start_deadline_factor.into()));
        own.map_or(least.max(of_history), |seconds| Millis::from_seconds(seconds.into()))
    }

    /// How long to wait after so many failures in a row.
    pub fn backoff(&self, failures: u32) -> Millis {
        let doubled = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
        let seconds = u64::from(self.backoff_first_seconds).saturating_mul(doubled);
        Millis::from_seconds(seconds.min(self.backoff_most_seconds.into()))
    }
}
