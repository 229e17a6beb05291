//! Commands carried out, resource by resource. A refusal leaves nothing behind.

mod access;
mod claims;
mod deployments;
pub(super) mod drills;
mod gateways;
mod money;
mod nodes;

use wharfage_shared::ids::OrganizationId;

use crate::reconcile::plan::Plan;
use crate::words::command::money::Action as Money;
use crate::words::command::{Action, Answer, Command};
use crate::words::principal::Caller;
use crate::words::refusal::{Kind, Refusal};

/// Whether a command may be refused after its first fact, because what it would give is found out
/// by giving it: what it did is taken back then. All others are checked in full before they change
/// anything, which costs no copy of the fleet.
pub(super) fn tries_first(action: &Action) -> bool {
    match action {
        Action::Claim(_) | Action::Node(_) | Action::Money(_) => true,
        Action::Deployment(_) | Action::Gateway(_) | Action::Drill(_) | Action::Access(_) => false,
    }
}

pub(super) fn carry_out(plan: &mut Plan<'_>, command: &Command) -> Result<Answer, Refusal> {
    let caller = &command.caller;
    match &command.action {
        Action::Deployment(action) => deployments::carry_out(plan, caller, action),
        Action::Gateway(action) => gateways::carry_out(plan, caller, action),
        Action::Claim(action) => claims::carry_out(plan, caller, action),
        Action::Drill(action) => {
            provider_only(caller)?;
            drills::carry_out(plan, action)
        }
        Action::Node(action) => {
            provider_only(caller)?;
            nodes::carry_out(plan, action)
        }
        Action::Money(action) => {
            match action {
                // An organization may ask at any time what its own period costs so far.
                Money::DraftInvoice { organization: whose, .. } => {
                    organization(plan, caller, whose)?;
                }
                Money::Sign(_) | Money::Amend { .. } | Money::Price(_) => provider_only(caller)?,
            }
            money::carry_out(plan, action)
        }
        Action::Access(action) => access::carry_out(plan, caller, action),
    }
}

fn provider_only(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_provider() {
        return Ok(());
    }
    let description = "only the provider's tokens may do this".to_owned();
    Err(Refusal::Forbidden { description })
}

/// The organization that something is made for: it exists, and the caller may act for it.
fn organization(
    plan: &Plan<'_>,
    caller: &Caller,
    organization: &OrganizationId,
) -> Result<(), Refusal> {
    if !caller.sees(organization) || plan.fleet.organization(organization).is_none() {
        return Err(not_found(Kind::Organization, organization));
    }
    Ok(())
}

fn not_found(kind: Kind, id: &impl ToString) -> Refusal {
    Refusal::NotFound { kind, id: id.to_string() }
}

fn name_taken(kind: Kind, name: &impl ToString) -> Refusal {
    Refusal::NameTaken { kind, name: name.to_string() }
}

fn precondition(subject: impl Into<String>, description: impl Into<String>) -> Refusal {
    Refusal::Precondition { subject: subject.into(), description: description.into() }
}

/// A hostname label: what names of hosts and organizations must be.
fn is_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let length = (1..=63).contains(&text.len());
    length && text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::is_label;

    #[test]
    fn a_name_that_goes_into_certificates_is_a_hostname_label() {
        for good in ["a", "node-1", "gd8"] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "Node", "a.b", "a/b", "é", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
