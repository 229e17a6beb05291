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
