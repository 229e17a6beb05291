//! The scheduler's core in a small world: stories that name a rule, and random worlds in which
//! every rule is checked after every step.

mod stories;
mod world;

mod broken;
mod random;
