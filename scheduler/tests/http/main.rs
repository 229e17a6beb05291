//! The public listener over real sockets, in front of a real driver with a real log.

mod access;
mod baseten;
mod claims;
mod coreweave;
mod dashboard;
mod events;
mod money;
mod own;
mod support;
mod tls;
