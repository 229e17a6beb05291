//! What a sheet prints when it says `show`.

use std::collections::BTreeMap;

use wharfage_scheduler_core::{explain, meter};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId};
use wharfage_shared::time::Millis;

use super::run::told;
use super::statement::Show;
use crate::stage::BEGINNING;
use crate::world::World;

/// By then the evidence of what happens now is in the log: a heartbeat, a tick, and slack.
const ARRIVES: Millis = Millis::from_seconds(70);

const MS_PER_HOUR: f64 = 3_600_000.0;

/// The lines.
pub(super) fn lines(world: &World, what: &Show) -> Vec<String> {
    match what {
        Show::Timeline(node) => timeline(world, node),
        Show::Usage(organization) => usage(world, organization),
        Show::Explain(deployment) => explained(world, deployment),
    }
}

/// Everything that happened on the node since the sheet's zero, its agent's decisions included.
fn timeline(world: &World, node: &NodeId) -> Vec<String> {
    let entries = world.stage.trace.entries().iter();
    entries
        .filter(|entry| entry.node.as_ref() == Some(node) && entry.at >= world.zero)
        .map(|entry| told(entry, world.zero))
        .collect()
}

fn usage(world: &World, organization: &OrganizationId) -> Vec<String> {
    match hours(world, organization) {
        Ok(hours) if hours.is_empty() => vec!["nothing was used".to_owned()],
        Ok(hours) => hours.iter().map(|(line, hours)| format!("{line:<13} {hours:.4} h")).collect(),
        Err(why) => vec![why],
    }
}

fn explained(world: &World, deployment: &DeploymentId) -> Vec<String> {
    let (fleet, policy) = (world.fleet(), world.scheduler.policy());
    let now = world.stage.wall();
    let replicas = fleet.replicas_of(deployment);
    let mut all: Vec<explain::Explanation> =
        replicas.filter_map(|row| explain::replica(fleet, policy, row.id, now)).collect();
    if all.is_empty() {
        all.extend(explain::deployment(fleet, policy, deployment, now));
    }
    let mut lines = Vec::new();
    for explanation in all {
        let who = explanation.replica.map_or("next".to_owned(), |replica| replica.to_string());
        let at =
            explanation.node.as_ref().map_or("nowhere".to_owned(), |node| format!("on {node}"));
        lines.push(format!("{who} {at}: {}", explanation.summary));
        for candidate in explanation.candidates.iter() {
            lines.push(format!("  {}: {}", candidate.node, candidate.sentence()));
        }
    }
    lines
}

/// Instance-hours from the sheet's zero to now, by the word of the line, as the product's own meter
/// and bill say them.
///
/// Evidence of the last seconds is still on its way: the numbers are those of a copy of the world
/// that has lived on until it arrived, cut off at now.
pub(super) fn hours(
    world: &World,
    organization: &OrganizationId,
) -> Result<BTreeMap<String, f64>, String> {
    let zero = BEGINNING + world.zero;
    let now = world.stage.wall();
    if now <= zero {
        return Ok(BTreeMap::new());
    }
    let mut later = world.clone();
    later.run_until(world.stage.now + ARRIVES);
    let draft = meter::draft(later.fleet(), organization, zero, now)
        .map_err(|error| format!("no bill can be made: {error}"))?;
    let mut hours = BTreeMap::new();
    for drafted in &draft.lines {
        let line = drafted.line.kind.as_str().to_owned();
        *hours.entry(line).or_default() += drafted.line.quantity.0 as f64 / MS_PER_HOUR;
    }
    Ok(hours)
}
