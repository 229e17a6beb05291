//! The step that states how many replicas a deployment is to have.

use wharfage_shared::ids::DeploymentId;

use super::plan::Plan;
use crate::policies::scaling;
use crate::words::event::deployment::Event;

pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    let Some(row) = plan.fleet.deployment(id) else { return };
    let decision = scaling::decide(row);
    if row.desired != decision.desired || row.because != decision.because {
        let (deployment, at) = (id.clone(), plan.now);
        let scaling::Decision { desired, because } = decision;
        plan.record(Event::Scaled { deployment, desired, because, at });
    }
}
