//! The lowest floor: what things are called and which values they may have.

pub mod command;
pub mod contract;
pub mod deployment;
pub mod gateway;
pub mod node;
pub mod principal;
pub mod refusal;
pub mod replica;
