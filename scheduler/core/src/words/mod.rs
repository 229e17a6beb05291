//! The lowest floor: what things are called and which values they may have.

pub mod because;
pub mod catalogue;
pub mod claim;
pub mod command;
pub mod contract;
pub mod deployment;
pub mod drill;
pub mod event;
pub mod gateway;
pub mod gpus;
pub mod node;
pub mod policy;
pub mod principal;
pub mod quota;
pub mod refusal;
pub mod replica;
