//! Hooks: programs of the node's owner, named over the network only by a local id.

pub mod checkpoint;
pub mod definition;
pub mod run;

pub use definition::Definition;
