//! What claims hold and may take: availability, admission, instance quotas.

use wharfage_shared::capacity::{CapacityType, Sku, Zone};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::index::{Account, Ground, account};
use crate::fleet::rows::claim::ClaimRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::node::{Health, Intent, Reach};
use crate::words::policy::Policy;
use crate::words::quota::QuotaKey;

/// Whether a claim can count on an instance: heard, fit as far as is known, and here to stay.
pub fn is_available(node: &NodeRow) -> bool {
    let heard = matches!(node.reach, Reach::Connected | Reach::Silent);
    let fit = !matches!(node.health, Health::Unfit { .. });
    let stays = matches!(node.intent, Intent::Open | Intent::Cordoned { .. });
    heard && fit && stays && node.notice().is_none() && node.departed_at.is_none()
}

/// Instances that the claim has and can count on.
pub fn allocated(fleet: &Fleet, claim: &ClaimRow) -> u32 {
    let nodes = claim.instances.iter().filter_map(|id| fleet.node(id));
    nodes.filter(|node| node.is_allocated() && is_available(node)).count() as u32
}

/// Instances that it is to have and does not have yet: with the allocated ones all that it is to
/// hold now.
pub fn pending(fleet: &Fleet, claim: &ClaimRow) -> u32 {
    claim.granted.saturating_sub(allocated(fleet, claim))
}

/// Instances that are set aside and that the claim can count on, those included that are not empty
/// for it yet or are called back for it.
pub fn counted(fleet: &Fleet, claim: &ClaimRow) -> u32 {
    let nodes = claim.instances.iter().filter_map(|id| fleet.node(id));
    nodes.filter(|node| is_available(node) || node.is_coming()).count() as u32
}

/// By when everything that is called back from spot for it is free at the latest.
pub fn called_back_by(fleet: &Fleet, claim: &ClaimRow) -> Option<Timestamp> {
    let nodes = claim.instances.iter().filter_map(|id| fleet.node(id));
    let coming = nodes.filter(|node| !node.is_allocated() && node.is_coming());
    coming.filter_map(|node| node.reclaim()).map(|notice| notice.gone_at).max()
}

/// Whether it would take one more instance.
pub fn is_short(fleet: &Fleet, claim: &ClaimRow) -> bool {
    claim.deleted_at.is_none() && counted(fleet, claim) < claim.granted
}

/// When a decrease that waits takes effect, if one does.
pub fn decreases_at(policy: &Policy, claim: &ClaimRow, now: Timestamp) -> Option<Timestamp> {
    let waits = claim.spec.instances < claim.granted && claim.deleted_at.is_none();
    let limited = claim.spec.capacity_type == CapacityType::Serverless;
    let distance = Millis::from_seconds(policy.claim_decrease_seconds.into());
    let last = claim.decreased_at.filter(|_| limited);
    waits.then(|| last.map_or(now, |last| (last + distance).max(now)))
}

/// Whether a claim may take the instance: what all are guaranteed, use or wait for stays within what
/// is usable, or is at least not more than before (S10).
pub fn admits(fleet: &Fleet, claim: &ClaimRow, node: &NodeRow) -> bool {
    if node.owner.is_some() {
        return true;
    }
    let key = (node.region(), node.sku.clone());
    let Some(capacity) = fleet.index.capacity.get(&key) else { return false };
    let ground = match claim.spec.capacity_type {
        CapacityType::Serverless => Ground::Serverless,
        CapacityType::Customer => Ground::Used,
    };
    let to = Account { organization: claim.organization.clone(), ground };
    let from = account(node);
    if from.as_ref() == Some(&to) {
        return true;
    }
    let mut committed = capacity.coming;
    let mut shares = capacity.organizations.get(&to.organization).copied().unwrap_or_default();
    committed -= shares.coming();
    if let Some(from) = from {
        if from.organization == to.organization {
            *shares.of(from.ground) -= 1;
        } else {
            let mut theirs =
                capacity.organizations.get(&from.organization).copied().unwrap_or_default();
            committed -= theirs.coming();
            *theirs.of(from.ground) -= 1;
            committed += theirs.coming();
        }
    }
    *shares.of(to.ground) += 1;
    committed += shares.coming();
    committed <= capacity.usable.max(capacity.coming)
}

/// Nodes of an organization's own in a zone: they are there for its CUSTOMER claims alone.
pub fn owned(fleet: &Fleet, key: &QuotaKey) -> u32 {
    let own = |node: &&NodeRow| {
        node.owner.as_ref() == Some(&key.organization)
            && node.zone == key.zone
            && node.sku == key.sku
            && node.intent != Intent::Retired
    };
    fleet.nodes().filter(own).count() as u32
}

/// Instances of an organization's contracts in force in the zone's region.
fn contracted(fleet: &Fleet, key: &QuotaKey) -> u32 {
    let region = key.zone.region();
    let in_force = fleet.contracts().filter(|row| row.in_force).map(|row| &row.contract);
    let own = in_force.filter(|contract| {
        contract.organization == key.organization
            && contract.region == region
            && contract.sku == key.sku
    });
    own.map(|contract| contract.instances).sum()
}

/// An instance quota: the one that was set, else the nodes that the organization owns there and
/// the instances of its contracts in the region.
pub fn quota(fleet: &Fleet, key: &QuotaKey) -> u32 {
    let explicit = fleet.quotas.get(key).copied();
    explicit.unwrap_or_else(|| owned(fleet, key).saturating_add(contracted(fleet, key)))
}

/// What an organization's CUSTOMER claims take of a quota, one claim left out.
pub fn claimed(fleet: &Fleet, key: &QuotaKey, except: Option<&ClaimRow>) -> u32 {
    of_quota(fleet, &key.organization, &key.sku, except)
        .filter(|claim| claim.spec.zone == key.zone)
        .map(|claim| claim.granted.max(claim.spec.instances))
        .sum()
}

fn of_quota<'a>(
    fleet: &'a Fleet,
    organization: &'a OrganizationId,
    sku: &'a Sku,
    except: Option<&'a ClaimRow>,
) -> impl Iterator<Item = &'a ClaimRow> {
    fleet.claims().filter(move |claim| {
        claim.organization == *organization
            && claim.spec.sku == *sku
            && claim.spec.capacity_type == CapacityType::Customer
            && except.is_none_or(|except| except.id != claim.id)
    })
}

/// What is left of a quota. A contract is good for one zone at a time: what claims in the region's
/// other zones take of it is not there a second time.
pub fn left(fleet: &Fleet, key: &QuotaKey, except: Option<&ClaimRow>) -> u32 {
    let left = quota(fleet, key).saturating_sub(claimed(fleet, key, except));
    if fleet.quotas.contains(key) {
        return left;
    }
    let region = key.zone.region();
    let others = of_quota(fleet, &key.organization, &key.sku, except);
    let mut zones: Vec<&Zone> = others.map(|claim| &claim.spec.zone).collect();
    zones.sort_unstable();
    zones.dedup();
    let elsewhere = zones.into_iter().filter(|zone| **zone != key.zone && zone.region() == region);
    let drawn: u32 = elsewhere
        .map(|zone| {
            let key = QuotaKey { zone: zone.clone(), ..key.clone() };
            if fleet.quotas.contains(&key) {
                return 0;
            }
            claimed(fleet, &key, except).saturating_sub(owned(fleet, &key))
        })
        .sum();
    left.saturating_sub(drawn)
}
