//! Invoice drafts: one organization's period as lines that open to the segments behind them.
//!
//! The canonical bytes of a draft depend on terms, intervals and the request alone, so `verify` is:
//! draft again from the log, compare bytes. A sum that does not add up is never repaired here; it
//! blocks finalisation and says where.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::Timestamp;

use crate::bill::{LONGEST_PERIOD, number_nodes};
use crate::canonical;
use crate::chain::Hash;
use crate::evidence::{Evidence, Index, Proven};
use crate::label::label;
use crate::lines::{Line, LineKind};
use crate::meter::Interval;
use crate::money::{Currency, InstanceMs, Minor};
use crate::series::{Attributed, Rates, SeriesKey, Stream, Streams, Target, attribute};
use crate::spans::{Period, Span};
use crate::sweep::Accounts;
use crate::terms::Terms;
use crate::timestamp::to_rfc3339;

/// The version of the rules in this crate; a final invoice is verified with the version it names.
pub const RULES: u32 = 1;

/// What to draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftRequest {
    /// Whose invoice.
    pub organization: OrganizationId,
    /// The period's first instant.
    pub from: Timestamp,
    /// The period's end, not part of it.
    pub to: Timestamp,
    /// Up to when facts count: what lies after it is not estimated.
    pub as_of: Timestamp,
}

/// An invoice that may still change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// [`RULES`] at the time of drafting.
    pub rules: u32,
    /// What was asked.
    pub request: DraftRequest,
    /// The one currency.
    pub currency: Currency,
    /// In the order of a bill.
    pub lines: Vec<DraftLine>,
    /// The sum of the lines that have a price.
    pub total: Minor,
    /// Where the organization's time went.
    pub accounts: Accounts,
    /// All time of all nodes, which the accounts add up to.
    pub time: InstanceMs,
    /// Why this draft cannot become final; empty when it can.
    pub blocked: Vec<Blocked>,
}

/// A line and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftLine {
    /// The line.
    pub line: Line,
    /// The segments whose time it charges or credits. A Reserved line names the use of its band
    /// and a holding line nothing: the contract itself is their evidence.
    pub segments: Vec<Evidence>,
}

/// Why a draft cannot become final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The period cannot be billed.
    #[error(
        "the period from {} to {} cannot be billed; accepted: an end after the start, at most a \
         hundred years later", to_rfc3339(*.from), to_rfc3339(*.to)
    )]
    Period {
        /// First instant.
        from: Timestamp,
        /// End.
        to: Timestamp,
    },
    /// A line has no price.
    #[error(
        "there is no {line} price for SKU `{sku}` in region `{region}` from {} to {}",
        to_rfc3339(*.from), to_rfc3339(*.to)
    )]
    NoPrice {
        /// What is charged.
        line: LineKind,
        /// The instance type.
        sku: Sku,
        /// Where.
        region: Region,
        /// First instant without a price.
        from: Timestamp,
        /// End of that stretch.
        to: Timestamp,
    },
    /// The accounts of a series do not add up to its time.
    #[error(
        "the accounts of SKU `{sku}` in region `{region}` hold {} ms, its nodes' time is {} ms",
        .accounts.0, .time.0
    )]
    BrokenSum {
        /// The instance type.
        sku: Sku,
        /// Where.
        region: Region,
        /// What the accounts add up to.
        accounts: InstanceMs,
        /// What they should add up to.
        time: InstanceMs,
    },
    /// A line's segments do not prove its quantity.
    #[error(
        "the {line} line of SKU `{sku}` in region `{region}` charges {} ms, its segments prove {} ms",
        .quantity.0, .proven.0
    )]
    Unproven {
        /// What is charged.
        line: LineKind,
        /// The instance type.
        sku: Sku,
        /// Where.
        region: Region,
        /// The line's quantity.
        quantity: InstanceMs,
        /// What its segments prove.
        proven: InstanceMs,
    },
}

/// Drafts the invoice of one organization. `intervals` may hold more than that organization's.
pub fn draft(request: &DraftRequest, terms: &Terms, intervals: &[Interval]) -> Draft {
    let mut draft = Draft {
        rules: RULES,
        request: request.clone(),
        currency: terms.currency(),
        lines: Vec::new(),
        total: Minor::zero(terms.currency()),
        accounts: Accounts::default(),
        time: InstanceMs::default(),
        blocked: Vec::new(),
    };
    let DraftRequest { from, to, as_of, .. } = *request;
    if to <= from || to.since(from) > LONGEST_PERIOD {
        draft.blocked.push(Blocked::Period { from, to });
        return draft;
    }
    let period = Period { from, to: to.min(as_of).max(from) };
    let own = |interval: &&Interval| interval.organization == request.organization;
    let number_of = number_nodes(intervals.iter().filter(own).map(|interval| &interval.node));
    let mut all = series_of(&request.organization, terms);
    for interval in intervals.iter().filter(own) {
        let (start, end, standing) = (interval.start, interval.end, interval.standing());
        let span = Span { node: number_of[&interval.node], start, end, standing };
        let series = all.entry(key_of(interval)).or_default();
        series.streams.add(interval.stream(), span);
        series.index.add(interval, span.node);
    }
    for (key, series) in all {
        draft.add(terms, &key, series, period);
    }
    draft.lines.sort_by(|a, b| a.line.order(&b.line));
    let amounts = draft.lines.iter().filter_map(|line| line.line.charge.amount());
    draft.total = Minor::sum(amounts, draft.currency);
    draft
}

/// One series while it is drafted.
#[derive(Default)]
struct Series<'a> {
    streams: Streams,
    index: Index<'a>,
}

/// The series that contracts hold, used or not.
fn series_of<'a>(organization: &OrganizationId, terms: &Terms) -> BTreeMap<SeriesKey, Series<'a>> {
    let contracts = terms.contracts().filter(|contract| contract.organization == *organization);
    let keys = contracts.map(|contract| SeriesKey {
        organization: organization.clone(),
        region: contract.region.clone(),
        sku: contract.sku.clone(),
    });
    keys.map(|key| (key, Series::default())).collect()
}

fn key_of(interval: &Interval) -> SeriesKey {
    SeriesKey {
        organization: interval.organization.clone(),
        region: interval.region.clone(),
        sku: interval.sku.clone(),
    }
}

impl Draft {
    /// The draft's one text: equal drafts have equal bytes.
    pub fn canonical_json(&self) -> String {
        canonical::to_string(self).expect("a draft holds texts and integers below 2^64")
    }

    /// The digest of [`Self::canonical_json`].
    pub fn sha256(&self) -> Hash {
        Hash::of(self.canonical_json().as_bytes())
    }

    fn add(&mut self, terms: &Terms, key: &SeriesKey, mut series: Series<'_>, period: Period) {
        let united = series.streams.united();
        let attributed = attribute(terms, key, &united, period);
        series.index.sort();
        let rates = Rates::new(terms, key, period);
        let mut proven = Proven::new();
        for (stream, spans) in &united {
            label(stream, spans, period, &rates, |target, span| {
                series.index.prove(stream, &target, span, &mut proven);
            });
        }
        self.check_sum(key, &united, &attributed, period);
        self.accounts = self.accounts.plus(attributed.accounts);
        for (target, line) in attributed.lines {
            let segments = segments_of(&line, &target, &proven);
            self.check_line(&line, &segments);
            self.lines.push(DraftLine { line, segments });
        }
    }

    fn check_sum(
        &mut self,
        key: &SeriesKey,
        united: &BTreeMap<Stream, Vec<Span>>,
        attributed: &Attributed,
        period: Period,
    ) {
        let clipped = united.values().flatten().filter_map(|s| period.clip(s.start, s.end));
        let time = clipped.map(|(start, end)| InstanceMs(u128::from(end.since(start).0))).sum();
        self.time += time;
        let accounts = attributed.accounts.sum();
        if accounts != time {
            let (sku, region) = (key.sku.clone(), key.region.clone());
            self.blocked.push(Blocked::BrokenSum { sku, region, accounts, time });
        }
    }

    fn check_line(&mut self, line: &Line, segments: &[Evidence]) {
        let (sku, region) = (line.sku.clone(), line.region.clone());
        if line.charge.rate().is_none() {
            let (from, to) = (line.start, line.end);
            let line = line.kind;
            self.blocked.push(Blocked::NoPrice { line, sku, region, from, to });
            return;
        }
        let proven: InstanceMs = segments.iter().map(|evidence| evidence.quantity_ms).sum();
        let proves = match line.kind {
            // Flat lines are owed for the contract's every hour; use lies within them.
            LineKind::Reserved => proven <= line.quantity,
            LineKind::FlexHolding | LineKind::Correction => true,
            LineKind::Claim
            | LineKind::Credit
            | LineKind::FlexUsage
            | LineKind::OnDemand
            | LineKind::Spot => proven == line.quantity,
        };
        if !proves {
            let (line, quantity) = (line.kind, line.quantity);
            self.blocked.push(Blocked::Unproven { line, sku, region, quantity, proven });
        }
    }
}

/// What proves a line, by node, boot, log and number.
fn segments_of(line: &Line, target: &Target, proven: &Proven<'_>) -> Vec<Evidence> {
    let mut targets = vec![target.clone()];
    match (line.kind, target) {
        (LineKind::FlexHolding, _) => return Vec::new(),
        // The claim is billed for its unusable time too, and credited for it on another line.
        (LineKind::Claim, Target::Claim(claim, piece)) => {
            targets.push(Target::ClaimCredit(claim.clone(), *piece));
        }
        (_, _) => {}
    }
    let mut segments = BTreeMap::new();
    for (segment, length) in targets.iter().filter_map(|target| proven.get(target)).flatten() {
        *segments.entry(*segment).or_insert(InstanceMs::default()) += *length;
    }
    let evidence =
        |(segment, quantity_ms): (&_, _)| Evidence { segment: Clone::clone(segment), quantity_ms };
    segments.into_iter().map(evidence).collect()
}

#[derive(Serialize)]
struct DraftJson<'a> {
    rules: u32,
    organization: &'a OrganizationId,
    from: String,
    to: String,
    as_of: String,
    currency: Currency,
    lines: &'a [DraftLine],
    total: Minor,
    accounts: Accounts,
    time_ms: InstanceMs,
    blocked: Vec<String>,
}

#[derive(Serialize)]
struct DraftLineJson<'a> {
    #[serde(flatten)]
    line: &'a Line,
    rate_type: &'static str,
    segments: &'a [Evidence],
}

impl Serialize for DraftLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { line, segments } = self;
        DraftLineJson { line, rate_type: line.kind.rate_type(), segments }.serialize(serializer)
    }
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = DraftJson {
            rules: self.rules,
            organization: &self.request.organization,
            from: to_rfc3339(self.request.from),
            to: to_rfc3339(self.request.to),
            as_of: to_rfc3339(self.request.as_of),
            currency: self.currency,
            lines: &self.lines,
            total: self.total,
            accounts: self.accounts,
            time_ms: self.time,
            blocked: self.blocked.iter().map(Blocked::to_string).collect(),
        };
        json.serialize(serializer)
    }
}
