//! Whether an ask fits a node: the first rule that fails, or the terms of the rank.

use std::cmp::Ordering;

use crate::capacity::ask::{Ask, ground};
use crate::capacity::expected::Expected;
use crate::fleet::Fleet;
use crate::fleet::index::{Shares, account};
use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Rejection, Score};
use crate::words::policy::PlacementPolicy;
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::ids::{DeploymentId, OrganizationId};

/// Whether the ask fits the node. `expected` is what history says of the start.
pub fn fit(
    fleet: &Fleet,
    rank: PlacementPolicy,
    ask: &Ask,
    of: &DeploymentId,
    expected: Expected<'_>,
    node: &NodeRow,
) -> Result<Score, Rejection> {
    let class = admits(fleet, ask, node)?;
    let score = score(fleet, rank, ask, of, expected, node)?;
    if score.opens_node && node.compute_class == ComputeClass::Standard {
        admitted(fleet, &ask.organization, node)?;
    }
    Ok(Score { class, ..score })
}

/// Whether there is room, and the terms of the rank, the class apart.
pub(super) fn score(
    fleet: &Fleet,
    rank: PlacementPolicy,
    ask: &Ask,
    of: &DeploymentId,
    expected: Expected<'_>,
    node: &NodeRow,
) -> Result<Score, Rejection> {
    let free = node.free();
    if free < ask.gpus {
        let unfit = (node.slots.idle() >= ask.gpus).then(|| node.unfit_gpu()).flatten();
        if let Some((gpu, because)) = unfit {
            let (needed, gpu, because) = (ask.gpus, gpu.clone(), because.to_owned());
            return Err(Rejection::GpusUnfit { needed, free, gpu, because });
        }
        return Err(Rejection::NotEnoughGpus { needed: ask.gpus, free });
    }
    let siblings = siblings(fleet, of, node);
    let gpus_left = free - ask.gpus;
    let (breaks_whole_node, crowding) = match rank {
        PlacementPolicy::BestFit => (gpus_left > 0 && usize::from(free) == node.slots.len(), 0),
        PlacementPolicy::Spread => (false, u8::MAX - gpus_left),
    };
    Ok(Score {
        class: 0,
        lends: false,
        breaks_whole_node,
        crowding,
        gpus_left,
        opens_node: node.held_for.is_none(),
        seconds_to_ready: expected.seconds_on(node),
        siblings,
        node: node.id.clone(),
    })
}

/// Replicas of the same deployment there.
pub fn siblings(fleet: &Fleet, of: &DeploymentId, node: &NodeRow) -> u32 {
    let Some(of) = fleet.deployment(of) else { return 0 };
    node.replicas.iter().filter(|id| of.replicas.contains(id)).count() as u32
}

/// Whether the node is one that the ask may stand on, room apart: every rule before that of room.
/// Answers the place of the class in the ask's order.
pub fn admits(fleet: &Fleet, ask: &Ask, node: &NodeRow) -> Result<u8, Rejection> {
    admits_on(fleet, ask, node, ground(node))
}

/// The same, where the node were sold for this class.
pub(super) fn admits_on(
    fleet: &Fleet,
    ask: &Ask,
    node: &NodeRow,
    class: CapacityClass,
) -> Result<u8, Rejection> {
    let class = admits_anybody(ask, node, class)?;
    let serves = node.held_for.as_ref().map(|held| &held.organization);
    if serves.is_some_and(|serves| *serves != ask.organization) || is_kept(fleet, ask, node) {
        return Err(Rejection::ServesAnother);
    }
    offered(ask, node)?;
    Ok(class)
}

/// The same, whoever the node serves at this moment.
pub fn admits_once_empty(ask: &Ask, node: &NodeRow) -> Result<u8, Rejection> {
    let class = admits_anybody(ask, node, ground(node))?;
    offered(ask, node)?;
    Ok(class)
}

fn admits_anybody(ask: &Ask, node: &NodeRow, ground: CapacityClass) -> Result<u8, Rejection> {
    if node.sku != ask.sku {
        return Err(Rejection::OtherSku { node: node.sku.clone(), wanted: ask.sku.clone() });
    }
    if !ask.admits_zone(&node.zone) {
        return Err(Rejection::OtherZone { zone: node.zone.clone() });
    }
    node.may_place()?;
    if node.owner.is_some() && !node.is_allocated() {
        return Err(Rejection::Owned);
    }
    if node.claimed.as_ref().is_some_and(|claimed| claimed.organization != ask.organization) {
        return Err(Rejection::ServesAnother);
    }
    ask.place_of(ground).ok_or_else(|| match ground {
        CapacityClass::Reserved => Rejection::ClaimNotAllowed,
        CapacityClass::OnDemand | CapacityClass::Spot => {
            Rejection::ClassNotAllowed { sold: node.sold() }
        }
    })
}

/// Whether it is kept for somebody of another organization, who will have it alone.
fn is_kept(fleet: &Fleet, ask: &Ask, node: &NodeRow) -> bool {
    if !node.slots.are_kept() {
        return false;
    }
    let promised = node.slots.iter().filter_map(|slot| slot.promised);
    let mut of = promised.filter_map(|id| fleet.replica(id));
    of.any(|row| row.organization != ask.organization)
}

/// The node's owner has defined what the ask names.
pub fn offered(ask: &Ask, node: &NodeRow) -> Result<(), Rejection> {
    if newest(ask, node).is_none() {
        let engine = ask.engine.clone();
        let known = node.inventory.engines.iter().any(|offer| offer.name == engine);
        return Err(if !known {
            Rejection::NoEngine { engine }
        } else if newest(&Ask { members: 1, ..ask.clone() }, node).is_some() {
            Rejection::NotOverNodes { engine }
        } else {
            Rejection::NoVersion { engine, version: ask.version.clone() }
        });
    }
    if ask.is_gang() && node.inventory.address.is_none() {
        return Err(Rejection::NoAddress);
    }
    if ask.is_gang() && node.inventory.gpus.iter().any(|gpu| gpu.part_of.is_some()) {
        return Err(Rejection::SplitGpus);
    }
    let missing = ask.hooks.iter().find(|hook| !node.inventory.hooks.contains(hook));
    missing.map_or(Ok(()), |hook| Err(Rejection::NoHook { hook: hook.to_string() }))
}

/// The version that the node would run: the one that is asked for, else its newest.
pub fn newest<'a>(ask: &Ask, node: &'a NodeRow) -> Option<&'a str> {
    let offers = node.inventory.engines.iter().filter(|offer| offer.name == ask.engine);
    let versions = offers.flat_map(|offer| match ask.is_gang() {
        true => offer.gangs.iter(),
        false => offer.versions.iter(),
    });
    if ask.version.is_empty() {
        return versions.max_by(|a, b| compare_versions(a, b)).map(String::as_str);
    }
    versions.into_iter().find(|version| **version == ask.version).map(String::as_str)
}

/// Compares versions by SemVer's rules; what has no number compares as text. Build metadata comes
/// last, so that the order is total.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a_main, a_build) = a.split_once('+').unwrap_or((a, ""));
    let (b_main, b_build) = b.split_once('+').unwrap_or((b, ""));
    let (a_core, a_pre) = a_main.split_once('-').unwrap_or((a_main, ""));
    let (b_core, b_pre) = b_main.split_once('-').unwrap_or((b_main, ""));
    let releases = a_pre.is_empty().cmp(&b_pre.is_empty());
    compare_parts(a_core, b_core)
        .then(releases)
        .then_with(|| compare_parts(a_pre, b_pre))
        .then_with(|| compare_parts(a_build, b_build))
}

fn compare_parts(a: &str, b: &str) -> Ordering {
    let part = |part: &str| match part.parse::<u64>() {
        Ok(number) => (0, number, String::new()),
        Err(_) => (1, 0, part.to_owned()),
    };
    a.split('.').map(part).cmp(b.split('.').map(part))
}

/// The region's sum of committed stays within what is usable when the organization takes one more
/// instance (S10); what it is guaranteed is its own already, and what is called back from spot for
/// others is theirs.
pub fn admitted(
    fleet: &Fleet,
    organization: &OrganizationId,
    node: &NodeRow,
) -> Result<(), Rejection> {
    admitted_instead_of(fleet, organization, None, node)
}

/// The same for several instances at once.
pub fn admitted_together(
    fleet: &Fleet,
    organization: &OrganizationId,
    node: &NodeRow,
    instances: u32,
) -> Result<(), Rejection> {
    let key = (node.region(), node.sku.clone());
    let Some(capacity) = fleet.index.capacity.get(&key) else { return Ok(()) };
    let usable = capacity.usable;
    let own = capacity.organizations.get(organization).copied().unwrap_or_default();
    // Who waits for what is called back may take something else instead.
    let called = own.called.saturating_sub(instances);
    let then = Shares { used: own.used + instances, called, ..own };
    let sum = capacity.coming - own.coming() + then.coming();
    let guaranteed = then.committed() == own.committed() && then.coming() <= own.coming();
    if instances == 0 || guaranteed || sum <= usable {
        return Ok(());
    }
    Err(Rejection::Guaranteed { usable, committed: sum - instances })
}

/// The same, where another organization gives one up for it.
pub fn admitted_instead_of(
    fleet: &Fleet,
    organization: &OrganizationId,
    other: Option<&OrganizationId>,
    node: &NodeRow,
) -> Result<(), Rejection> {
    let key = (node.region(), node.sku.clone());
    let Some(capacity) = fleet.index.capacity.get(&key) else { return Ok(()) };
    let (usable, organizations) = (capacity.usable, &capacity.organizations);
    let own = organizations.get(organization).copied().unwrap_or_default();
    // Who waits for what is called back may take something else instead.
    let instead = Shares { called: own.called.saturating_sub(1), ..own };
    let mut committed = capacity.coming - own.coming() + instead.coming();
    let other = other.and_then(|other| organizations.get(other).copied());
    if other.is_some_and(|other| other.used + other.called > other.guaranteed) {
        committed -= 1;
    }
    // What is idle and not whole is promised to nobody: taking it takes nothing from a guarantee.
    let beside = u32::from(account(node).is_none() && !node.is_whole());
    let within = instead.used + instead.called < own.guaranteed;
    if within || committed < usable + beside {
        return Ok(());
    }
    Err(Rejection::Guaranteed { usable, committed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_then_release_then_build() {
        let ascending = [
            "0.9.0",
            "0.22.0-rc.1",
            "0.22.0-rc.2",
            "0.22.0",
            "0.22.0+crwv.2",
            "0.22.0+crwv.10",
            "0.33.0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }
}
