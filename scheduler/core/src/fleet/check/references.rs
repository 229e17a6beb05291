//! Every id that a row names exists, and every list and index says what the rows say.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId, ReplicaId};

use super::{Findings, closed, held_on};
use crate::fleet::Fleet;
use crate::words::replica::Phase;

const RULE: &str = "references";

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    rows(fleet, found);
    lists(fleet, found);
    indexes(fleet, found);
    seats(fleet, found);
    super::oversold::index_agrees(fleet, found);
    rebuilt(fleet, found);
}

fn rows(fleet: &Fleet, found: &mut Findings) {
    let mut missing = |what: String| found.add(RULE, what);
    for row in fleet.replicas() {
        let id = row.id;
        let over = matches!(&row.phase, Phase::Stopped { .. });
        match fleet.deployment(&row.deployment) {
            None if over => {}
            None => missing(format!("{id} is of the unknown deployment {}", row.deployment)),
            Some(of) => {
                // What has ended may outlive its deployment, whose id may be given anew.
                if !over && of.organization != row.organization {
                    missing(format!("{id} and its deployment are of two organizations"));
                }
                if !over && of.revisions.get(&row.revision).is_none() {
                    missing(format!("{id} runs the unknown revision {}", row.revision));
                }
            }
        }
        if id.0 > fleet.last_replica {
            missing(format!("{id} is above the last number {}", fleet.last_replica));
        }
        let seat = row.phase.seat();
        let others = seat.into_iter().flat_map(|seat| seat.others.iter().map(|other| &other.node));
        for node in seat.map(|seat| &seat.node).into_iter().chain(others) {
            if fleet.node(node).is_none() {
                missing(format!("{id} is on the unknown node {node}"));
            }
        }
    }
    for row in fleet.deployments() {
        if row.revisions.get(&row.revision) != Some(&row.spec) {
            missing(format!("{} has no spec under its revision {}", row.id, row.revision));
        }
        for gateway in &row.spec.gateways {
            if row.deleting.is_none() && fleet.gateway(gateway).is_none() {
                missing(format!("{} names the unknown gateway {gateway}", row.id));
            }
        }
    }
    for node in fleet.nodes().filter(|node| fleet.pool(&node.pool).is_none()) {
        missing(format!("{} is of the unknown pool {}", node.id, node.pool));
    }
    for (what, organization) in owned(fleet) {
        if fleet.organization(organization).is_none() {
            missing(format!("{what} is of the unknown organization {organization}"));
        }
    }
}

/// Everything that belongs to an organization, except the provider's own.
fn owned(fleet: &Fleet) -> Vec<(String, &OrganizationId)> {
    let deployments = fleet.deployments().map(|row| (row.id.to_string(), &row.organization));
    let gateways = fleet.gateways().map(|row| (row.id.to_string(), &row.organization));
    let tokens = fleet.tokens().map(|row| (row.id.to_string(), &row.organization));
    let contracts = fleet.contracts().map(|row| &row.contract);
    let contracts = contracts.map(|row| (row.id.to_string(), &row.organization));
    let claims = fleet.claims.values().map(|row| (row.id.to_string(), &row.organization));
    let all = deployments.chain(gateways).chain(tokens).chain(contracts).chain(claims);
    all.filter(|(_, organization)| organization.as_str() != "provider").collect()
}

/// A node and a deployment list exactly the replicas that are theirs.
fn lists(fleet: &Fleet, found: &mut Findings) {
    let mut of: BTreeMap<&DeploymentId, BTreeSet<ReplicaId>> = BTreeMap::new();
    let mut on: BTreeMap<&NodeId, BTreeSet<ReplicaId>> = BTreeMap::new();
    for row in fleet.replicas() {
        let over = matches!(&row.phase, Phase::Stopped { proven: true, .. });
        let made = fleet.deployment(&row.deployment).map(|of| of.created_at);
        if !over && made.is_some_and(|made| made <= row.created_at) {
            of.entry(&row.deployment).or_default().insert(row.id);
        }
        for (node, _) in held_on(row) {
            on.entry(node).or_default().insert(row.id);
        }
    }
    let none = BTreeSet::new();
    for row in fleet.deployments() {
        let listed: BTreeSet<ReplicaId> = row.replicas.keys().copied().collect();
        let real = of.get(&row.id).unwrap_or(&none);
        if listed != *real {
            let id = &row.id;
            found.add(RULE, format!("{id} lists {listed:?} as its replicas, they are {real:?}"));
        }
    }
    for node in fleet.nodes() {
        let listed: BTreeSet<ReplicaId> = node.replicas.iter().copied().collect();
        let real = on.get(&node.id).unwrap_or(&none);
        if listed != *real || listed.len() != node.replicas.len() {
            let id = &node.id;
            found.add(RULE, format!("{id} lists {listed:?} as its replicas, they are {real:?}"));
        }
    }
}

fn indexes(fleet: &Fleet, found: &mut Findings) {
    let mut pending = BTreeSet::new();
    let mut leaving = BTreeSet::new();
    let mut stopped = BTreeSet::new();
    let mut placed: BTreeMap<&DeploymentId, u32> = BTreeMap::new();
    for row in fleet.replicas() {
        match &row.phase {
            Phase::Placed { .. } => *placed.entry(&row.deployment).or_default() += 1,
            Phase::Pending { .. } => drop(pending.insert(row.id)),
            Phase::Leaving { leaving: how, .. } if !how.quiet => drop(leaving.insert(row.id)),
            Phase::Stopped { seat, proven, .. } if *proven || seat.is_none() => {
                stopped.insert(row.id);
            }
            Phase::Promised { .. } | Phase::Leaving { .. } | Phase::Stopped { .. } => {}
        }
    }
    let index = &fleet.index;
    same("pending", index.pending.keys().map(|(_, _, id)| *id), &pending, found);
    same("leaving", index.leaving.keys().copied(), &leaving, found);
    same("stopped", index.stopped.keys().map(|(_, id)| *id), &stopped, found);
    for row in fleet.deployments() {
        let real = placed.get(&row.id).copied().unwrap_or_default();
        if row.placed != real {
            let (id, kept) = (&row.id, row.placed);
            found.add(RULE, format!("{kept} of {id} are counted as placed, they are {real}"));
        }
    }
    for row in fleet.tokens() {
        if fleet.token_by_sha256(&row.sha256).map(|found| &found.id) != Some(&row.id) {
            found.add(RULE, format!("the token {} is not found by its secret", row.id));
        }
    }
    for row in fleet.joins() {
        if fleet.join_by_sha256(&row.sha256).map(|found| &found.id) != Some(&row.id) {
            found.add(RULE, format!("the join {} is not found by its secret", row.id));
        }
    }
}

fn same(
    what: &str,
    kept: impl Iterator<Item = ReplicaId>,
    real: &BTreeSet<ReplicaId>,
    found: &mut Findings,
) {
    let listed: Vec<ReplicaId> = kept.collect();
    let kept: BTreeSet<ReplicaId> = listed.iter().copied().collect();
    if kept != *real || listed.len() != real.len() {
        found.add(RULE, format!("{listed:?} are kept as {what}, they are {real:?}"));
    }
}

/// Placement is offered exactly the nodes that may take something and have room, once each.
fn seats(fleet: &Fleet, found: &mut Findings) {
    let offered: Vec<&NodeId> = fleet.index.seated().map(|(_, _, node)| node).collect();
    let unique: BTreeSet<&NodeId> = offered.iter().copied().collect();
    if unique.len() != offered.len() {
        found.add(RULE, "placement is offered a node twice".to_owned());
    }
    for node in fleet.nodes() {
        let free = node.slots.iter().any(|slot| {
            let taken = slot.holder.is_some() || slot.promised.is_some() || slot.orphan.is_some();
            !taken && slot.unfit.is_none()
        });
        let owned = node.owner.is_some() && node.claimed.is_none();
        let open = closed(fleet, &node.id).is_none() && !owned;
        let is_offered = unique.contains(&node.id);
        if is_offered && !open {
            let why = closed(fleet, &node.id).unwrap_or("owned");
            found.add("S6", format!("placement is offered {}, which is {why}", node.id));
        }
        if open && free && !is_offered {
            found.add(RULE, format!("placement is not offered {}, which has room", node.id));
        }
    }
    for (key, _, id) in fleet.index.seated() {
        let Some(node) = fleet.node(id) else { continue };
        let serves = node.held_for.as_ref().map(|held| &held.organization);
        let claimed = node.claimed.is_some();
        let sold = super::classes::sold(node);
        let same = key.sku == node.sku && key.zone == node.zone && key.class == sold;
        if !same || key.claimed != claimed || key.serves.as_ref() != serves {
            found.add(RULE, format!("placement is offered {id} as something else"));
        }
    }
}

/// The indexes that changed with the rows equal those that a snapshot's reader builds.
fn rebuilt(fleet: &Fleet, found: &mut Findings) {
    let mut anew = fleet.clone();
    anew.index_anew();
    let (kept, anew) = (&fleet.index, &anew.index);
    let same = [
        ("seats", kept.seats == anew.seats),
        ("zones", kept.zones == anew.zones),
        ("ruled", kept.ruled == anew.ruled && kept.standing == anew.standing),
        ("hinted", kept.hinted == anew.hinted),
        ("caches", kept.caches == anew.caches),
        ("offers", kept.offers == anew.offers),
        ("pending", kept.pending == anew.pending),
        ("promised", kept.promised == anew.promised),
        ("spares", kept.spares == anew.spares),
        ("names", kept.names == anew.names),
        ("priorities", kept.priorities == anew.priorities),
        ("leaving", kept.leaving == anew.leaving),
        ("stopped", kept.stopped == anew.stopped),
        ("tokens", kept.tokens == anew.tokens),
        ("joins", kept.joins == anew.joins),
    ];
    for (what, _) in same.iter().filter(|(_, same)| !same) {
        found.add(RULE, format!("the index of {what} is not what a restart would build"));
    }
    let real = |index: &crate::fleet::index::Index| -> Vec<_> {
        let rows = index.capacity.iter();
        let rows = rows.filter(|(_, row)| ***row != crate::fleet::index::Capacity::default());
        rows.map(|(key, row)| (key.clone(), row.clone())).collect()
    };
    if real(kept) != real(anew) {
        found.add(RULE, "the index of capacity is not what a restart would build".to_owned());
    }
}
