//! Commands about deployments.

use std::sync::Arc;

use wharfage_shared::ids::{DeploymentId, DeploymentName, OrganizationId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Millis;

use super::{name_taken, not_found, organization, precondition};
use crate::capacity::memory;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::reconcile::plan::Plan;
use crate::words::command::deployments::Action;
use crate::words::command::{Answer, SettingsStatus};
use crate::words::deployment::{Bounds, Dialect, Scaling, ScalingPatch, Spec};
use crate::words::event::deployment::Event;
use crate::words::event::replica::Event as ReplicaEvent;
use crate::words::principal::Caller;
use crate::words::refusal::{Kind, Refusal, Violation};
use crate::words::replica::Phase;

pub(super) fn carry_out(
    plan: &mut Plan<'_>,
    caller: &Caller,
    action: &Action,
) -> Result<Answer, Refusal> {
    match action {
        Action::Create { id, organization, spec } => create(plan, caller, id, organization, spec),
        Action::Replace { id, spec } => replace(plan, caller, id, spec),
        Action::Settings { id, patch } => settings(plan, caller, id, patch),
        Action::Delete { id } => delete(plan, caller, id),
        Action::Terminate { replica } => terminate(plan, caller, *replica),
    }
}

/// The caller's own deployment; another organization's does not exist.
fn own<'a>(
    plan: &'a Plan<'_>,
    caller: &Caller,
    id: &DeploymentId,
) -> Result<&'a DeploymentRow, Refusal> {
    let row = plan.fleet.deployment(id).filter(|row| caller.sees(&row.organization));
    row.ok_or_else(|| not_found(Kind::Deployment, id))
}

fn create(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &DeploymentId,
    of: &OrganizationId,
    spec: &Arc<Spec>,
) -> Result<Answer, Refusal> {
    organization(plan, caller, of)?;
    if plan.fleet.deployment(id).is_some() {
        return Err(name_taken(Kind::Deployment, id));
    }
    let name = (of.clone(), DeploymentName::new(&spec.name));
    if plan.fleet.index.names.contains(&name) {
        return Err(name_taken(Kind::Deployment, &spec.name));
    }
    check_gateways(plan, of, spec)?;
    check_scaling(&spec.scaling)?;
    check_memory(plan, spec)?;
    let (deployment, organization) = (id.clone(), of.clone());
    let (spec, at) = (Arc::clone(spec), plan.now);
    plan.record(Event::Created { deployment, organization, spec, at });
    Ok(Answer::Done)
}

/// The gateways that a spec names are its own organization's.
fn check_gateways(plan: &Plan<'_>, of: &OrganizationId, spec: &Spec) -> Result<(), Refusal> {
    let unknown = |id: &&wharfage_shared::ids::GatewayId| {
        plan.fleet.gateway(id).is_none_or(|row| row.organization != *of)
    };
    match spec.gateways.iter().find(unknown) {
        Some(id) => Err(Refusal::invalid("gatewayIds", format!("there is no gateway `{id}`"))),
        None => Ok(()),
    }
}

/// What a dialect demands beyond what the bounds' type holds.
fn check_scaling(scaling: &Scaling) -> Result<(), Refusal> {
    if scaling.dialect == Dialect::CoreWeave && scaling.bounds.min() == 0 {
        let description = "0; accepted: at least 1, scale-to-zero is not supported here";
        return Err(Refusal::invalid("autoscaling.min", description));
    }
    Ok(())
}

/// What is known not to fit is refused where the deployment wants warnings to be refusals.
fn check_memory(plan: &Plan<'_>, spec: &Spec) -> Result<(), Refusal> {
    if !spec.extension.strict {
        return Ok(());
    }
    let tight = memory::of(plan.fleet, spec).filter(memory::Memory::is_tight);
    let Some(tight) = tight else { return Ok(()) };
    let description = format!("MemoryTight: {tight}; accepted: as many GPUs as that fits into");
    Err(Refusal::invalid("resources.gpuCount", description))
}

fn replace(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &DeploymentId,
    spec: &Arc<Spec>,
) -> Result<Answer, Refusal> {
    let row = own(plan, caller, id)?;
    living(row)?;
    if row.spec.name != spec.name {
        let description = format!("fixed for life: it is `{}`", row.spec.name);
        return Err(Refusal::invalid("name", description));
    }
    check_gateways(plan, &row.organization, spec)?;
    check_scaling(&spec.scaling)?;
    if row.spec == *spec {
        return Ok(Answer::Done);
    }
    if needs_new_replicas(&row.spec, spec) || !row.spec.extension.strict {
        check_memory(plan, spec)?;
    }
    let revision = revision_of(row, spec);
    let (deployment, spec, at) = (id.clone(), Arc::clone(spec), plan.now);
    plan.record(Event::Replaced { deployment, spec, revision, at });
    Ok(Answer::Done)
}

/// The revision that a new spec gets: that of running replicas that would start no otherwise, the
/// current ones first, so that whoever goes back to older settings keeps what still serves with
/// them; else a number that was never used, since replicas of any older revision may still run.
fn revision_of(row: &DeploymentRow, spec: &Spec) -> u32 {
    if !needs_new_replicas(&row.spec, spec) {
        return row.revision;
    }
    let mut newest_first = row.revisions.iter().rev();
    if let Some((revision, _)) = newest_first.find(|(_, old)| !needs_new_replicas(old, spec)) {
        return *revision;
    }
    row.revisions.newest().max(row.revision) + 1
}

/// Whether running replicas must be replaced: they would start otherwise than they did.
fn needs_new_replicas(old: &Spec, new: &Spec) -> bool {
    old.runtime != new.runtime
        || old.model != new.model
        || old.sku != new.sku
        || old.gpus != new.gpus
        || old.extension.single_copy != new.extension.single_copy
}

fn living(row: &DeploymentRow) -> Result<(), Refusal> {
    if row.deleting.is_none() {
        return Ok(());
    }
    Err(precondition(row.id.to_string(), format!("deployment `{}` is being deleted", row.id)))
}

fn settings(
    plan: &mut Plan<'_>,
    caller: &Caller,
    id: &DeploymentId,
    patch: &ScalingPatch,
) -> Result<Answer, Refusal> {
    let row = own(plan, caller, id)?;
    living(row)?;
    let (scaling, note) = patched(&row.spec.scaling, patch)?;
    let note = note.unwrap_or_default();
    if scaling == row.spec.scaling {
        let message = format!("the autoscaling settings are these already{note}");
        return Ok(Answer::Settings { status: SettingsStatus::Unchanged, message });
    }
    let rolling = plan.fleet.replicas_of(id).any(|replica| replica.revision != row.revision);
    let (status, what) = if rolling {
        (SettingsStatus::Queued, "are recorded and count from now on; a rollout is in progress")
    } else {
        (SettingsStatus::Accepted, "are being applied")
    };
    let (deployment, at) = (id.clone(), plan.now);
    plan.record(Event::SettingsChanged { deployment, scaling, at });
    let message = format!("the autoscaling settings {what}{note}");
    Ok(Answer::Settings { status, message })
}

/// The settings after a patch, and what was not taken as it was written.
fn patched(current: &Scaling, patch: &ScalingPatch) -> Result<(Scaling, Option<String>), Refusal> {
    let mut violations = Vec::new();
    let mut range = |field: &str, given: Option<u32>, current: u32, least: u32, most: u32| {
        let value = given.unwrap_or(current);
        if given.is_some() && !(least..=most).contains(&value) {
            let description = format!("{value}; accepted: {least} to {most}");
            violations.push(Violation { field: field.to_owned(), description });
        }
        value
    };
    let window =
        range("autoscaling_window", patch.window_seconds, current.window_seconds, 10, 3600);
    let delay = current.scale_down_delay_seconds;
    let delay = range("scale_down_delay", patch.scale_down_delay_seconds, delay, 0, 3600);
    let most = u32::MAX;
    let concurrency = range("concurrency_target", patch.concurrency, current.concurrency, 1, most);
    let utilization = patch.utilization_percent.map(u32::from);
    let name = "target_utilization_percentage";
    let utilization = range(name, utilization, current.utilization_percent.into(), 1, 100);
    let rate = patch.max_scale_down_percent.map(u32::from);
    let rate = range("max_scale_down_rate", rate, current.max_scale_down_percent.into(), 1, 50);
    let tokens = current.in_flight_tokens.unwrap_or(1);
    let tokens = range("target_in_flight_tokens", patch.in_flight_tokens, tokens, 1, most);
    let (bounds, note) = match bounds(current, patch) {
        Ok(bounds) => bounds,
        Err(violation) => {
            violations.push(violation);
            (current.bounds, None)
        }
    };
    if !violations.is_empty() {
        return Err(Refusal::Invalid { violations });
    }
    let percent = |value: u32| u8::try_from(value).unwrap_or(100);
    let same_concurrency = concurrency == current.concurrency;
    let scaling = Scaling {
        dialect: current.dialect,
        bounds,
        window_seconds: window,
        scale_down_delay_seconds: delay,
        concurrency,
        concurrency_is_default: current.concurrency_is_default && same_concurrency,
        utilization_percent: percent(utilization),
        in_flight_tokens: patch.in_flight_tokens.map(|_| tokens).or(current.in_flight_tokens),
        max_scale_down_percent: percent(rate),
    };
    Ok((scaling, note))
}

/// Through CoreWeave's API there is no scaling to zero: a min of 0 is kept as 1, and said so.
fn bounds(current: &Scaling, patch: &ScalingPatch) -> Result<(Bounds, Option<String>), Violation> {
    let asked = patch.min.unwrap_or(current.bounds.min());
    let max = patch.max.unwrap_or(current.bounds.max());
    let raised = asked == 0 && current.dialect == Dialect::CoreWeave;
    let min = if raised { 1 } else { asked };
    let note = (raised && patch.min.is_some()).then(|| {
        "; min_replica 0 is kept as 1, because this deployment was made through an API without \
         scale-to-zero"
            .to_owned()
    });
    if let Some(bounds) = Bounds::new(min, max) {
        return Ok((bounds, note));
    }
    let field = if patch.max.is_some() { "max_replica" } else { "min_replica" };
    let most = crate::words::deployment::MOST_REPLICAS;
    let description = format!(
        "min_replica {asked} and max_replica {max}; accepted: max_replica from 1 to {most} and not \
         below min_replica"
    );
    Err(Violation { field: field.to_owned(), description })
}

fn delete(plan: &mut Plan<'_>, caller: &Caller, id: &DeploymentId) -> Result<Answer, Refusal> {
    let row = own(plan, caller, id)?;
    if row.deleting.is_none() {
        let (deployment, at) = (id.clone(), plan.now);
        plan.record(Event::Deleted { deployment, at });
    }
    Ok(Answer::Done)
}

fn terminate(plan: &mut Plan<'_>, caller: &Caller, replica: ReplicaId) -> Result<Answer, Refusal> {
    let row = plan.fleet.replica(replica).filter(|row| caller.sees(&row.organization));
    let row = row.ok_or_else(|| not_found(Kind::Replica, &replica))?;
    let because = StopCause::Terminated;
    let grace = plan.fleet.spec_of(row).map_or(30, |spec| spec.extension.grace_seconds);
    let (at, routes) = (plan.now, plan.next_routes());
    let deadline = at + Millis::from_seconds(grace.into());
    match &row.phase {
        Phase::Pending { .. } | Phase::Promised { .. } => {
            plan.record(ReplicaEvent::Dropped { replica, because, at });
        }
        Phase::Placed { .. } => {
            plan.record(ReplicaEvent::Leaving { replica, because, deadline, routes, at });
        }
        Phase::Leaving { .. } => {}
        Phase::Stopped { .. } => {
            return Err(precondition(replica.to_string(), format!("{replica} has ended")));
        }
    }
    Ok(Answer::Done)
}
