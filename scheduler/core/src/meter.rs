//! From the fleet's proven time to what billing counts: intervals, terms, drafts, as of the last
//! tick.
//!
//! Time that the log does not prove yet is in no interval; it comes later, in its own period.

use wharfage_billing::invoice::{Draft, DraftRequest, draft as draft_of};
use wharfage_billing::meter::{Claim, Contributes, Interval};
use wharfage_billing::money::{Currency, NotARate, UnknownCurrency};
use wharfage_billing::terms::{Contract, Plan, Price, Terms, TermsError};
use wharfage_shared::ids::{ClaimId, OrganizationId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::segment::{Activity, SegmentKey};
use wharfage_shared::time::{Boottime, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::rows::meter::OpenFact;
use crate::words::contract::{ContractTerms, Price as PriceFact};

/// Why no terms can be made of what the log holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTerms {
    /// Nobody of this name.
    #[error("there is no organization `{0}`")]
    NoOrganization(OrganizationId),
    /// Its currency is not one.
    #[error("the organization's currency is unknown")]
    Currency(#[source] UnknownCurrency),
    /// A rate is not one.
    #[error("a rate of {what} cannot be read")]
    Rate {
        /// Of what.
        what: String,
        /// Why.
        #[source]
        source: NotARate,
    },
    /// Prices and contracts contradict each other.
    #[error("prices and contracts do not make terms")]
    Terms(#[source] TermsError),
}

/// Up to when time is proven and attributed; nothing is before the first tick.
pub fn as_of(fleet: &Fleet) -> Option<Timestamp> {
    fleet.meter().tick.as_ref().map(|tick| tick.proven_until)
}

/// An organization's proven time within a period, in the order of nodes and segments.
pub fn intervals(
    fleet: &Fleet,
    organization: &OrganizationId,
    from: Timestamp,
    to: Timestamp,
) -> Vec<Interval> {
    let of = |held: &Option<HeldFor>| {
        held.as_ref().is_some_and(|held| held.organization == *organization)
    };
    let meter = fleet.meter();
    let mut found = Vec::new();
    for (key, segment) in meter.closed.iter().filter(|(_, segment)| of(&segment.held_for)) {
        let ends = (wall(fleet, key, segment.start), wall(fleet, key, segment.end));
        found.extend(interval(fleet, key, segment.held_for.as_ref(), segment.activity, ends));
    }
    for (key, fact) in meter.open.iter().filter(|(_, fact)| of(&fact.segment.held_for)) {
        let segment = &fact.segment;
        let ends = (wall(fleet, key, segment.start), proven(fleet, fact));
        found.extend(interval(fleet, key, segment.held_for.as_ref(), segment.activity, ends));
    }
    found.retain_mut(|interval| {
        interval.start = interval.start.max(from);
        interval.end = interval.end.min(to);
        interval.start < interval.end
    });
    found.sort();
    found
}

fn wall(fleet: &Fleet, key: &SegmentKey, at: Boottime) -> Option<Timestamp> {
    fleet.meter().wall(&key.node, &key.boot, at)
}

/// How far an open segment is proven by the last tick, or by the newer one that ended it.
fn proven(fleet: &Fleet, fact: &OpenFact) -> Option<Timestamp> {
    let key = &fact.segment.key;
    match fact.superseded {
        Some(until) => wall(fleet, key, until),
        None => fleet.meter().tick.as_ref().map(|tick| tick.of(&key.node)),
    }
}

fn interval(
    fleet: &Fleet,
    key: &SegmentKey,
    held_for: Option<&HeldFor>,
    activity: Activity,
    ends: (Option<Timestamp>, Option<Timestamp>),
) -> Option<Interval> {
    let node = fleet.node(&key.node)?;
    let held = held_for?;
    let (start, end) = (ends.0?, ends.1?);
    Some(Interval {
        organization: held.organization.clone(),
        region: node.region(),
        sku: node.sku.clone(),
        compute_class: held.compute_class,
        node: key.node.clone(),
        claim: held.claim.as_ref().and_then(|id| claim_of(fleet, id)),
        start,
        end,
        activity,
        contributes: Contributes::Customer,
        evidence: key.clone(),
    })
}

/// The claim that held the node; one that has ended is still known.
fn claim_of(fleet: &Fleet, id: &ClaimId) -> Option<Claim> {
    let capacity_type = fleet.claim(id)?.spec.capacity_type;
    Some(Claim { id: id.clone(), capacity_type })
}

/// What an organization's hours cost: every list price, its own contracts, its currency.
pub fn terms(fleet: &Fleet, organization: &OrganizationId) -> Result<Terms, NoTerms> {
    let row = fleet
        .organization(organization)
        .ok_or_else(|| NoTerms::NoOrganization(organization.clone()))?;
    let currency: Currency = row.currency.parse().map_err(NoTerms::Currency)?;
    let prices: Result<Vec<Price>, NoTerms> = fleet.prices().iter().map(price).collect();
    let own = fleet.contracts().filter(|row| row.contract.organization == *organization);
    // What another one goes on from at its very start was never in force.
    let own = own.filter(|row| row.contract.start < row.end());
    let contracts: Result<Vec<Contract>, NoTerms> =
        own.map(|row| contract(&row.contract, row.end())).collect();
    Terms::new(currency, prices?, contracts?).map_err(NoTerms::Terms)
}

/// A rate as billing reads it.
fn rate<T: std::str::FromStr<Err = NotARate>>(text: &str, what: &str) -> Result<T, NoTerms> {
    text.parse().map_err(|source| NoTerms::Rate { what: what.to_owned(), source })
}

/// A list price as billing reads it.
pub fn price(fact: &PriceFact) -> Result<Price, NoTerms> {
    let what = format!("the price of {} in {}", fact.sku, fact.region);
    let optional = |text: &Option<String>| text.as_deref().map(|text| rate(text, &what));
    Ok(Price {
        sku: fact.sku.clone(),
        region: fact.region.clone(),
        on_demand: rate(&fact.on_demand, &what)?,
        spot: optional(&fact.spot).transpose()?,
        gpus: fact.gpus,
        gpu_hour: optional(&fact.gpu_hour).transpose()?,
        from: Some(fact.from),
    })
}

/// A contract as billing reads it, up to where it ends or another one goes on from it.
pub fn contract(
    fact: &crate::words::contract::Contract,
    end: Timestamp,
) -> Result<Contract, NoTerms> {
    let what = format!("contract `{}`", fact.id);
    let plan = match &fact.terms {
        ContractTerms::Reserved { rate: text } => Plan::Reserved { rate: rate(text, &what)? },
        ContractTerms::Flex { holding_rate, usage_rate } => Plan::Flex {
            holding_rate: rate(holding_rate, &what)?,
            usage_rate: rate(usage_rate, &what)?,
        },
    };
    Ok(Contract {
        id: fact.id.clone(),
        organization: fact.organization.clone(),
        sku: fact.sku.clone(),
        region: fact.region.clone(),
        instances: fact.instances,
        start: fact.start,
        end,
        plan,
    })
}

/// An organization's invoice for a period, as of the last tick.
pub fn draft(
    fleet: &Fleet,
    organization: &OrganizationId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Draft, NoTerms> {
    let terms = terms(fleet, organization)?;
    let as_of = as_of(fleet).unwrap_or(from);
    let intervals = intervals(fleet, organization, from, to);
    let request = DraftRequest { organization: organization.clone(), from, to, as_of };
    Ok(draft_of(&request, &terms, &intervals))
}
