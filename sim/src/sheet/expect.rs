//! Whether an expectation holds, and what was found when it does not.

use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::node::{Health, Intent, Reach};
use wharfage_scheduler_core::words::replica::{Phase, PhaseWord};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId};

use super::statement::{Axis, Count, Expect};
use super::{drill, show};
use crate::world::World;

/// Usage is compared within one percent.
const WITHIN: f64 = 0.01;

/// `Err` is what was found instead.
pub(super) fn evaluate(world: &World, expect: &Expect) -> Result<(), String> {
    match expect {
        Expect::On { deployment, not, node } => on(world.fleet(), deployment.as_ref(), *not, node),
        Expect::Count { deployment, what, count } => {
            let found = counted(world.fleet(), deployment, *what);
            if found == *count { Ok(()) } else { Err(format!("{} = {found}", word(*what))) }
        }
        Expect::RequestsCut(count) => {
            let found = world.requests_cut();
            if found == *count { Ok(()) } else { Err(format!("requests cut = {found}")) }
        }
        Expect::Usage { organization, line, hours } => usage(world, organization, line, *hours),
        Expect::Axis { node, axis, word } => {
            let Some(found) = axis_of(world.fleet(), node, *axis) else {
                return Err(format!("{node} has not enrolled"));
            };
            if found == *word { Ok(()) } else { Err(format!("it is {found}")) }
        }
        Expect::Drill(verdict) => drill::evaluate(world, verdict),
        // The runner knows what became of the statement before.
        Expect::Refused => Ok(()),
    }
}

fn word(what: Count) -> &'static str {
    match what {
        Count::Ready => "ready",
        Count::Desired => "desired",
        Count::Pending => "pending",
    }
}

fn on(
    fleet: &Fleet,
    deployment: Option<&DeploymentId>,
    not: bool,
    node: &NodeId,
) -> Result<(), String> {
    let deleted = |id: &DeploymentId| fleet.deployment(id).is_none_or(|d| d.deleting.is_some());
    let standing: Vec<String> = fleet
        .replicas()
        .filter(|row| matches!(row.phase, Phase::Placed { .. } | Phase::Leaving { .. }))
        .filter(|row| row.nodes().any(|on| on == node))
        .filter(|row| deployment.is_none_or(|id| row.deployment == *id && !deleted(id)))
        .map(|row| format!("{} {}", row.deployment, row.id))
        .collect();
    match (not, standing.is_empty()) {
        (false, false) | (true, true) => Ok(()),
        (true, false) => Err(format!("{} stands there", standing.join(", "))),
        (false, true) => {
            let elsewhere: Vec<String> = fleet
                .replicas()
                .filter(|row| deployment.is_none_or(|id| row.deployment == *id))
                .filter(|row| !matches!(row.phase, Phase::Stopped { .. }))
                .map(|row| {
                    let nodes: Vec<&str> = row.nodes().map(NodeId::as_str).collect();
                    let on = || format!("on {}", nodes.join(", "));
                    let at = if nodes.is_empty() { "nowhere".to_owned() } else { on() };
                    format!("{} {} is {at}", row.deployment, row.id)
                })
                .collect();
            let elsewhere = if elsewhere.is_empty() {
                "no replica is anywhere".into()
            } else {
                elsewhere.join(", ")
            };
            Err(format!("nothing of it stands there: {elsewhere}"))
        }
    }
}

fn counted(fleet: &Fleet, deployment: &DeploymentId, what: Count) -> u32 {
    let Some(row) = fleet.deployment(deployment).filter(|row| row.deleting.is_none()) else {
        return 0;
    };
    let words = fleet.replicas_of(deployment).map(|replica| fleet.phase_word(replica));
    let count = match what {
        Count::Desired => return row.desired,
        Count::Ready => words.filter(|word| *word == PhaseWord::Ready).count(),
        Count::Pending => {
            words.filter(|word| matches!(word, PhaseWord::Pending | PhaseWord::Promised)).count()
        }
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn usage(
    world: &World,
    organization: &OrganizationId,
    line: &str,
    expected: f64,
) -> Result<(), String> {
    let found = show::hours(world, organization)?;
    let hours = found.get(line).copied().unwrap_or_default();
    if (hours - expected).abs() <= expected * WITHIN {
        return Ok(());
    }
    let all: Vec<String> = found.iter().map(|(line, hours)| format!("{line} {hours:.4}")).collect();
    let all = if all.is_empty() { "nothing was used".to_owned() } else { all.join(", ") };
    Err(format!("hours = {hours:.4} ({all})"))
}

fn axis_of(fleet: &Fleet, node: &NodeId, axis: Axis) -> Option<&'static str> {
    let row = fleet.node(node)?;
    Some(match axis {
        Axis::Reach => match row.reach {
            Reach::Joining => "joining",
            Reach::Connected => "connected",
            Reach::Silent => "silent",
            Reach::Lost => "lost",
        },
        Axis::Health => match row.health {
            Health::Qualifying => "qualifying",
            Health::Fit => "fit",
            Health::Unfit { .. } => "unfit",
        },
        Axis::Intent => match row.intent {
            Intent::Open => "open",
            Intent::Cordoned { .. } => "cordoned",
            Intent::Draining { .. } => "draining",
            Intent::Retired => "retired",
        },
        Axis::Departure => {
            if row.notice().is_some() {
                "noticed"
            } else {
                "none"
            }
        }
    })
}
