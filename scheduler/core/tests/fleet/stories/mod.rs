//! Each story states one rule. The world checks all the others after every step of it.

mod capacity;
mod claims;
mod consolidation;
mod contracts;
mod doubts;
mod drill_effects;
mod drill_times;
pub mod drills;
mod dry_run;
mod expected;
mod explain;
mod facts;
mod gangs;
mod health;
mod hints;
mod leaving;
mod lending;
mod life;
mod memory;
mod nearness;
mod nodes;
mod placement;
mod pools;
mod preemption;
mod protocol;
mod scaling;
mod spot_return;
