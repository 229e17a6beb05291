//! The step that gives nodes their turn to be repaired.

use super::plan::Plan;
use crate::policies::repair;
use crate::words::event::node::Event;
use crate::words::node::Doubt;

pub(super) fn fleet(plan: &mut Plan<'_>) {
    let repair::Turns { ended, begun } = repair::turns(plan.fleet, plan.policy, plan.now);
    let at = plan.now;
    for (node, incident) in ended {
        plan.record(Event::Doubted { node, doubt: Doubt::RepairEnded { incident }, at });
    }
    for (node, incident) in begun {
        plan.record(Event::Doubted { node, doubt: Doubt::RepairBegun { incident }, at });
    }
}
