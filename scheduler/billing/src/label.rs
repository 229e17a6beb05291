//! Labels: which node's time stands behind which line.
//!
//! At every instant the node that has been active longest takes the first seat of the fill, ties by
//! node id. Late data may move labels, never totals: totals come from the sweep, which knows no
//! nodes, and an invoice holds the two against each other.

use std::collections::BTreeSet;

use wharfage_shared::ids::ClaimId;
use wharfage_shared::time::Timestamp;

use crate::series::{Rates, Stream, Target};
use crate::spans::{Period, Span, Standing};
use crate::sweep::Piece;

/// Calls `sink` with every stretch of a node's time that a line charges or credits. `spans` are the
/// stream's, united.
pub fn label(
    stream: &Stream,
    spans: &[Span],
    period: Period,
    rates: &Rates<'_>,
    mut sink: impl FnMut(Target, Span),
) {
    match stream {
        Stream::Fill => fill(spans, period, rates, sink),
        Stream::Spot => outside(spans, period, &rates.spot, |span, piece| {
            if span.standing == Standing::Active {
                sink(Target::Spot(piece), span);
            }
        }),
        Stream::Claim(claim) => outside(spans, period, &rates.claim, |span, piece| {
            if let Some(target) = of_claim(claim, span.standing, piece) {
                sink(target, span);
            }
        }),
    }
}

fn of_claim(claim: &ClaimId, standing: Standing, piece: usize) -> Option<Target> {
    match standing {
        Standing::Active => Some(Target::Claim(claim.clone(), piece)),
        Standing::Faulty => Some(Target::ClaimCredit(claim.clone(), piece)),
        Standing::Unproven | Standing::Provider => None,
    }
}

/// Every span cut at the period's ends and at each change of the price.
fn outside(spans: &[Span], period: Period, prices: &[Piece], mut visit: impl FnMut(Span, usize)) {
    for span in spans {
        for (at, piece) in prices.iter().enumerate() {
            let of_piece = Period { from: piece.start, to: piece.end };
            let within = period.clip(span.start, span.end);
            if let Some((start, end)) = within.and_then(|(start, end)| of_piece.clip(start, end)) {
                visit(Span { start, end, ..*span }, at);
            }
        }
    }
}

/// A node in the order of its seats: working before unusable, then longest active, then its id.
type Sitter = (Standing, Timestamp, u32);

/// Walks from change to change and seats the nodes: the bands one after the other, the rest beyond.
fn fill(spans: &[Span], period: Period, rates: &Rates<'_>, mut sink: impl FnMut(Target, Span)) {
    let mut changes: Vec<(Timestamp, bool, Sitter)> = Vec::new();
    let sits = |span: &&Span| matches!(span.standing, Standing::Active | Standing::Faulty);
    for span in spans.iter().filter(sits) {
        if let Some((start, end)) = period.clip(span.start, span.end) {
            let sitter = (span.standing, span.start, span.node);
            changes.push((start, true, sitter));
            changes.push((end, false, sitter));
        }
    }
    changes.sort_unstable();
    let mut instants: Vec<Timestamp> = changes.iter().map(|(at, ..)| *at).collect();
    instants.extend(rates.contracts.iter().flat_map(|contract| [contract.start, contract.end]));
    instants.extend(rates.on_demand.iter().map(|piece| piece.start));
    instants.sort_unstable();
    instants.dedup();
    let mut changes = changes.into_iter().peekable();
    let mut sitters: BTreeSet<Sitter> = BTreeSet::new();
    for pair in instants.windows(2) {
        while let Some((_, comes, sitter)) = changes.next_if(|(at, ..)| *at <= pair[0]) {
            if comes {
                sitters.insert(sitter);
            } else {
                sitters.remove(&sitter);
            }
        }
        seat(&sitters, pair[0], pair[1], rates, &mut sink);
    }
}

/// Seats everybody for one stretch in which nothing changes.
fn seat(
    sitters: &BTreeSet<Sitter>,
    start: Timestamp,
    end: Timestamp,
    rates: &Rates<'_>,
    sink: &mut impl FnMut(Target, Span),
) {
    let mut waiting =
        sitters.iter().map(|&(standing, _, node)| Span { node, start, end, standing });
    for (band, contract) in rates.contracts.iter().enumerate() {
        if !(contract.start <= start && start < contract.end) {
            continue;
        }
        for span in waiting.by_ref().take(contract.instances as usize) {
            match span.standing {
                Standing::Active => sink(Target::Band(band), span),
                Standing::Faulty => sink(Target::BandCredit(band), span),
                Standing::Unproven | Standing::Provider => {}
            }
        }
    }
    let Some(piece) = rates.on_demand.iter().position(|p| p.start <= start && start < p.end) else {
        return;
    };
    for span in waiting.filter(|span| span.standing == Standing::Active) {
        sink(Target::OnDemand(piece), span);
    }
}
