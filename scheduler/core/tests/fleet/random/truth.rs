//! What must be true of a random world, by a plain reading of its rows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wharfage_scheduler_core::capacity::ledger::{OrganizationCapacity, ZoneCapacity};
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::words::deployment::Spec;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::node::Intent;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Event, capacity, explain, policies, routes};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::ids::NodeId;

use crate::world::World;

/// L1: every deployment has as many ready replicas as it wants, or no node would take one more.
pub fn reached(world: &World) -> Result<(), String> {
    for row in world.fleet().deployments() {
        let name = &row.spec.name;
        let ready = world.ready(name).len() as u32;
        if row.deleting.is_some() {
            return Err(format!("{name} is still being deleted\n{}", world.picture()));
        }
        let waits = world.pending(name) as u32;
        // One whose node is being emptied serves on until there is room for its successor.
        if ready > row.desired || ready + waits < row.desired {
            let wants = row.desired;
            let picture = world.picture();
            return Err(format!("{name} wants {wants}: {ready} ready, {waits} wait\n{picture}"));
        }
        if waits == 0 {
            continue;
        }
        if let Some(node) = takes(world, row) {
            return Err(format!("{name} waits although {node} is free\n{}", world.picture()));
        }
    }
    Ok(())
}

/// A node that would take one more of a deployment, by a plain reading of the rows; what contracts and
/// claims guarantee to others is left out of the question.
fn takes(
    world: &World,
    row: &wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow,
) -> Option<NodeId> {
    let claims = world.fleet().claims().next().is_some();
    if claims || world.fleet().contracts().next().is_some() {
        return None;
    }
    let spec = &row.spec;
    let gpus = usize::from(spec.gpus.get());
    let (each, members) = if gpus > 8 { (8, gpus / 8) } else { (gpus, 1) };
    let has = |class| spec.classes.contains(&class);
    let on_demand = spec.classes.is_empty() || has(CapacityClass::OnDemand);
    let allowed = |node: &NodeRow| match (sold_as(node), node.is_allocated()) {
        (ComputeClass::Spot, _) => has(CapacityClass::Spot),
        (ComputeClass::Standard, true) => spec.classes.is_empty() || has(CapacityClass::Reserved),
        (ComputeClass::Standard, false) => on_demand || (members == 1 && lendable(node, spec)),
    };
    let mut found: BTreeMap<(ComputeClass, bool), Vec<NodeId>> = BTreeMap::new();
    let takes_one = |node: &&NodeRow| {
        let free = node.slots.iter().filter(|slot| slot.is_free()).count();
        let serves = node.held_for.as_ref().map(|held| &held.organization);
        let mine = serves.is_none_or(|organization| *organization == row.organization);
        let lent = sold_as(node) != node.compute_class;
        let may_be_called_back = lent && on_demand && gpus <= node.slots.len();
        node.intent == Intent::Open
            && node.notices.is_empty()
            && (node.claimed.is_some() == node.is_allocated())
            && (node.owner.is_none() || node.is_allocated())
            && ((allowed(node) && mine && free >= each) || (may_be_called_back && members == 1))
    };
    for node in world.fleet().nodes().filter(takes_one) {
        let ground = (sold_as(node), node.is_allocated());
        found.entry(ground).or_default().push(node.id.clone());
    }
    let enough = found.into_values().find(|nodes| nodes.len() >= members);
    enough.and_then(|nodes| nodes.into_iter().next())
}

/// How it is sold at this moment.
fn sold_as(node: &NodeRow) -> ComputeClass {
    node.held_for.as_ref().map_or(node.compute_class, |held| held.compute_class)
}

/// Idle, whole, and not called back lately: it is lent to whoever asks for spot.
fn lendable(node: &NodeRow, spec: &Spec) -> bool {
    let idle = node.held_for.is_none() && node.claimed.is_none() && node.owner.is_none();
    let whole = node.slots.iter().all(|slot| slot.is_usable());
    idle && whole && node.called.is_none() && spec.classes.contains(&CapacityClass::Spot)
}

/// What decides walks ordered sets; what explains scans every node: the best is the same.
pub fn decides_as_it_explains(world: &World) -> Result<(), TestCaseError> {
    let fleet = world.fleet();
    let policy = world.controller.policy();
    for row in fleet.deployments() {
        let ask = capacity::ask::Ask::of(fleet, row);
        let decided = policies::placement::decide(fleet, policy, row, &ask).ok();
        let explained = explain::deployment(fleet, policy, &row.id, world.now);
        let explained = explained.expect("the deployment exists");
        let best = explained.candidates.iter().filter_map(|candidate| candidate.rank()).min();
        let decided = decided.map(|decision| decision.because.score.clone());
        prop_assert_eq!(&decided, &best, "for {}\n{}", row.id, world.picture());
        let first = explained.candidates.first().map(|candidate| candidate.node.clone());
        if let Some(best) = best {
            prop_assert_eq!(first, Some(best.node), "explain lists the best first");
        }
    }
    Ok(())
}

/// The accounts of each region and type add up: by use, by zone, by organization.
pub fn totals_close(world: &World) -> Result<(), TestCaseError> {
    for row in capacity::ledger::capacity(world.fleet()) {
        let said = format!("{row:#?}\n{}", world.picture());
        prop_assert_eq!(row.usable, row.used + row.idle + row.reclaimable, "by use: {}", said);
        let zones = |of: fn(&ZoneCapacity) -> u32| row.zones.values().map(of).sum::<u32>();
        let by_zone = [zones(|z| z.usable), zones(|z| z.used), zones(|z| z.idle)];
        prop_assert_eq!(by_zone, [row.usable, row.used, row.idle], "by zone: {}", said);
        let spot = [zones(|z| z.reclaimable), zones(|z| z.spot_usable), zones(|z| z.spot_used)];
        let whole = [row.reclaimable, row.spot_usable, row.spot_used];
        prop_assert_eq!(spot, whole, "spot by zone: {}", said);
        let each =
            |of: fn(&OrganizationCapacity) -> u32| row.organizations.values().map(of).sum::<u32>();
        let by_whom = [each(|o| o.used), each(|o| o.guaranteed), each(|o| o.committed)];
        prop_assert_eq!(by_whom, [row.used, row.guaranteed, row.committed], "by whom: {}", said);
        let on_spot = row.spot_used + row.reclaimable;
        prop_assert_eq!(each(|o| o.spot_used), on_spot, "spot by whom: {}", said);
        for shares in row.organizations.values() {
            let used = shares.claimed_serverless + shares.used_contract + shares.used_on_demand;
            prop_assert_eq!(shares.used, used, "by plan: {}", said);
            prop_assert!(shares.used_contract <= shares.reserved + shares.flex, "{}", said);
        }
        let free = (row.usable - row.impaired).saturating_sub(row.committed);
        prop_assert_eq!(row.free, free, "{}", said);
        for zone in row.zones.values() {
            prop_assert!(zone.free <= zone.idle + zone.reclaimable, "{}", said);
            prop_assert!(zone.claimed <= zone.used && zone.nodes >= zone.owned, "{}", said);
        }
    }
    Ok(())
}

/// Gateways are sent only to replicas that are ready, stay, and can be reached.
pub fn routes_are_true(world: &World) -> Result<(), TestCaseError> {
    let table = routes::table(world.fleet(), world.controller.term());
    for route in table.deployments.iter().flat_map(|route| &route.replicas) {
        let row = world.fleet().replica(route.id).expect("routes name known replicas");
        let stays = matches!(row.phase, Phase::Placed { .. });
        prop_assert!(stays && row.phase.is_ready(), "{} is in the routes", row.id);
    }
    Ok(())
}

/// No hour sees more moves than the budget, by the facts alone.
pub fn moves_within_budget(world: &World) -> Result<(), TestCaseError> {
    let hour = wharfage_shared::time::Millis::from_seconds(3600);
    let made = world.log.iter().filter_map(|event| match event {
        Event::Replica(Replicas::RoomMade { moves, at, .. }) => Some((*at, moves.len())),
        Event::Replica(Replicas::GoesBack { at, .. }) => Some((*at, 1)),
        _ => None,
    });
    let made: Vec<_> = made.collect();
    let most = world.controller.policy().consolidation_moves_per_hour as usize;
    for (end, _) in &made {
        let within = made.iter().filter(|(at, _)| at <= end && *end < *at + hour);
        let moves: usize = within.map(|(_, moves)| moves).sum();
        prop_assert!(moves <= most, "{moves} moves within an hour, at most {most}");
    }
    Ok(())
}
