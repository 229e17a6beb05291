//! What is proven of the nodes' time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{BootId, NodeId, SegmentLogId};
use wharfage_shared::segment::{OpenSegment, Segment, SegmentKey};
use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

use crate::fleet::table::Table;
use crate::words::event::meter::Behind;

/// Everything proven.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    /// Segments whose closed form has not arrived.
    pub open: Table<SegmentKey, Arc<OpenFact>>,
    /// Segments that are counted.
    pub closed: Table<SegmentKey, Arc<Segment>>,
    /// Up to which number a log's closed segments are here without a gap.
    pub dense: Table<(NodeId, SegmentLogId), u64>,
    /// The clocks of each boot, in the order of the host's clock.
    pub offsets: Table<(NodeId, BootId), Vec<OffsetFact>>,
    /// How far open segments are proven.
    pub tick: Option<TickFact>,
    /// Keys that came again with other content.
    pub incidents: Vec<Incident>,
}

/// A segment whose closed form has not arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFact {
    /// As it was first heard of.
    pub segment: OpenSegment,
    /// It is over by a newer one and was proven so far.
    pub superseded: Option<Boottime>,
}

/// What moves a host's clock to the scheduler's from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetFact {
    /// From here on, on the host's clock.
    pub from: Boottime,
    /// How much.
    pub offset: ClockOffset,
}

/// The last tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickFact {
    /// When it was taken.
    pub at: Timestamp,
    /// The instant up to which open segments are proven.
    pub proven_until: Timestamp,
    /// Nodes that are proven less far.
    pub behind: Vec<Behind>,
}

/// A key that came again with other content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Which key.
    pub key: SegmentKey,
    /// What differs.
    pub description: String,
    /// When.
    pub at: Timestamp,
}

impl Meter {
    /// The wall-clock instant of a host's instant. It never goes back within a boot, whatever the
    /// steps of the clocks.
    pub fn wall(&self, node: &NodeId, boot: &BootId, at: Boottime) -> Option<Timestamp> {
        let offsets = self.offsets.get(&(node.clone(), boot.clone()))?;
        let mut wall = offsets.first()?.offset.wall(at.min(offsets.get(1).map_or(at, |o| o.from)));
        for (position, fact) in offsets.iter().enumerate() {
            if fact.from > at {
                break;
            }
            let until = offsets.get(position + 1).map_or(at, |next| next.from.min(at));
            wall = wall.max(fact.offset.wall(until));
        }
        Some(wall)
    }
}

impl TickFact {
    /// How far a node's open segment is proven.
    pub fn of(&self, node: &NodeId) -> Timestamp {
        let behind = self.behind.iter().find(|behind| behind.node == *node);
        behind.map_or(self.proven_until, |behind| behind.proven_until)
    }
}
