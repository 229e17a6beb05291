//! Commands about contracts, prices and invoices.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_billing::invoice::RULES;
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::{ContractId, OrganizationId};
use wharfage_shared::time::Timestamp;

use super::{name_taken, not_found, precondition};
use crate::capacity::ledger;
use crate::meter;
use crate::reconcile::plan::Plan;
use crate::words::command::Answer;
use crate::words::command::money::Action;
use crate::words::contract::{Contract, ContractTerms, Price};
use crate::words::event::money::{Event, Invoice};
use crate::words::refusal::{Kind, Refusal};

pub(super) fn carry_out(plan: &mut Plan<'_>, action: &Action) -> Result<Answer, Refusal> {
    match action {
        Action::Sign(contract) => sign(plan, contract)?,
        Action::Amend { contract, id, from, rate } => amend(plan, contract, id, *from, rate)?,
        Action::Price(price) => set_price(plan, price)?,
        Action::DraftInvoice { id, organization, from, to } => {
            draft(plan, id, organization, *from, *to)?;
        }
    }
    Ok(Answer::Done)
}

fn sign(plan: &mut Plan<'_>, contract: &Contract) -> Result<(), Refusal> {
    if plan.fleet.contract(&contract.id).is_some() {
        return Err(name_taken(Kind::Contract, &contract.id));
    }
    if plan.fleet.organization(&contract.organization).is_none() {
        return Err(not_found(Kind::Organization, &contract.organization));
    }
    if contract.end <= contract.start {
        return Err(Refusal::invalid("end", "not after the start; accepted: an instant after it"));
    }
    if contract.end <= plan.now {
        return Err(Refusal::invalid("end", "in the past; accepted: an instant in the future"));
    }
    if contract.instances == 0 {
        return Err(Refusal::invalid("instances", "0; accepted: at least 1"));
    }
    if let Err(error) = meter::contract(contract, contract.end) {
        return Err(Refusal::invalid("terms", with_causes(&error)));
    }
    check_future(plan, contract)?;
    let (contract, at) = (contract.clone(), plan.now);
    plan.record(Event::Signed { contract, at });
    Ok(())
}

/// A Flex contract goes on as a Reserved one: the same instances for the rest of its period, so
/// that nobody's guarantee changes.
fn amend(
    plan: &mut Plan<'_>,
    contract: &ContractId,
    id: &ContractId,
    from: Timestamp,
    rate: &str,
) -> Result<(), Refusal> {
    let row = plan.fleet.contract(contract);
    let row = row.ok_or_else(|| not_found(Kind::Contract, contract))?;
    if plan.fleet.contract(id).is_some() {
        return Err(name_taken(Kind::Contract, id));
    }
    let old = &row.contract;
    if matches!(old.terms, ContractTerms::Reserved { .. }) {
        let description = format!("{contract} is a Reserved contract already");
        return Err(precondition(contract.to_string(), description));
    }
    if let Some((by, _)) = &row.amended {
        let description = format!("{contract} goes on as {by} already");
        return Err(precondition(contract.to_string(), description));
    }
    if from < plan.now.max(old.start) || from >= old.end {
        let description = "outside what is left of the contract's period; accepted: an instant \
                           from now on, within the period";
        return Err(Refusal::invalid("from", description));
    }
    let terms = ContractTerms::Reserved { rate: rate.to_owned() };
    let by = Contract { id: id.clone(), start: from, terms, ..old.clone() };
    if let Err(error) = meter::contract(&by, by.end) {
        return Err(Refusal::invalid("rate", with_causes(&error)));
    }
    let (contract, at) = (contract.clone(), plan.now);
    plan.record(Event::Amended { contract, by, at });
    Ok(())
}

/// At every instant of the period the guarantees of all stay within what is usable (S10).
fn check_future(plan: &Plan<'_>, contract: &Contract) -> Result<(), Refusal> {
    let rows = ledger::capacity(plan.fleet);
    let row = rows.iter().find(|row| row.region == contract.region && row.sku == contract.sku);
    let usable = row.map_or(0, ledger::LedgerRow::whole);
    check_now(plan, contract, row)?;
    let others: Vec<(&Contract, Timestamp)> = plan
        .fleet
        .contracts()
        .map(|row| (&row.contract, row.end()))
        .filter(|(other, _)| other.region == contract.region && other.sku == contract.sku)
        .filter(|(other, end)| other.start < contract.end && *end > contract.start)
        .collect();
    let first = contract.start.max(plan.now);
    let mut instants = BTreeSet::from([first]);
    instants.extend(others.iter().map(|(other, _)| other.start).filter(|start| *start > first));
    for at in instants {
        let in_force = others.iter().filter(|(other, end)| other.start <= at && at < *end);
        let in_force = in_force.map(|(other, _)| *other);
        let before = guaranteed(row, in_force.clone());
        let all = guaranteed(row, in_force.chain([contract]));
        if all > u64::from(usable) {
            let description = format!(
                "{} instances of {} are asked for in {}; {usable} are usable there and {before} \
                 are guaranteed by other contracts and claims within the period",
                contract.instances, contract.sku, contract.region
            );
            let subject = format!("{}/{}", contract.region, contract.sku);
            return Err(Refusal::Exhausted { subject, description });
        }
    }
    Ok(())
}

/// What these contracts and the claims of today guarantee: a CUSTOMER claim draws on its
/// organization's contracts, SERVERLESS claims add to them.
fn guaranteed<'a>(
    row: Option<&ledger::LedgerRow>,
    contracts: impl Iterator<Item = &'a Contract>,
) -> u64 {
    let mut contracted: BTreeMap<&OrganizationId, u64> = BTreeMap::new();
    for contract in contracts {
        *contracted.entry(&contract.organization).or_default() += u64::from(contract.instances);
    }
    let claims = row.map(|row| &row.organizations);
    let mut serverless = 0;
    for (organization, shares) in claims.into_iter().flatten() {
        serverless += u64::from(shares.claimed_serverless);
        let customer = u64::from(shares.claimed_customer);
        let least = contracted.entry(organization).or_default();
        *least = customer.max(*least);
    }
    contracted.values().sum::<u64>() + serverless
}

/// What others use on demand now is not taken back: a contract that is in force at once must find
/// its instances among what is neither used, nor guaranteed, nor called back for somebody (S10).
fn check_now(
    plan: &Plan<'_>,
    contract: &Contract,
    row: Option<&ledger::LedgerRow>,
) -> Result<(), Refusal> {
    let Some(row) = row.filter(|_| contract.start <= plan.now) else { return Ok(()) };
    let own = row.organizations.get(&contract.organization).copied().unwrap_or_default();
    let signed = own.reserved + own.flex;
    let contracts = signed.saturating_add(contract.instances);
    let others = row.committed - own.committed + called_for_others(plan, contract);
    let beside_serverless = own.used - own.claimed_serverless;
    let wanted = contracts.max(beside_serverless).saturating_add(own.claimed_serverless);
    if others.saturating_add(wanted) <= row.whole().max(row.committed) {
        return Ok(());
    }
    let description = format!(
        "{} instances of {} are asked for in {} from now on; {} are usable there, {signed} are \
         guaranteed to the organization already and {others} are used by, guaranteed to or called \
         back for others",
        contract.instances,
        contract.sku,
        contract.region,
        row.whole()
    );
    let subject = format!("{}/{}", contract.region, contract.sku);
    Err(Refusal::Exhausted { subject, description })
}

/// What is called back from spot for others counts as theirs already.
fn called_for_others(plan: &Plan<'_>, contract: &Contract) -> u32 {
    let key = (contract.region.clone(), contract.sku.clone());
    let Some(capacity) = plan.fleet.index.capacity.get(&key) else { return 0 };
    let own = capacity.organizations.get(&contract.organization).copied().unwrap_or_default();
    capacity.coming - capacity.committed - (own.coming() - own.committed())
}

/// A price may not change what was in force already.
fn set_price(plan: &mut Plan<'_>, price: &Price) -> Result<(), Refusal> {
    if let Err(error) = meter::price(price) {
        return Err(Refusal::invalid("price", with_causes(&error)));
    }
    let same = |known: &&Price| known.sku == price.sku && known.region == price.region;
    let mut known = plan.fleet.prices().iter().filter(same);
    if known.clone().any(|known| known.from == price.from) {
        let description = format!(
            "{} in {} has a price from that instant already; accepted: another `from`",
            price.sku, price.region
        );
        return Err(precondition("from", description));
    }
    if price.from < plan.now && known.any(|known| known.from <= plan.now) {
        let description = "in the past, where a price is in force; accepted: now or later";
        return Err(Refusal::invalid("from", description));
    }
    let gpus = plan.fleet.prices().iter().filter(|known| known.sku == price.sku);
    if let Some(known) = gpus.filter_map(|known| known.gpus).next()
        && price.gpus.is_some_and(|gpus| gpus != known)
    {
        let description = format!("accepted: {known}, as at each price of {}", price.sku);
        return Err(Refusal::invalid("gpus", description));
    }
    let (price, at) = (price.clone(), plan.now);
    plan.record(Event::PriceSet { price, at });
    Ok(())
}

fn draft(
    plan: &mut Plan<'_>,
    id: &str,
    organization: &OrganizationId,
    from: Timestamp,
    to: Timestamp,
) -> Result<(), Refusal> {
    if plan.fleet.invoice(id).is_some() {
        return Err(name_taken(Kind::Invoice, &id));
    }
    if plan.fleet.organization(organization).is_none() {
        return Err(not_found(Kind::Organization, organization));
    }
    if to <= from {
        return Err(Refusal::invalid("to", "not after `from`; accepted: an instant after it"));
    }
    let draft = meter::draft(plan.fleet, organization, from, to);
    let draft = draft.map_err(|error| precondition(id, with_causes(&error)))?;
    let body = draft.canonical_json();
    let invoice = Invoice {
        id: id.to_owned(),
        organization: organization.clone(),
        from,
        to,
        as_of: draft.request.as_of,
        drafted_at: plan.now,
        rules: RULES,
        sha256: draft.sha256().to_string(),
        body,
    };
    plan.record(Event::InvoiceDrafted { invoice: Box::new(invoice) });
    Ok(())
}
