//! How many replicas a deployment is to have: none when it is switched off or deleted, else what its
//! load wants, within its bounds.

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

/// How many replicas the deployment is to have; `by_load` is what its load wants, where that is
/// followed. Without a load it keeps what it has.
pub fn decide(deployment: &DeploymentRow, by_load: Option<Decision>) -> Decision {
    let spec = &deployment.spec;
    if deployment.deleting.is_some() {
        return Decision { desired: 0, because: DesiredBecause::Deleted };
    }
    if spec.disabled {
        return Decision { desired: 0, because: DesiredBecause::Disabled };
    }
    let (bounds, before) = (spec.scaling.bounds, deployment.desired);
    let kept = Decision { desired: before, because: deployment.because };
    let Decision { desired, because } = by_load.unwrap_or(kept);
    // The settings may be newer than the decision.
    match bounds.clamp(desired) {
        count if count == bounds.min() && (count != desired || by_load.is_none()) => {
            Decision { desired: count, because: DesiredBecause::AtMin }
        }
        count if count != desired => Decision { desired: count, because: DesiredBecause::AtMax },
        count => Decision { desired: count, because },
    }
}
