//! Decisions: each reads the fleet and returns owned answers with their reasons. None changes
//! anything and none knows another.

pub mod autoscale;
pub mod brake;
pub mod claims;
pub mod consolidation;
pub mod doubts;
pub mod evacuation;
pub mod health;
pub mod hints;
pub mod partition;
pub mod placement;
pub mod preemption;
pub mod queue;
pub mod reclaim;
pub mod relief;
pub mod repair;
pub mod rollout;
pub mod scaling;
pub mod spot_return;
pub mod surplus;
