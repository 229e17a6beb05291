//! The public listener over real sockets, in front of a real driver with a real log.

mod access;
mod bad;
mod baseten;
mod coreweave;
mod dashboard;
mod drills;
mod events;
mod holders;
mod keys;
mod lines;
mod money;
mod own;
mod support;
mod terraform;
mod tls;
mod webhooks;
