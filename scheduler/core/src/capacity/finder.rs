//! The Capacity Finder: zones by the chance of getting so many instances there.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::{Millis, Timestamp};

use crate::capacity::ledger::{self, LedgerRow, ZoneCapacity};
use crate::capacity::lending::{is_idle, may_lend};
use crate::fleet::Fleet;
use crate::fleet::rows::interruptions::Taken;
use crate::words::policy::Policy;

/// How far back interruptions count.
pub const LOOK_BACK: Millis = Millis::from_seconds(7 * 86_400);

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// For whom: what it is guaranteed is there for it.
    pub organization: OrganizationId,
    /// Of what.
    pub sku: Sku,
    /// How many instances.
    pub count: u32,
    /// As what.
    pub class: ComputeClass,
}

/// One zone's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Where.
    pub zone: Zone,
    /// Instances that the wish could have now.
    pub available: u32,
    /// More of them once what is lent as spot was called back.
    pub reclaimable: u32,
    /// Nodes of the type that were taken away there within seven days, or are about to be.
    pub interruptions: u32,
    /// The chance of getting all of them, 0 to 100.
    pub chance_percent: u8,
    /// Why, as one sentence.
    pub sentence: String,
}

/// Every zone that has the type, the best first.
pub fn find(fleet: &Fleet, policy: &Policy, wish: &Wish, now: Timestamp) -> Vec<Found> {
    let mut found = Vec::new();
    for row in ledger::capacity(fleet).iter().filter(|row| row.sku == wish.sku) {
        for (name, zone) in &row.zones {
            if zone.nodes > zone.owned {
                found.push(look(fleet, policy, wish, row, (name, zone), now));
            }
        }
    }
    found.sort_by(|a, b| {
        let best = b.chance_percent.cmp(&a.chance_percent);
        best.then(b.available.cmp(&a.available)).then_with(|| a.zone.cmp(&b.zone))
    });
    found
}

fn look(
    fleet: &Fleet,
    policy: &Policy,
    wish: &Wish,
    row: &LedgerRow,
    (name, zone): (&Zone, &ZoneCapacity),
    now: Timestamp,
) -> Found {
    let lendable = lendable(fleet, policy, wish, name);
    let (available, reclaimable) = match wish.class {
        ComputeClass::Spot => (zone.spot_usable - zone.spot_used + lendable, 0),
        ComputeClass::Standard => {
            let own = row.organizations.get(&wish.organization).copied().unwrap_or_default();
            let guaranteed = own.committed - own.used;
            let room = guaranteed.saturating_add(row.free);
            let available = zone.idle.min(room);
            (available, zone.reclaimable.min(room - available))
        }
    };
    let interruptions = interruptions(fleet, wish, name, now);
    let count = u64::from(wish.count.max(1));
    let now_part = u64::from(available).min(count);
    let later_part = u64::from(reclaimable).min(count - now_part);
    // What has to be called back first is worth half.
    let mut percent = (100 * now_part + 50 * later_part) / count;
    if wish.class == ComputeClass::Spot {
        // A zone where each node was interrupted once is worth half of one without.
        let nodes = u64::from((zone.spot_usable + lendable).max(1));
        percent = percent * nodes / (nodes + u64::from(interruptions));
    }
    let sentence = format!(
        "{available} of {count} could be had now, {reclaimable} more once lent ones are called \
         back; {interruptions} interruptions within seven days"
    );
    let chance_percent = u8::try_from(percent).unwrap_or(100);
    Found { zone: name.clone(), available, reclaimable, interruptions, chance_percent, sentence }
}

/// Idle standard nodes of a zone that would be lent to whoever asks for spot.
fn lendable(fleet: &Fleet, policy: &Policy, wish: &Wish, zone: &Zone) -> u32 {
    if wish.class == ComputeClass::Standard || !policy.lends() {
        return 0;
    }
    let lendable = fleet.nodes().filter(|node| {
        let here = node.zone == *zone && node.sku == wish.sku && is_idle(node);
        here && node.may_place().is_ok() && may_lend(policy, node).is_ok()
    });
    u32::try_from(lendable.count()).unwrap_or(u32::MAX)
}

/// Nodes of that class that were taken away there within the last days, as the log tells, and those
/// whose notice is in force.
fn interruptions(fleet: &Fleet, wish: &Wish, zone: &Zone, now: Timestamp) -> u32 {
    let of = Taken { sku: wish.sku.clone(), zone: zone.clone(), class: wish.class };
    let past = fleet.interruptions(&of, now.minus(LOOK_BACK));
    let leaving = fleet.nodes().filter(|node| {
        let here = node.zone == *zone && node.sku == wish.sku && node.sold() == wish.class;
        here && node.departed_at.is_none() && !node.notices.is_empty()
    });
    past.saturating_add(u32::try_from(leaving.count()).unwrap_or(u32::MAX))
}
