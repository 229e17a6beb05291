//! The step that empties nodes which may be taken away, a few at a time.

use super::plan::Plan;
use crate::policies::hints;
use crate::words::event::node::Event;
use crate::words::node::Doubt;

pub(super) fn fleet(plan: &mut Plan<'_>) {
    let at = plan.now;
    for node in hints::turns(plan.fleet, plan.policy) {
        plan.record(Event::Doubted { node, doubt: Doubt::LeavesEarly, at });
    }
}
