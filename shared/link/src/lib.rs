//! The transport that both ends of the machines' protocol share: one authority, short-lived
//! certificates, a server that sheds slow and malformed clients, and a client that pins whom it
//! speaks to.
//!
//! The rule it guards: nothing secret is sent before the other end has proven that it belongs to
//! the authority named in the join string, and no peer's name is taken from anything but its
//! certificate.

pub mod authority;
pub mod client;
pub mod decode;
pub mod enroll;
pub mod files;
mod head;
pub mod identity;
pub mod peer;
mod reload;
pub mod server;
pub mod socket;
pub mod tls;
mod verify;

pub use authority::Authority;
pub use client::{ClientError, MachineClient};
pub use decode::Decoder;
pub use enroll::EnrollError;
pub use identity::IdentityDir;
pub use peer::{Peer, PeerName};
pub use server::{Limits, ServerTls, serve};
pub use verify::RENEWABLE_AFTER_END;
