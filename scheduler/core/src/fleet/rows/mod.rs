//! The rows of the fleet's tables. Public to read; only `apply` writes them.

pub mod access;
pub mod claim;
pub mod deployment;
pub mod drill;
pub mod gateway;
pub mod interruptions;
pub mod meter;
pub mod node;
pub mod rarely;
pub mod replica;
pub mod revisions;
pub mod slots;
