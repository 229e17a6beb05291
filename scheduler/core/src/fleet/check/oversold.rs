//! S10: no decision makes an oversold guarantee worse; a shortfall by loss is not a decision.
//!
//! Counts contracts and nodes itself: the ledger that admits is not asked.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{ContractId, NodeId, OrganizationId};
use wharfage_shared::time::Timestamp;

use super::lending::calls;
use super::{Findings, Step, closed};
use crate::fleet::rows::node::NodeRow;
use crate::fleet::{ContractRow, Fleet};
use crate::words::contract::Contract;
use crate::words::node::Reach;

/// One (region, SKU), counted from rows.
#[derive(Default)]
struct Count {
    /// Standard instances of the provider that serve somebody, or are whole and could.
    usable: BTreeSet<NodeId>,
    /// By organization.
    shares: BTreeMap<OrganizationId, Share>,
}

/// One organization's instances of a type in a region.
#[derive(Clone, Default)]
struct Share {
    contracts: u32,
    used: u32,
    customer: u32,
    serverless: u32,
}

impl Count {
    /// The larger of what is guaranteed and what is used, every claimed instance as used.
    fn committed(&self) -> u32 {
        let committed = self.shares.values().map(|share| {
            let guaranteed = share.contracts.max(share.customer) + share.serverless;
            guaranteed.max(share.used + share.serverless)
        });
        committed.sum()
    }

    /// An instance is its claim's, before it is empty for it too; else whom it serves.
    fn take(&mut self, node: &NodeRow) {
        if let Some(claimed) = &node.claimed {
            let share = self.shares.entry(claimed.organization.clone()).or_default();
            match claimed.capacity_type {
                CapacityType::Serverless => share.serverless += 1,
                CapacityType::Customer => {
                    share.customer += 1;
                    share.used += 1;
                }
            }
        } else if let Some(held) = &node.held_for
            && held.compute_class == ComputeClass::Standard
        {
            self.shares.entry(held.organization.clone()).or_default().used += 1;
        }
    }

    fn oversold(&self) -> u32 {
        self.committed().saturating_sub(self.usable.len() as u32)
    }

    /// The same, where what is called back from spot serves those who wait for it.
    fn once_called(&self, calls: &BTreeMap<OrganizationId, u32>) -> Count {
        let mut shares = self.shares.clone();
        for (of, calls) in calls {
            shares.entry(of.clone()).or_default().used += calls;
        }
        Count { usable: self.usable.clone(), shares }
    }
}

pub(super) fn check_step(step: &Step<'_>, found: &mut Findings) {
    let (before, after) = (counts(step.before), counts(step.after));
    for ((region, sku), now) in &after {
        let none = Count::default();
        let was = before.get(&(region.clone(), sku.clone())).unwrap_or(&none);
        let lost = was.usable.difference(&now.usable).count() as u32;
        let began: u32 = began(step, region, sku).map(|contract| contract.instances).sum();
        let worse = now.oversold().saturating_sub(was.oversold());
        if worse > lost + began {
            let (committed, usable) = (now.committed(), now.usable.len());
            found.add(
                "S10",
                format!("a decision commits {committed} of {usable} {sku} in {region}"),
            );
        }
        if lost + began == 0 {
            awaited(step, (region, sku), was, now, found);
        }
    }
    for row in step.after.contracts() {
        if step.before.contract(&row.contract.id).is_none() {
            match &row.amends {
                Some(old) => goes_on(step, row, old, found),
                None => signed(step, row, found),
            }
        }
    }
}

/// What is called back for somebody is given to nobody else, here or in another zone: whoever waits
/// would wait in vain.
fn awaited(
    step: &Step<'_>,
    (region, sku): (&Region, &Sku),
    was: &Count,
    now: &Count,
    found: &mut Findings,
) {
    let before = calls(step.before, region, sku);
    let after = calls(step.after, region, sku);
    let is_new =
        |(of, calls): (&OrganizationId, &u32)| before.get(of).is_none_or(|was| was < calls);
    if after.is_empty() || after.iter().any(is_new) {
        return;
    }
    let (was, now) = (was.once_called(&before), now.once_called(&after));
    if now.oversold() > was.oversold() {
        let (wanted, usable) = (now.committed(), now.usable.len());
        let text =
            format!("{sku} in {region}: with what is called back {wanted} of {usable} go out");
        found.add("S10", text);
    }
}

/// Contracts whose guarantee came into force: what was lost since they were signed is no decision.
fn began<'a>(
    step: &'a Step<'_>,
    region: &'a Region,
    sku: &'a Sku,
) -> impl Iterator<Item = &'a Contract> {
    step.after.contracts().filter_map(move |row| {
        let here = row.contract.region == *region && row.contract.sku == *sku;
        let known = step.before.contract(&row.contract.id);
        let was = known.is_none_or(|old| old.in_force);
        (here && row.in_force && !was).then_some(&row.contract)
    })
}

/// What goes on from another contract guarantees the same, from where that one ends to where it
/// would have ended: whatever was lost meanwhile, nothing is promised anew.
fn goes_on(step: &Step<'_>, row: &ContractRow, old: &ContractId, found: &mut Findings) {
    let new = &row.contract;
    let fits = step.after.contract(old).is_some_and(|before| {
        let was = &before.contract;
        let same = was.organization == new.organization
            && was.region == new.region
            && was.sku == new.sku
            && was.instances == new.instances;
        let handed_over = before.amended == Some((new.id.clone(), new.start));
        same && handed_over && was.end == new.end && was.start <= new.start
    });
    if !fits {
        found.add("S10", format!("{} does not go on from {old} as it was", new.id));
    }
}

/// At each instant of a new contract's period all guarantees together are within what is usable.
fn signed(step: &Step<'_>, row: &ContractRow, found: &mut Findings) {
    let new = &row.contract;
    let first = new.start.max(row.signed_at);
    let count = counts(step.before).remove(&(new.region.clone(), new.sku.clone()));
    let count = count.unwrap_or_default();
    let usable = count.usable.len() as u64;
    let all: Vec<(&Contract, Timestamp)> = step
        .after
        .contracts()
        .map(|row| (&row.contract, row.amended.as_ref().map_or(row.contract.end, |(_, at)| *at)))
        .filter(|(other, _)| other.region == new.region && other.sku == new.sku)
        .collect();
    let starts = all.iter().map(|(other, _)| other.start.max(first));
    for at in starts.filter(|at| *at < new.end) {
        let mut guaranteed = 0;
        let owners = all.iter().map(|(other, _)| &other.organization).chain(count.shares.keys());
        for owner in owners.collect::<BTreeSet<_>>() {
            let here = all.iter().filter(|(other, end)| other.start <= at && at < *end);
            let own = here.filter(|(other, _)| other.organization == *owner);
            let contracts: u64 = own.map(|(other, _)| u64::from(other.instances)).sum();
            let claims = count.shares.get(owner);
            let (customer, serverless) =
                claims.map_or((0, 0), |share| (share.customer.into(), share.serverless.into()));
            guaranteed += contracts.max(customer) + serverless;
        }
        if guaranteed > usable {
            let (id, sku) = (&new.id, &new.sku);
            found.add(
                "S10",
                format!("{id} guarantees {guaranteed} {sku} at {} of {usable} usable", at.0),
            );
            return;
        }
    }
}

fn counts(fleet: &Fleet) -> BTreeMap<(Region, Sku), Count> {
    let mut counts: BTreeMap<(Region, Sku), Count> = BTreeMap::new();
    for node in fleet.nodes() {
        if node.compute_class != ComputeClass::Standard || node.owner.is_some() {
            continue;
        }
        let count = counts.entry((node.zone.region(), node.sku.clone())).or_default();
        let there = node.reach != Reach::Lost && node.departed_at.is_none();
        let served = there && (node.held_for.is_some() || node.claimed.is_some());
        let whole = node.slots.iter().all(|slot| {
            let taken = slot.holder.is_some() || slot.promised.is_some() || slot.orphan.is_some();
            !taken && slot.unfit.is_none()
        });
        if served || (whole && closed(fleet, &node.id).is_none()) {
            count.usable.insert(node.id.clone());
        }
        if there {
            count.take(node);
        }
    }
    for row in fleet.contracts().filter(|row| row.in_force) {
        let contract = &row.contract;
        let key = (contract.region.clone(), contract.sku.clone());
        let shares = &mut counts.entry(key).or_default().shares;
        shares.entry(contract.organization.clone()).or_default().contracts += contract.instances;
    }
    counts
}

/// The sums that admission looks at equal a recount; used by the check of references.
pub(super) fn index_agrees(fleet: &Fleet, found: &mut Findings) {
    let counted = counts(fleet);
    let keys: BTreeSet<(Region, Sku)> =
        counted.keys().chain(fleet.index.capacity.keys()).cloned().collect();
    for key in keys {
        let none = Count::default();
        let real = counted.get(&key).unwrap_or(&none);
        let kept = fleet.index.capacity.get(&key);
        let kept = kept.map_or((0, 0, 0), |kept| (kept.usable, kept.committed, kept.coming));
        let coming = real.once_called(&calls(fleet, &key.0, &key.1)).committed();
        let real = (real.usable.len() as u32, real.committed(), coming);
        if kept != real {
            let (region, sku) = key;
            found.add(
                "S10",
                format!("{sku} in {region}: kept as {kept:?} usable, committed and coming, it is {real:?}"),
            );
        }
    }
}
