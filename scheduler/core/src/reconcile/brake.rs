//! The step that pulls and releases the brakes of health rules, before anything is emptied.

use super::plan::Plan;
use crate::policies::brake;
use crate::words::event::node::Event;

pub(super) fn fleet(plan: &mut Plan<'_>) {
    let brake::Decision { pulled, released, of } = brake::decide(plan.fleet, plan.policy, plan.now);
    let at = plan.now;
    for (rule, nodes) in pulled {
        plan.record(Event::BrakePulled { rule, nodes, of, at });
    }
    for rule in released {
        let because = "it hits fewer nodes again".to_owned();
        plan.record(Event::BrakeReleased { rule, because, at });
    }
}
