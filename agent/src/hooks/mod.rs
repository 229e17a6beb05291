//! Hooks: programs of the node's owner, named over the network only by a local id.

pub mod builtin;
pub mod checkpoint;
pub mod definition;
pub mod gpu_checkpoint;
pub mod keeper;
pub mod run;
pub mod settings;
pub mod store;
pub mod user;

pub use definition::Definition;
