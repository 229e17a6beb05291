//! Commands about gateway resources.

use wharfage_shared::ids::{GatewayId, OrganizationId};

use super::{name_taken, not_found, organization, precondition};
use crate::fleet::rows::gateway::GatewayRow;
use crate::reconcile::plan::Plan;
use crate::words::command::Answer;
use crate::words::command::gateways::Action;
use crate::words::event::gateway::Event;
use crate::words::gateway::Spec;
use crate::words::principal::Caller;
use crate::words::refusal::{Kind, Refusal};

pub(super) fn carry_out(
    plan: &mut Plan<'_>,
    caller: &Caller,
    action: &Action,
) -> Result<Answer, Refusal> {
    match action {
        Action::Create { id, organization, spec } => create(plan, caller, id, organization, spec),
        Action::Replace { id, spec } => replace(plan, caller, id, spec),
        Action::Delete { id } => delete(plan, caller, id),
    }
}

fn own<'a>(plan: &'a Plan<'_>, caller: &Caller, id: &GatewayId) -> Result<&'a GatewayRow, Refusal> {
    let row = plan.fleet.gateway(id).filter(|row| caller.sees(&row.organization));
    row.ok_or_else(|| not_found(Kind::Gateway, id))
}

fn create(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &GatewayId,
    of: &OrganizationId,
    spec: &Spec,
) -> Result<Answer, Refusal> {
    organization(plan, caller, of)?;
    if plan.fleet.gateway(id).is_some() {
        return Err(name_taken(Kind::Gateway, id));
    }
    let same = |row: &GatewayRow| row.organization == *of && row.spec.name == spec.name;
    if plan.fleet.gateways().any(same) {
        return Err(name_taken(Kind::Gateway, &spec.name));
    }
    check_zones(spec)?;
    let (gateway, organization) = (id.clone(), of.clone());
    let (spec, at) = (spec.clone(), plan.now);
    plan.record(Event::Created { gateway, organization, spec, at });
    Ok(Answer::Done)
}

fn check_zones(spec: &Spec) -> Result<(), Refusal> {
    if spec.zones.is_empty() {
        return Err(Refusal::invalid("zones", "none; accepted: at least one zone"));
    }
    Ok(())
}

fn replace(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &GatewayId,
    spec: &Spec,
) -> Result<Answer, Refusal> {
    let row = own(plan, caller, id)?;
    if row.spec.name != spec.name {
        let description = format!("fixed for life: it is `{}`", row.spec.name);
        return Err(Refusal::invalid("name", description));
    }
    check_zones(spec)?;
    let mut spec = spec.clone();
    spec.additional_dns.extend(row.spec.additional_dns.iter().cloned());
    if row.spec != spec {
        let (gateway, at) = (id.clone(), plan.now);
        plan.record(Event::Replaced { gateway, spec, at });
    }
    Ok(Answer::Done)
}

fn delete(plan: &mut Plan<'_>, caller: &Caller, id: &GatewayId) -> Result<Answer, Refusal> {
    own(plan, caller, id)?;
    let user = plan.fleet.deployments().find(|row| row.spec.gateways.contains(id));
    if let Some(user) = user {
        let description = format!(
            "deployment `{}` names this gateway; delete it or name another gateway first",
            user.spec.name
        );
        return Err(precondition(id.to_string(), description));
    }
    let (gateway, at) = (id.clone(), plan.now);
    plan.record(Event::Deleted { gateway, at });
    Ok(Answer::Done)
}
