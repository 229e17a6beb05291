//! What the scheduler knows without it being a fact: who was heard when, how far open segments are
//! proven, what gateways use. Gone with the process; a start waits until it is known again.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::health::Health;
use wharfage_shared::ids::{GatewayName, NodeId};
use wharfage_shared::segment::SegmentKey;
use wharfage_shared::time::{Boottime, ClockOffset, Millis, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::table::Table;
use crate::policies::doubts::Clock;
use crate::reconcile::loads::Loads;
use crate::reconcile::plan::GatewayHeard;
use crate::words::node::Reach;

/// Everything that is not a fact.
#[derive(Clone, Debug)]
pub(super) struct Soft {
    /// When this scheduler began.
    pub began: Timestamp,
    /// By node.
    pub nodes: Table<NodeId, NodeHeard>,
    /// When each node that is not lost must be looked at for silence: one entry per node.
    pub checks: Table<(Timestamp, NodeId), ()>,
    /// By gateway process.
    pub gateways: BTreeMap<GatewayName, GatewayHeard>,
    /// The loads that counts of replicas follow.
    pub loads: Loads,
    /// When the next attribution is due.
    pub next_tick: Timestamp,
}

/// What one node's agent said last.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeHeard {
    /// When.
    pub at: Timestamp,
    /// Its report's number within its epoch.
    pub number: u64,
    /// Its open segment and how far it is proven.
    pub proven: Option<(SegmentKey, Boottime)>,
    /// Clock samples in a row that were far above the fact, and the least of them.
    pub drift: Option<Drift>,
    /// What the last samples of its wall clock showed.
    pub clock: Clock,
    /// Its health report, with the report's hash.
    pub health: Option<(String, Arc<Health>)>,
}

/// A clock that seems to have stepped ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drift {
    /// How many samples in a row.
    pub samples: u32,
    /// The least of them: delay only ever adds.
    pub least: ClockOffset,
}

impl Soft {
    /// Knows nothing: every node that the log calls heard is looked at for silence from now on.
    pub fn new(fleet: &Fleet, began: Timestamp, tick: Millis, silent_after: Millis) -> Self {
        let mut soft = Self {
            began,
            nodes: Table::default(),
            checks: Table::default(),
            gateways: BTreeMap::new(),
            loads: Loads::default(),
            next_tick: began + tick,
        };
        for node in fleet.nodes() {
            if matches!(node.reach, Reach::Connected | Reach::Silent) {
                soft.checks.insert((began + silent_after, node.id.clone()), ());
            }
        }
        soft
    }

    /// When a node was heard last; the scheduler's own beginning when it was not heard since.
    pub fn heard(&self, node: &NodeId) -> Timestamp {
        self.nodes.get(node).map_or(self.began, |heard| heard.at)
    }
}
