//! Facts about proven time: segments, clocks, ticks, incidents.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{BootId, NodeId};
use wharfage_shared::segment::{OpenSegment, Segment, SegmentKey};
use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A segment has begun, proven so far as it says.
    SegmentOpened {
        /// The segment.
        segment: Box<OpenSegment>,
        /// When it was heard of.
        at: Timestamp,
    },
    /// An open segment is over by a newer one; its closed form is still under way.
    SegmentSuperseded {
        /// Which.
        key: SegmentKey,
        /// Up to here it was proven.
        proven_until: Boottime,
    },
    /// A closed segment is counted, once for ever by its key.
    SegmentClosed {
        /// The segment.
        segment: Box<Segment>,
        /// When it arrived.
        at: Timestamp,
    },
    /// A key came again with other content: a person must look.
    Incident {
        /// Which key.
        key: SegmentKey,
        /// What differs, one sentence.
        description: String,
        /// When.
        at: Timestamp,
    },
    /// What moves a host's clock to the scheduler's.
    Offset {
        /// The host.
        node: NodeId,
        /// Its boot.
        boot: BootId,
        /// From here on, on the host's clock.
        from: Boottime,
        /// How much.
        offset: ClockOffset,
    },
    /// All open segments are proven up to here, but for the nodes that are behind.
    Tick {
        /// When it was taken.
        at: Timestamp,
        /// The instant.
        proven_until: Timestamp,
        /// Nodes whose open segments are proven less far.
        behind: Vec<Behind>,
    },
}

/// A node whose open segment is proven less far than the others'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Behind {
    /// Which.
    pub node: NodeId,
    /// How far.
    pub proven_until: Timestamp,
}
