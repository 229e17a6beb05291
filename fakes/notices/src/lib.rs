//! The notice emulator: the metadata services of the clouds on a loopback port, told by a script
//! what to announce, to take back and how to fail (`docs/notice-emulator.md`).
//!
//! It answers as the clouds do on the wire, wrong answers included: what a client hears from it is
//! what it would hear on a host.

mod announce;
mod aws;
mod azure;
mod gcp;
mod http;
mod moments;
mod others;
mod script;
mod server;
mod world;

pub use announce::Cloud;
pub use script::{BadScript, Script};
pub use server::Emulator;
