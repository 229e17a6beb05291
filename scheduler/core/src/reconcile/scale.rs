//! The step that states how many replicas a deployment is to have.

use wharfage_shared::ids::DeploymentId;

use super::loads::Hearing;
use super::plan::Plan;
use crate::policies::scaling;
use crate::words::because::scaling::DesiredBecause;
use crate::words::event::deployment::Event;

pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    let Some(row) = plan.fleet.deployment(id) else { return };
    let live = plan.loads.of(id);
    let by_load = live
        .and_then(|live| live.decision)
        .map(|decided| scaling::Decision { desired: decided.desired, because: decided.because });
    let decision = scaling::decide(row, by_load);
    let scaling::Decision { desired, because } = decision;
    // A load's reasons come and go with it: they are facts where they change the count.
    let turned = row.because != because && (is_a_state(row.because) || is_a_state(because));
    if row.desired != desired || turned {
        let on = live.and_then(|live| live.scaled_on()).filter(|_| by_load == Some(decision));
        let (deployment, at) = (id.clone(), plan.now);
        plan.record(Event::Scaled { deployment, desired, because, on, at });
    }
    let hearing = Hearing::of(plan.fleet, plan.gateways, plan.began, plan.now);
    if let Some(row) = plan.fleet.deployment(id) {
        plan.loads.follow(row, plan.gateways, hearing, plan.now);
    }
}

/// Whether a reason says what the deployment is, and not what its load is.
fn is_a_state(because: DesiredBecause) -> bool {
    match because {
        DesiredBecause::New | DesiredBecause::Disabled | DesiredBecause::Deleted => true,
        DesiredBecause::AtMin
        | DesiredBecause::Woken
        | DesiredBecause::DemandAboveTarget
        | DesiredBecause::DemandBelowTarget
        | DesiredBecause::WithinTarget
        | DesiredBecause::AtMax
        | DesiredBecause::WaitingForScaleDownDelay
        | DesiredBecause::NoReading => false,
    }
}
