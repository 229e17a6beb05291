//! Commands about capacity claims and quotas.

use std::collections::BTreeSet;

use wharfage_shared::capacity::{CapacityType, ComputeClass, Sku};
use wharfage_shared::ids::{ClaimId, OrganizationId};

use super::{name_taken, not_found, organization, provider_only};
use crate::capacity::claims::{left, quota};
use crate::fleet::rows::claim::ClaimRow;
use crate::reconcile::claims;
use crate::reconcile::plan::Plan;
use crate::words::claim::Spec;
use crate::words::command::Answer;
use crate::words::command::claims::Action;
use crate::words::event::claim::Event;
use crate::words::principal::Caller;
use crate::words::quota::QuotaKey;
use crate::words::refusal::{Kind, Refusal, Violation};

/// Most instances of one claim: more is a mistake, not a fleet.
pub const MOST_INSTANCES: u32 = 100_000;

pub(super) fn carry_out(
    plan: &mut Plan<'_>,
    caller: &Caller,
    action: &Action,
) -> Result<Answer, Refusal> {
    match action {
        Action::Create { id, organization, spec } => create(plan, caller, id, organization, spec)?,
        Action::Replace { id, spec } => replace(plan, caller, id, spec)?,
        Action::Delete { id } => {
            own(plan, caller, id)?;
            let (claim, at) = (id.clone(), plan.now);
            plan.record(Event::Deleted { claim, at });
        }
        Action::SetQuota { quota, instances } => {
            provider_only(caller)?;
            organization(plan, caller, &quota.organization)?;
            let (quota, instances, at) = (quota.clone(), *instances, plan.now);
            plan.record(Event::QuotaSet { quota, instances, at });
        }
    }
    Ok(Answer::Done)
}

/// The caller's own claim; another organization's, or one that has ended, does not exist.
fn own<'a>(plan: &'a Plan<'_>, caller: &Caller, id: &ClaimId) -> Result<&'a ClaimRow, Refusal> {
    let row = plan.fleet.claim(id).filter(|row| row.deleted_at.is_none());
    let row = row.filter(|row| caller.sees(&row.organization));
    row.ok_or_else(|| not_found(Kind::CapacityClaim, id))
}

fn create(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &ClaimId,
    of: &OrganizationId,
    spec: &Spec,
) -> Result<(), Refusal> {
    organization(plan, caller, of)?;
    // An id may come back as what it was: the time that was billed to it keeps its meaning.
    let known = plan.fleet.claim(id);
    let another = |row: &ClaimRow| {
        let same = row.organization == *of && row.spec.capacity_type == spec.capacity_type;
        row.deleted_at.is_none() || !same
    };
    if known.is_some_and(another) {
        return Err(name_taken(Kind::CapacityClaim, id));
    }
    let same = |row: &ClaimRow| row.organization == *of && row.spec.name == spec.name;
    if plan.fleet.claims().any(same) {
        return Err(name_taken(Kind::CapacityClaim, &spec.name));
    }
    check_count(spec.instances)?;
    check_place(plan, of, spec)?;
    check_quota(plan, of, spec, None)?;
    let (claim, organization, at) = (id.clone(), of.clone(), plan.now);
    plan.record(Event::Created { claim, organization, spec: spec.clone(), at });
    fill(plan, id)
}

fn check_count(instances: u32) -> Result<(), Refusal> {
    if (1..=MOST_INSTANCES).contains(&instances) {
        return Ok(());
    }
    let accepted = format!("{instances}; accepted: 1 to {MOST_INSTANCES}");
    Err(Refusal::invalid("resources.instanceCount", accepted))
}

/// The instance type is one of the zone's, as far as the organization may know.
fn check_place(plan: &Plan<'_>, of: &OrganizationId, spec: &Spec) -> Result<(), Refusal> {
    let open = |owner: &Option<OrganizationId>| owner.as_ref().is_none_or(|owner| owner == of);
    let pools = plan.fleet.pools().filter(|pool| pool.zone == spec.zone && open(&pool.owner));
    let pools = pools.filter(|pool| pool.compute_class == ComputeClass::Standard);
    let here: BTreeSet<&Sku> = pools.map(|pool| &pool.sku).collect();
    if here.is_empty() {
        let description = format!("there is no zone `{}`", spec.zone);
        return Err(Refusal::invalid("resources.zones", description));
    }
    if !here.contains(&spec.sku) {
        let description = format!("`{}` is no instance type of {}", spec.sku, spec.zone);
        return Err(Refusal::invalid("resources.instanceId", description));
    }
    Ok(())
}

/// A CUSTOMER claim stays within its organization's instance quota.
fn check_quota(
    plan: &Plan<'_>,
    of: &OrganizationId,
    spec: &Spec,
    except: Option<&ClaimRow>,
) -> Result<(), Refusal> {
    if spec.capacity_type != CapacityType::Customer {
        return Ok(());
    }
    let (organization, zone, sku) = (of.clone(), spec.zone.clone(), spec.sku.clone());
    let key = QuotaKey { organization, zone, sku };
    let (left, all) = (left(plan.fleet, &key, except), quota(plan.fleet, &key));
    if spec.instances <= left {
        return Ok(());
    }
    let description = format!(
        "{} instances of {} are asked for in {}; the instance quota there is {all}, {left} are \
         left of it",
        spec.instances, spec.sku, spec.zone
    );
    Err(Refusal::Exhausted {
        subject: format!("instances:{}/{}", spec.zone, spec.sku),
        description,
    })
}

/// Gives the claim its instances. A SERVERLESS claim gets all of them now, those that are about to
/// be empty included, or is refused; a CUSTOMER one waits for nodes to join.
fn fill(plan: &mut Plan<'_>, id: &ClaimId) -> Result<(), Refusal> {
    claims::claim(plan, id);
    let Some(row) = plan.fleet.claim(id) else { return Ok(()) };
    let spec = &row.spec;
    let found = row.instances.len();
    if spec.capacity_type == CapacityType::Customer || found >= row.granted as usize {
        return Ok(());
    }
    let description = format!(
        "{} instances of {} are asked for in {}; {found} are free there or about to be, what \
         others are guaranteed or use left out",
        row.granted, spec.sku, spec.zone
    );
    let subject = format!("capacity:{}/{}", spec.zone, spec.sku);
    Err(Refusal::Exhausted { subject, description })
}

fn replace(plan: &mut Plan<'_>, caller: &Caller, id: &ClaimId, spec: &Spec) -> Result<(), Refusal> {
    let row = own(plan, caller, id)?.clone();
    fixed(&row.spec, spec)?;
    check_count(spec.instances)?;
    if spec.instances == row.spec.instances {
        return Ok(());
    }
    let more = spec.instances > row.granted;
    if spec.instances > row.spec.instances {
        check_quota(plan, &row.organization, spec, Some(&row))?;
    }
    let (claim, instances, at) = (id.clone(), spec.instances, plan.now);
    plan.record(Event::Resized { claim: claim.clone(), instances, at });
    if more {
        plan.record(Event::Granted { claim, instances, at });
        return fill(plan, id);
    }
    Ok(())
}

/// Everything but the count is fixed for a claim's life.
fn fixed(is: &Spec, wanted: &Spec) -> Result<(), Refusal> {
    let mut violations = Vec::new();
    let mut differs = |field: &str, is: String, same: bool| {
        if !same {
            let description = format!("fixed for life: it is `{is}`");
            violations.push(Violation { field: field.to_owned(), description });
        }
    };
    differs("name", is.name.clone(), is.name == wanted.name);
    differs("resources.instanceId", is.sku.to_string(), is.sku == wanted.sku);
    let word = match is.capacity_type {
        CapacityType::Serverless => "CAPACITY_TYPE_SERVERLESS",
        CapacityType::Customer => "CAPACITY_TYPE_CUSTOMER",
    };
    let same = is.capacity_type == wanted.capacity_type;
    differs("resources.capacityType", word.to_owned(), same);
    differs("resources.zones", is.zone.to_string(), is.zone == wanted.zone);
    if violations.is_empty() { Ok(()) } else { Err(Refusal::Invalid { violations }) }
}
