//! The hands of the node: they carry out what `wharfage-agent-core` decides and tell it what
//! happened. Replicas outlive this process; everything it must know again is on disk.

pub mod bad_key;
pub mod config;
pub mod cuda;
pub mod cuda_checkpoint;
pub mod daemon;
pub mod doctor;
pub mod drivers;
pub mod engines;
pub mod exit;
pub mod gpu;
pub mod guard;
pub mod health;
pub mod hooks;
pub mod inventory;
pub mod journal;
pub mod notices;
pub mod pci;
pub mod plain;
pub mod probe;
pub mod reload;
pub mod runtime;
pub mod status;
pub mod supervised;
pub mod uplink;
pub mod users;
pub mod weights;

#[cfg(test)]
mod strange_input;
#[cfg(test)]
mod testing;
