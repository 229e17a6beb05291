//! S3 and S10 for lent spot: only idle standard nodes of the provider are lent, whole; only what is
//! sold as spot is taken back for capacity, in order, and never for what would still not fit.
//!
//! Counts instances itself: what decides about calls is not asked.

use std::collections::BTreeMap;

use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::notice::{Leaves, NoticeSource};

use super::{Findings, Step, closed};
use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::words::node::{Health, Intent, NoticeFact, Reach};
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Findings) {
    let mut waits: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for row in fleet.replicas() {
        let Phase::Pending { .. } = &row.phase else { continue };
        let Some(awaits) = &row.awaits else { continue };
        let Some(node) = fleet.node(&awaits.node) else {
            let (id, node) = (row.id, &awaits.node);
            found.add("S10", format!("{id} waits for {node}, which does not exist"));
            continue;
        };
        let gpus = fleet.spec_of(row).map_or(0, |spec| usize::from(spec.gpus.get()));
        let for_it = whose_call(node) == Some(&row.organization) && reclaim(node).is_some();
        if for_it {
            let taken = waits.entry(&node.id).or_default();
            *taken += gpus;
            if *taken > node.slots.len() {
                found.add("S10", format!("{taken} GPUs wait for {}, which has fewer", node.id));
            }
        }
    }
    for node in fleet.nodes().filter(|node| is_lent(node)) {
        let (id, sku) = (&node.id, node.sku.as_str());
        if node.owner.is_some() {
            found.add("S3", format!("{id} has an owner and is lent as spot"));
        }
        if ["gh200", "gb200", "gb300"].iter().any(|chip| sku.to_lowercase().contains(chip)) {
            found.add("S3", format!("{id} is lent as spot, which {sku} never is"));
        }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    for node in step.after.nodes() {
        let before = step.before.node(&node.id);
        let was_lent = before.is_some_and(is_lent);
        if is_lent(node) && !was_lent {
            lent(node, before, found);
        }
        for notice in node.notices.values().filter(|of| of.source == NoticeSource::Scheduler) {
            let is_new = before.is_none_or(|before| !before.notices.contains_key(&notice.id));
            if is_new {
                taken_back(node, was_lent, notice, found);
            }
        }
        // What a claim gave back while it was called back goes on as it was.
        let other =
            |before: &NodeRow| before.claimed.is_none() && whose_call(before) != whose_call(node);
        if let Some(of) = whose_call(node)
            && before.is_none_or(|before| reclaim(before).is_none() || other(before))
        {
            fits(step, node, of, found);
        }
    }
}

fn is_lent(node: &NodeRow) -> bool {
    let held = node.held_for.as_ref().map(|held| held.compute_class);
    node.compute_class == ComputeClass::Standard && held == Some(ComputeClass::Spot)
}

fn reclaim(node: &NodeRow) -> Option<&NoticeFact> {
    node.notices.values().find(|notice| notice.source == NoticeSource::Scheduler)
}

/// The same, where the node is heard, fit and open, so that it will be free for that.
fn coming(node: &NodeRow) -> Option<&OrganizationId> {
    let heard = matches!(node.reach, Reach::Connected | Reach::Silent);
    let fit = matches!(node.health, Health::Fit) && matches!(node.intent, Intent::Open);
    let stays = node.notices.values().all(|notice| notice.leaves == Leaves::Replicas);
    let sound = heard && fit && stays && node.departed_at.is_none();
    whose_call(node).filter(|_| sound && is_lent(node))
}

/// How many nodes each organization will have once what is called back for it has come.
pub(super) fn calls(fleet: &Fleet, region: &Region, sku: &Sku) -> BTreeMap<OrganizationId, u32> {
    let mut calls = BTreeMap::new();
    let here = fleet.nodes().filter(|node| node.sku == *sku && node.zone.region() == *region);
    for of in here.filter(|node| node.owner.is_none()).filter_map(coming) {
        *calls.entry(of.clone()).or_default() += 1;
    }
    calls
}

/// For whom an unclaimed node is called back at this moment.
fn whose_call(node: &NodeRow) -> Option<&OrganizationId> {
    let called = node.called.as_ref()?.organization.as_ref()?;
    (node.claimed.is_none() && reclaim(node).is_some()).then_some(called)
}

/// What is lent was wholly idle, and not called back lately.
fn lent(node: &NodeRow, before: Option<&NodeRow>, found: &mut Findings) {
    let id = &node.id;
    // One that is lent and called back in the same step was not called back before.
    let known = before.and_then(|before| before.called.as_ref());
    if known.is_some() && node.called.as_ref() == known {
        found.add("S3", format!("{id} is lent again, although it was called back lately"));
    }
    if node.slots.iter().any(|slot| slot.unfit.is_some() || slot.orphan.is_some()) {
        found.add("S3", format!("{id} is lent, although not all of it can be used"));
    }
    let served = before.is_some_and(|before| before.claimed.is_some());
    if served && node.claimed.is_some() {
        found.add("S3", format!("{id} is lent, although a claim has it"));
    }
}

/// Reserved, Flex and on-demand instances are never taken back for capacity.
fn taken_back(node: &NodeRow, was_lent: bool, notice: &NoticeFact, found: &mut Findings) {
    let id = &node.id;
    let spot = node.compute_class == ComputeClass::Spot || was_lent || is_lent(node);
    if !spot {
        found.add("S3", format!("{id} is reclaimed, and it is not sold as spot"));
    }
    if notice.heard_at > notice.drain_at || notice.drain_at > notice.gone_at {
        found.add("S8", format!("the reclaim of {id} does not warn, drain and end in this order"));
    }
}

/// Whoever a node is called back for may have one more instance once it is: before the step or
/// after it, whichever the call saw.
fn fits(step: &Step<'_>, node: &NodeRow, of: &OrganizationId, found: &mut Findings) {
    let (region, sku) = (node.zone.region(), &node.sku);
    let (_, calls_before) = count(step.before, &region, sku, of);
    let ((over_after, own), calls_after) = count(step.after, &region, sku, of);
    let ((over_before, _), _) = count(step.before, &region, sku, of);
    let fresh = calls_after.saturating_sub(calls_before);
    if over_after > 0 && over_before + i64::from(fresh) > 0 && !own {
        let id = &node.id;
        found.add("S10", format!("{id} is called back for {of}, which would still not get it"));
    }
}

/// By how many instances everything that is guaranteed, used or called back exceeds what is usable,
/// and whether the organization's part is within its contracts; and all calls.
fn count(fleet: &Fleet, region: &Region, sku: &Sku, of: &OrganizationId) -> ((i64, bool), u32) {
    let (mut usable, mut calls) = (0i64, 0);
    // Contracts, used, SERVERLESS.
    let mut each: BTreeMap<&OrganizationId, (u32, u32, u32)> = BTreeMap::new();
    for node in fleet.nodes() {
        let provider = node.compute_class == ComputeClass::Standard && node.owner.is_none();
        if !provider || node.sku != *sku || node.zone.region() != *region {
            continue;
        }
        let there = node.reach != Reach::Lost && node.departed_at.is_none();
        let serves = there && (node.held_for.is_some() || node.claimed.is_some());
        let whole = node.slots.iter().all(|slot| {
            let taken = slot.holder.or(slot.promised).or(slot.orphan);
            taken.is_none() && slot.unfit.is_none()
        });
        usable += i64::from(serves || (whole && closed(fleet, &node.id).is_none()));
        if !there {
            continue;
        }
        if let Some(claimed) = &node.claimed {
            let share = each.entry(&claimed.organization).or_default();
            match claimed.capacity_type {
                CapacityType::Serverless => share.2 += 1,
                CapacityType::Customer => share.1 += 1,
            }
        } else if let Some(of) = whose_call(node) {
            each.entry(of).or_default().1 += 1;
            calls += 1;
        } else if let Some(held) = node.held_for.as_ref().filter(|_| !is_lent(node)) {
            each.entry(&held.organization).or_default().1 += 1;
        }
    }
    for row in fleet.contracts().filter(|row| row.in_force) {
        if row.contract.region == *region && row.contract.sku == *sku {
            each.entry(&row.contract.organization).or_default().0 += row.contract.instances;
        }
    }
    let all = each.values().map(|(contracts, used, more)| i64::from(contracts.max(used) + more));
    let within = each.get(of).is_none_or(|(contracts, used, _)| used <= contracts);
    ((all.sum::<i64>() - usable, within), calls)
}
