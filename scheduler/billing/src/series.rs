//! Series: all time of one organization, region and SKU, and the lines that it makes.
//!
//! A series is always computed whole from its spans, never incremented, so order, duplicates and
//! batches of arrival cannot matter.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::{ClaimId, OrganizationId};

use crate::lines::{Charge, Line, LineKind};
use crate::money::InstanceMs;
use crate::spans::{Period, Span, unite};
use crate::sweep::{self, Accounts, Counted, Filled, Piece, pieces};
use crate::terms::{Contract, Plan, Price, Terms};

/// Names a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Who pays.
    pub organization: OrganizationId,
    /// Where.
    pub region: Region,
    /// Which instance type.
    pub sku: Sku,
}

/// Which of a series' counts a node enters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard nodes, CUSTOMER claims included: Reserved, then Flex, then On-Demand.
    Fill,
    /// Spot nodes, outside the fill.
    Spot,
    /// Nodes of one SERVERLESS claim, outside the fill.
    Claim(ClaimId),
}

/// The time of one series by stream, as it came.
#[derive(Clone, Debug, Default)]
pub struct Streams(BTreeMap<Stream, Vec<Span>>);

impl Streams {
    /// Adds a span; overlaps and repetitions do no harm.
    pub fn add(&mut self, stream: Stream, span: Span) {
        self.0.entry(stream).or_default().push(span);
    }

    /// Each stream with its spans united.
    pub fn united(self) -> BTreeMap<Stream, Vec<Span>> {
        self.0.into_iter().map(|(stream, spans)| (stream, unite(spans))).collect()
    }
}

/// What a series comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributed {
    /// Its lines, unsorted, each with the target that its time went to. None has quantity zero.
    pub lines: Vec<(Target, Line)>,
    /// Where its time went.
    pub accounts: Accounts,
}

/// What time can go to, within a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The band of the contract at this place in the fill.
    Band(usize),
    /// The credit for unusable time in that band.
    BandCredit(usize),
    /// This piece of the On-Demand price.
    OnDemand(usize),
    /// This piece of the spot price.
    Spot(usize),
    /// This piece of a claim's price.
    Claim(ClaimId, usize),
    /// The credit for unusable time of that piece.
    ClaimCredit(ClaimId, usize),
}

/// Contracts and prices of one series within one period: what its time is held against.
pub struct Rates<'a> {
    /// In fill order.
    pub contracts: &'a [Contract],
    /// The On-Demand price.
    pub on_demand: Vec<Piece>,
    /// The spot price.
    pub spot: Vec<Piece>,
    /// The price of a claimed instance.
    pub claim: Vec<Piece>,
}

impl<'a> Rates<'a> {
    /// The rates of `key` under `terms`.
    pub fn new(terms: &'a Terms, key: &SeriesKey, period: Period) -> Self {
        let prices = terms.prices_of(&key.sku, &key.region);
        Self {
            contracts: terms.contracts_of(&key.organization, &key.region, &key.sku),
            on_demand: pieces(prices, period, |price| Some(price.on_demand)),
            spot: pieces(prices, period, |price| price.spot),
            claim: pieces(prices, period, |price| Some(Price::claim(price))),
        }
    }
}

/// The lines and accounts of one series from its united streams.
pub fn attribute(
    terms: &Terms,
    key: &SeriesKey,
    streams: &BTreeMap<Stream, Vec<Span>>,
    period: Period,
) -> Attributed {
    let rates = Rates::new(terms, key, period);
    let mut writer = Writer { terms, key, period, attributed: Attributed::default() };
    let none = Vec::new();
    let fill = streams.get(&Stream::Fill).unwrap_or(&none);
    let filled = sweep::fill(fill, period, rates.contracts, &rates.on_demand);
    writer.filled(&rates, &filled);
    for (stream, spans) in streams {
        match stream {
            Stream::Fill => {}
            Stream::Spot => writer.spot(&rates.spot, &sweep::count(spans, period, &rates.spot)),
            Stream::Claim(claim) => {
                writer.claim(claim, &rates.claim, &sweep::count(spans, period, &rates.claim));
            }
        }
    }
    writer.attributed
}

/// Turns quantities into lines.
struct Writer<'a> {
    terms: &'a Terms,
    key: &'a SeriesKey,
    period: Period,
    attributed: Attributed,
}

impl Writer<'_> {
    fn filled(&mut self, rates: &Rates<'_>, filled: &Filled) {
        for (at, (contract, portion)) in rates.contracts.iter().zip(&filled.contracts).enumerate() {
            let Some((start, end)) = self.period.clip(contract.start, contract.end) else {
                continue;
            };
            let held = u128::from(contract.instances) * u128::from(end.since(start).0);
            let flat = contract.plan.flat_rate();
            let piece = |rate| Piece { start, end, rate: Some(rate) };
            match contract.plan {
                Plan::Reserved { .. } => {
                    let line = self.line(LineKind::Reserved, InstanceMs(held), piece(flat));
                    let line = Line { used: portion.used, ..line };
                    self.push(Target::Band(at), under(contract, line));
                }
                Plan::Flex { usage_rate, .. } => {
                    let line = self.line(LineKind::FlexHolding, InstanceMs(held), piece(flat));
                    let line = Line { used: portion.used, ..line };
                    self.push(Target::Band(at), under(contract, line));
                    let line = self.line(LineKind::FlexUsage, portion.used, piece(usage_rate));
                    self.push(Target::Band(at), under(contract, line));
                }
            }
            let credit = credit(self.line(LineKind::Credit, portion.faulty, piece(flat)));
            self.push(Target::BandCredit(at), under(contract, credit));
        }
        for (at, (piece, used)) in rates.on_demand.iter().zip(&filled.on_demand).enumerate() {
            let line = self.line(LineKind::OnDemand, *used, *piece);
            self.push(Target::OnDemand(at), line);
        }
        self.attributed.accounts = self.attributed.accounts.plus(filled.accounts);
    }

    fn spot(&mut self, prices: &[Piece], counted: &Counted) {
        for (at, (piece, portion)) in prices.iter().zip(&counted.pieces).enumerate() {
            let line = self.line(LineKind::Spot, portion.used, *piece);
            self.push(Target::Spot(at), line);
        }
        self.attributed.accounts.spot += counted.pieces.iter().map(|p| p.used).sum();
        self.outside(counted);
    }

    fn claim(&mut self, claim: &ClaimId, prices: &[Piece], counted: &Counted) {
        for (at, (piece, portion)) in prices.iter().zip(&counted.pieces).enumerate() {
            // Billed as long as the claim holds it; what could not be used comes back as a credit.
            let held = portion.used + portion.faulty;
            let mut line = self.line(LineKind::Claim, held, *piece);
            line.claim = Some(claim.clone());
            self.push(Target::Claim(claim.clone(), at), line);
            let mut credit = credit(self.line(LineKind::Credit, portion.faulty, *piece));
            credit.claim = Some(claim.clone());
            self.push(Target::ClaimCredit(claim.clone(), at), credit);
        }
        self.attributed.accounts.claim += counted.pieces.iter().map(|p| p.used).sum();
        self.outside(counted);
    }

    fn outside(&mut self, counted: &Counted) {
        let faulty: InstanceMs = counted.pieces.iter().map(|portion| portion.faulty).sum();
        self.attributed.accounts.provider += counted.provider + faulty;
        self.attributed.accounts.unproven += counted.unproven;
    }

    fn line(&self, kind: LineKind, quantity: InstanceMs, piece: Piece) -> Line {
        Line {
            organization: self.key.organization.clone(),
            region: self.key.region.clone(),
            sku: self.key.sku.clone(),
            contract: None,
            claim: None,
            kind,
            quantity,
            used: quantity,
            charge: Charge::of(quantity, piece.rate, self.terms.currency()),
            start: piece.start,
            end: piece.end,
        }
    }

    fn push(&mut self, target: Target, line: Line) {
        if line.quantity != InstanceMs::default() {
            self.attributed.lines.push((target, line));
        }
    }
}

fn under(contract: &Contract, line: Line) -> Line {
    Line { contract: Some(contract.id.clone()), ..line }
}

fn credit(line: Line) -> Line {
    Line { charge: line.charge.credited(), ..line }
}
