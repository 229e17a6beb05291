//! Words that cross a process boundary: what the agent, the scheduler, the gateway and the command
//! line say to each other.
//!
//! Between our programs unknown fields are ignored and counted (`wharfage_link::decode`), so that
//! version N and N-1 work together; what
//! people write is parsed elsewhere and refused with the unknown key named.

pub mod capacity;
pub mod causes;
mod compact;
pub mod drill;
pub mod enroll;
pub mod gateway;
pub mod health;
pub mod heartbeat;
pub mod ids;
pub mod logs;
pub mod notice;
pub mod order;
pub mod replica;
pub mod segment;
mod tagged;
pub mod telemetry;
mod text;
pub mod time;
pub mod version;
