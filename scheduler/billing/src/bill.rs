//! Bills: usage rated under terms, for every organization in them.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{ComputeClass, Region, Sku};
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::time::{Millis, Timestamp};

use crate::lines::{Line, LineKind};
use crate::money::Minor;
use crate::series::{SeriesKey, Stream, Streams, attribute};
use crate::spans::{Period, Span, Standing};
use crate::terms::Terms;
use crate::timestamp::to_rfc3339;
use crate::usage::Usage;

/// The longest period that is rated at once, about a hundred years: keeps sums within 128 bits.
pub const LONGEST_PERIOD: Millis = Millis::from_seconds(3_155_760_000);

/// A period's charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// In the order of a bill; every one has a price.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub total: Minor,
    /// The period.
    pub from: Timestamp,
    /// Its end, not part of it.
    pub to: Timestamp,
}

/// Why usage could not be rated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The period has no length, or too much.
    #[error(
        "the period from {} to {} cannot be rated; accepted: an end after the start, at most a \
         hundred years later", to_rfc3339(*.from), to_rfc3339(*.to)
    )]
    Period {
        /// First instant.
        from: Timestamp,
        /// End.
        to: Timestamp,
    },
    /// Something was used that has no price.
    #[error(
        "the terms have no {line} price for SKU `{sku}` in region `{region}` from {} to {}, but \
         `{organization}` used it", to_rfc3339(*.from), to_rfc3339(*.to)
    )]
    NoPrice {
        /// What the use would have been charged as.
        line: LineKind,
        /// The instance type.
        sku: Sku,
        /// Where.
        region: Region,
        /// Who used it.
        organization: OrganizationId,
        /// First instant without a price.
        from: Timestamp,
        /// End of that stretch.
        to: Timestamp,
    },
}

/// Rates `usage` and all contracts within the period: Reserved, then Flex, then On-Demand for each
/// organization, region and SKU; spot apart.
pub fn rate(
    terms: &Terms,
    usage: &[Usage],
    from: Timestamp,
    to: Timestamp,
) -> Result<Bill, RateError> {
    if to <= from || to.since(from) > LONGEST_PERIOD {
        return Err(RateError::Period { from, to });
    }
    let period = Period { from, to };
    let mut lines = Vec::new();
    for (key, streams) in series_of(terms, usage) {
        let attributed = attribute(terms, &key, &streams.united(), period);
        lines.extend(attributed.lines.into_iter().map(|(_, line)| line));
    }
    lines.sort_by(Line::order);
    let mut total = Minor::zero(terms.currency());
    for line in &lines {
        total = total + line.charge.amount().ok_or_else(|| no_price(line))?;
    }
    Ok(Bill { lines, total, from, to })
}

/// Every series that was used or that a contract holds: holding does not depend on use.
fn series_of(terms: &Terms, usage: &[Usage]) -> BTreeMap<SeriesKey, Streams> {
    let mut series: BTreeMap<SeriesKey, Streams> = BTreeMap::new();
    for contract in terms.contracts() {
        let (organization, region) = (contract.organization.clone(), contract.region.clone());
        series.entry(SeriesKey { organization, region, sku: contract.sku.clone() }).or_default();
    }
    let number_of = number_nodes(usage.iter().map(|row| &row.node));
    for row in usage {
        let (organization, region) = (row.organization.clone(), row.region.clone());
        let key = SeriesKey { organization, region, sku: row.sku.clone() };
        let stream = match row.compute_class {
            ComputeClass::Standard => Stream::Fill,
            ComputeClass::Spot => Stream::Spot,
        };
        let (node, standing) = (number_of[&row.node], Standing::Active);
        let span = Span { node, start: row.start, end: row.end, standing };
        series.entry(key).or_default().add(stream, span);
    }
    series
}

/// Nodes numbered in the order of their ids.
pub(crate) fn number_nodes<'a>(
    nodes: impl Iterator<Item = &'a NodeId>,
) -> BTreeMap<&'a NodeId, u32> {
    let mut numbers: BTreeMap<&NodeId, u32> = nodes.map(|node| (node, 0)).collect();
    for (number, (_, slot)) in (0..).zip(&mut numbers) {
        *slot = number;
    }
    numbers
}

fn no_price(line: &Line) -> RateError {
    RateError::NoPrice {
        line: line.kind,
        sku: line.sku.clone(),
        region: line.region.clone(),
        organization: line.organization.clone(),
        from: line.start,
        to: line.end,
    }
}
