//! Leaving by a deadline: the plan of what each replica does when, and the story of what came of it.

pub mod plan;
mod search;
mod story;

pub(crate) use story::Evacuation;
