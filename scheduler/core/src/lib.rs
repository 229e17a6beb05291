//! Decides for the fleet: what is placed where, what leaves, what each node is told, and why.
//!
//! Pure: it is told the time and what was seen, and answers what should be, with reasons. Floors:
//! words, fleet, capacity, policies, reconcile, controller; a file imports from lower floors only.

pub mod words;
