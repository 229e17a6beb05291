//! A gateway between a real scheduler's listener and real guards, on loopback sockets.

mod engine;
mod installation;
mod program;
mod refusals;
mod requests;
mod streams;
mod uplink;
