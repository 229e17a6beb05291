//! Evidence: the segments behind a node's time, so that a line opens to what proves it.

use std::collections::BTreeMap;

use serde::Serialize;
use wharfage_shared::segment::SegmentKey;
use wharfage_shared::time::Timestamp;

use crate::meter::Interval;
use crate::money::InstanceMs;
use crate::series::{Stream, Target};
use crate::spans::{Span, Standing};

/// How much of a line one segment proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The segment.
    #[serde(flatten)]
    pub segment: SegmentKey,
    /// Its share of the line's time.
    pub quantity_ms: InstanceMs,
}

/// The segments of one series by stream, standing and node.
#[derive(Default)]
pub struct Index<'a> {
    proofs: BTreeMap<(Stream, Standing, u32), Vec<Proof<'a>>>,
}

/// One segment's stretch; ordered by start, so that the earliest names time that two would cover.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Proof<'a> {
    start: Timestamp,
    end: Timestamp,
    segment: &'a SegmentKey,
}

/// What each target's time is proven by.
pub type Proven<'a> = BTreeMap<Target, BTreeMap<&'a SegmentKey, InstanceMs>>;

impl<'a> Index<'a> {
    /// Adds an interval of the node with this number.
    pub fn add(&mut self, interval: &'a Interval, node: u32) {
        let key = (interval.stream(), interval.standing(), node);
        let Interval { start, end, evidence: segment, .. } = interval;
        self.proofs.entry(key).or_default().push(Proof { start: *start, end: *end, segment });
    }

    /// Puts every node's segments in the order of time; needed once before [`Self::prove`].
    pub fn sort(&mut self) {
        for proofs in self.proofs.values_mut() {
            proofs.sort_unstable();
            // Where one segment lies within another, the longer reach of the earlier one counts.
            let mut reach = Timestamp(i64::MIN);
            proofs.retain(|proof| {
                let adds = proof.end > reach && proof.end > proof.start;
                reach = reach.max(proof.end);
                adds
            });
        }
    }

    /// Splits `span` among the segments that prove it and books them under `target`.
    pub fn prove(&self, stream: &Stream, target: &Target, span: Span, proven: &mut Proven<'a>) {
        let key = (stream.clone(), span.standing, span.node);
        let Some(proofs) = self.proofs.get(&key) else { return };
        let segments = proven.entry(target.clone()).or_default();
        let mut from = span.start;
        // Starts and ends both rise along the list, so the first that reaches `from` is found.
        let first = proofs.partition_point(|proof| proof.end <= from);
        for proof in &proofs[first..] {
            if proof.start >= span.end {
                break;
            }
            let (start, end) = (proof.start.max(from), proof.end.min(span.end));
            if start < end {
                let length = InstanceMs(u128::from(end.since(start).0));
                *segments.entry(proof.segment).or_default() += length;
                from = end;
            }
        }
    }
}
