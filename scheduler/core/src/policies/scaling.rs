//! How many replicas a deployment is to have: its min, or none when it is switched off or deleted.

use crate::fleet::rows::deployment::DeploymentRow;
use crate::words::because::scaling::DesiredBecause;

/// A number with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many.
    pub desired: u32,
    /// Why.
    pub because: DesiredBecause,
}

/// How many replicas the deployment is to have.
pub fn decide(deployment: &DeploymentRow) -> Decision {
    let spec = &deployment.spec;
    if deployment.deleting.is_some() {
        Decision { desired: 0, because: DesiredBecause::Deleted }
    } else if spec.disabled {
        Decision { desired: 0, because: DesiredBecause::Disabled }
    } else {
        Decision { desired: spec.scaling.bounds.min(), because: DesiredBecause::AtMin }
    }
}
