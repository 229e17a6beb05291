//! S3 and S6: what stands where its classes forbid it must be leaving or replaced; nothing begins
//! on, and no promise is bound to, a node that may not take it. Dedicated nodes serve one
//! organization at a time.

use wharfage_shared::capacity::{CapacityClass, ComputeClass};

use super::Violation;
use crate::fleet::Fleet;
use crate::words::node::{Health, Intent, Reach};
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Vec<Violation>) {
    for replica in fleet.replicas() {
        let Phase::Placed { seat, since, .. } = &replica.phase else { continue };
        let Some(node) = fleet.node(&seat.node) else {
            let text = format!("{} stands on {}, which is not there", replica.id, seat.node);
            found.push(Violation::new("rows", text));
            continue;
        };
        let placement = replica.placement.as_ref();
        let spot_ground = placement.is_some_and(|why| why.class == CapacityClass::Spot);
        let spot_node = node.compute_class == ComputeClass::Spot;
        if spot_ground != spot_node {
            let text =
                format!("{} stands on {} on the ground of another class", replica.id, node.id);
            found.push(Violation::new("S3", text));
        }
        let serves = node.held_for.as_ref().map(|held| &held.organization);
        if serves != Some(&replica.organization) {
            let text = format!(
                "{} of {} stands on {}, which serves {serves:?}",
                replica.id, replica.organization, node.id
            );
            found.push(Violation::new("S3", text));
        }
        // What was already so before the placement must have stood in its way.
        let noticed = node.notices.values().any(|notice| notice.heard_at < *since);
        let unheard = matches!(node.reach, Reach::Silent | Reach::Lost | Reach::Joining)
            && node.reach_since < *since;
        if noticed || unheard {
            let text =
                format!("{} was placed on {} while it might not be used", replica.id, node.id);
            found.push(Violation::new("S6", text));
        }
    }
    for node in fleet.nodes() {
        let promised = node.slots.iter().any(|slot| slot.promised.is_some());
        let usable = node.reach == Reach::Connected
            && node.health == Health::Fit
            && node.intent == Intent::Open
            && node.notices.is_empty();
        if promised && !usable {
            let text = format!("a promise is bound to {}, which may take nothing", node.id);
            found.push(Violation::new("S6", text));
        }
        if node.departed_at.is_some() {
            for replica in fleet.replicas_on(&node.id) {
                if !matches!(replica.phase, Phase::Stopped { .. }) {
                    let text = format!("{} is open on {}, which has left", replica.id, node.id);
                    found.push(Violation::new("S6", text));
                }
            }
        }
    }
}
