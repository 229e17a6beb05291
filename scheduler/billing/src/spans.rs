//! Spans: when which node was active, united per node so that no millisecond counts twice.

use wharfage_shared::time::Timestamp;

/// What a node's time counts as. Where spans of one node overlap, the later variant wins: evidence
/// beats its absence, and time that we owe is not billed because another record says it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Expected, without evidence yet.
    Unproven,
    /// For the customer: enters the fill.
    Active,
    /// Held for the customer but unusable through no fault of theirs.
    Faulty,
    /// On the provider's account: taken out before the fill.
    Provider,
}

impl Standing {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Unproven, Self::Active, Self::Faulty, Self::Provider];
}

/// A half-open stretch of one node's time. Nodes are numbered in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which node.
    pub node: u32,
    /// First instant.
    pub start: Timestamp,
    /// End, not part of it.
    pub end: Timestamp,
    /// What it counts as.
    pub standing: Standing,
}

/// A billing period, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// First instant.
    pub from: Timestamp,
    /// End, not part of it.
    pub to: Timestamp,
}

impl Period {
    /// The part of a stretch that lies in the period, if any does.
    pub fn clip(self, start: Timestamp, end: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let (start, end) = (start.max(self.from), end.min(self.to));
        (start < end).then_some((start, end))
    }
}

/// The same time as spans that do not overlap within a node, ordered by node and start; neighbours
/// of one standing are one span.
pub fn unite(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.start < span.end);
    spans.sort_unstable();
    let mut united: Vec<Span> = Vec::with_capacity(spans.len());
    let mut rest = spans.as_slice();
    while let Some(first) = rest.first() {
        let length = cluster(rest);
        let one_standing = rest[..length].iter().all(|span| span.standing == first.standing);
        if one_standing {
            let end = rest[..length].iter().map(|span| span.end).max().unwrap_or(first.end);
            push(&mut united, Span { end, ..*first });
        } else {
            unite_cluster(&rest[..length], &mut united);
        }
        rest = &rest[length..];
    }
    united
}

/// How many of the first spans hang together: each begins before all earlier ones have ended.
fn cluster(spans: &[Span]) -> usize {
    let mut end = spans[0].end;
    let mut length = 1;
    for span in &spans[1..] {
        if span.node != spans[0].node || span.start >= end {
            break;
        }
        end = end.max(span.end);
        length += 1;
    }
    length
}

/// Overlapping spans of different standing: between any two borders the strongest one holds.
fn unite_cluster(spans: &[Span], united: &mut Vec<Span>) {
    let mut borders: Vec<(Timestamp, usize, bool)> = Vec::with_capacity(spans.len() * 2);
    for span in spans {
        borders.push((span.start, span.standing as usize, true));
        borders.push((span.end, span.standing as usize, false));
    }
    borders.sort_unstable();
    let mut open = [0u32; Standing::ALL.len()];
    for pair in borders.windows(2) {
        let (start, standing, opens) = pair[0];
        if opens {
            open[standing] += 1;
        } else {
            open[standing] -= 1;
        }
        let end = pair[1].0;
        let strongest = Standing::ALL.into_iter().rev().find(|s| open[*s as usize] > 0);
        if let Some(standing) = strongest.filter(|_| start < end) {
            push(united, Span { node: spans[0].node, start, end, standing });
        }
    }
}

fn push(united: &mut Vec<Span>, span: Span) {
    match united.last_mut() {
        Some(last)
            if last.node == span.node
                && last.end == span.start
                && last.standing == span.standing =>
        {
            last.end = span.end;
        }
        Some(_) | None => united.push(span),
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Active, Faulty, Provider, Unproven};
    use super::*;
    use proptest::prelude::*;

    fn span(node: u32, start: i64, end: i64, standing: Standing) -> Span {
        Span { node, start: Timestamp(start), end: Timestamp(end), standing }
    }

    #[test]
    fn the_same_time_twice_counts_once() {
        let spans = vec![
            span(1, 0, 5, Active),
            span(0, 10, 20, Active),
            span(0, 0, 10, Active),
            span(0, 3, 4, Active),
            span(0, 7, 7, Active),
            span(0, 3, 4, Active),
            span(0, 21, 22, Active),
        ];
        let united = vec![span(0, 0, 20, Active), span(0, 21, 22, Active), span(1, 0, 5, Active)];
        assert_eq!(unite(spans), united);
    }

    #[test]
    fn evidence_beats_its_absence_and_our_account_beats_the_customers() {
        let spans = vec![
            span(0, 0, 100, Unproven),
            span(0, 10, 50, Active),
            span(0, 20, 30, Faulty),
            span(0, 25, 40, Provider),
        ];
        let united = vec![
            span(0, 0, 10, Unproven),
            span(0, 10, 20, Active),
            span(0, 20, 25, Faulty),
            span(0, 25, 40, Provider),
            span(0, 40, 50, Active),
            span(0, 50, 100, Unproven),
        ];
        assert_eq!(unite(spans), united);
    }

    proptest! {
        /// The oracle asks every millisecond which spans cover it.
        #[test]
        fn every_millisecond_has_the_strongest_standing_that_covers_it(
            raw in proptest::collection::vec((0u32..2, 0i64..30, 0i64..12, 0usize..4), 0..12),
        ) {
            let spans: Vec<Span> = raw
                .into_iter()
                .map(|(node, start, length, s)| span(node, start, start + length, Standing::ALL[s]))
                .collect();
            let united = unite(spans.clone());
            let at = |spans: &[Span], node, ms| {
                let covers = |s: &&Span| s.node == node && s.start.0 <= ms && ms < s.end.0;
                spans.iter().filter(covers).map(|s| s.standing).max()
            };
            for node in 0..2 {
                for ms in 0..45 {
                    prop_assert_eq!(at(&spans, node, ms), at(&united, node, ms));
                }
            }
            for pair in united.windows(2) {
                prop_assert!(pair[0].node < pair[1].node || pair[0].end <= pair[1].start);
            }
        }
    }
}
