//! Commands about organizations, tokens and joins, and gateways' enrolment.

use wharfage_shared::ids::{GatewayName, JoinId, OrganizationId};

use super::{is_label, name_taken, not_found, organization, precondition, provider_only};
use crate::fleet::rows::access::JoinRow;
use crate::reconcile::plan::Plan;
use crate::words::command::Answer;
use crate::words::command::access::{Action, Admits};
use crate::words::event::access::Event;
use crate::words::event::gateway::Event as GatewayEvent;
use crate::words::principal::Caller;
use crate::words::refusal::{Kind, Refusal};

pub(super) fn carry_out(
    plan: &mut Plan<'_>,
    caller: &Caller,
    action: &Action,
) -> Result<Answer, Refusal> {
    let at = plan.now;
    match action {
        Action::CreateOrganization { id, currency } => {
            provider_only(caller)?;
            create_organization(plan, id, currency)?;
        }
        Action::CreateToken { id, organization: of, roles, name, sha256 } => {
            organization(plan, caller, of)?;
            if plan.fleet.token(id).is_some() || plan.fleet.token_by_sha256(sha256).is_some() {
                return Err(name_taken(Kind::Token, id));
            }
            if roles.is_empty() {
                let accepted = "none; accepted: one or more of viewer, operator, billing, admin";
                return Err(Refusal::invalid("roles", accepted));
            }
            let (token, organization) = (id.clone(), of.clone());
            let (roles, name, sha256) = (roles.clone(), name.clone(), sha256.clone());
            plan.record(Event::TokenCreated { token, organization, roles, name, sha256, at });
        }
        Action::RevokeToken { id } => {
            let row = plan.fleet.token(id).filter(|row| caller.sees(&row.organization));
            let row = row.ok_or_else(|| not_found(Kind::Token, id))?;
            if row.revoked_at.is_none() {
                plan.record(Event::TokenRevoked { token: id.clone(), at });
            }
        }
        Action::CreateJoin { id, admits, uses, expires, sha256 } => {
            provider_only(caller)?;
            check_join(plan, id, admits, *uses)?;
            let (join, admits, sha256) = (id.clone(), admits.clone(), sha256.clone());
            let (uses, expires) = (*uses, *expires);
            plan.record(Event::JoinCreated { join, admits, uses, expires, sha256, at });
        }
        Action::EnrollGateway { gateway, join, key } => {
            provider_only(caller)?;
            enroll_gateway(plan, gateway, join, key)?;
        }
    }
    Ok(Answer::Done)
}

fn create_organization(
    plan: &mut Plan<'_>,
    id: &OrganizationId,
    currency: &str,
) -> Result<(), Refusal> {
    if plan.fleet.organization(id).is_some() {
        return Err(name_taken(Kind::Organization, id));
    }
    if !is_label(id.as_str()) {
        let accepted = "accepted: 1 to 63 of a-z, 0-9 and `-`, not at an end";
        return Err(Refusal::invalid("id", format!("`{id}`; {accepted}")));
    }
    if let Err(error) = currency.parse::<wharfage_billing::money::Currency>() {
        return Err(Refusal::invalid("currency", error.to_string()));
    }
    let (organization, currency, at) = (id.clone(), currency.to_owned(), plan.now);
    plan.record(Event::OrganizationCreated { organization, currency, at });
    Ok(())
}

fn check_join(plan: &Plan<'_>, id: &JoinId, admits: &Admits, uses: u32) -> Result<(), Refusal> {
    if plan.fleet.join(id).is_some() {
        return Err(name_taken(Kind::Join, id));
    }
    if uses == 0 {
        return Err(Refusal::invalid("uses", "0; accepted: at least 1"));
    }
    match admits {
        Admits::Gateways => Ok(()),
        Admits::Nodes { pool } if plan.fleet.pool(pool).is_some() => Ok(()),
        Admits::Nodes { pool } => Err(not_found(Kind::Pool, pool)),
    }
}

/// A join that may be used once more. The subject of a refusal is its code for machines.
pub(super) fn usable<'a>(plan: &'a Plan<'_>, id: &JoinId) -> Result<&'a JoinRow, Refusal> {
    let row = plan.fleet.join(id).ok_or_else(|| not_found(Kind::Join, id))?;
    if row.expires <= plan.now {
        let description = "the join string has expired; ask an operator for a new one";
        return Err(precondition("join_expired", description));
    }
    if row.used >= row.uses {
        let description = "the join string is used up; ask an operator for a new one";
        return Err(precondition("join_used_up", description));
    }
    Ok(row)
}

fn enroll_gateway(
    plan: &mut Plan<'_>,
    gateway: &GatewayName,
    join: &JoinId,
    key: &str,
) -> Result<(), Refusal> {
    if usable(plan, join)?.admits != Admits::Gateways {
        let description = "the join string admits nodes, not gateways; ask for one for gateways";
        return Err(precondition("join_wrong_pool", description));
    }
    if !is_label(gateway.as_str()) {
        let accepted = "accepted: 1 to 63 of a-z, 0-9 and `-`, not at an end";
        return Err(Refusal::invalid("name", format!("`{gateway}`; {accepted}")));
    }
    if plan.fleet.gateway_process(gateway).is_some_and(|process| process.connected) {
        return Err(name_taken(Kind::Gateway, gateway));
    }
    let (name, key, at) = (gateway.clone(), key.to_owned(), plan.now);
    plan.record(Event::JoinUsed { join: join.clone() });
    plan.record(GatewayEvent::Enrolled { name, join: join.clone(), key, at });
    Ok(())
}
