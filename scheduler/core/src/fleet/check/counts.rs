//! S2: no more replicas are started than `max` and a rollout's surge allow. What leaves, or stands
//! on a node that is lost, under a notice or being emptied, does not count. Of a single copy no
//! second one is started while the first may run.

use super::Violation;
use crate::fleet::Fleet;
use crate::words::node::{Intent, Reach};
use crate::words::replica::Phase;

pub(super) fn check(fleet: &Fleet, found: &mut Vec<Violation>) {
    for deployment in fleet.deployments() {
        let (mut counted, mut fresh) = (0, 0);
        for replica in fleet.replicas_of(&deployment.id) {
            let Phase::Placed { seat, since, .. } = &replica.phase else { continue };
            let Some(node) = fleet.node(&seat.node) else { continue };
            let gone = node.reach == Reach::Lost || !node.notices.is_empty();
            let emptied = matches!(node.intent, Intent::Draining { .. } | Intent::Retired);
            // A node that came back brings what was replaced meanwhile: nobody started it now.
            let returned = node.reach_since > *since;
            if !gone && !emptied && !returned {
                counted += 1;
                fresh += u32::from(replica.revision == deployment.revision);
            }
        }
        let spec = &deployment.spec;
        let rollout = spec.extension.rollout;
        let surge = rollout.max_surge.max(u32::from(rollout.max_unavailable == 0));
        let most = spec.scaling.bounds.max();
        // A lowered max is reached by leaving, which the level step begins in the same record.
        if fresh > most || counted > most + surge {
            let text = format!("{} has {counted} replicas, {most} are allowed", deployment.id);
            found.push(Violation::new("S2", text));
        }
    }
}
