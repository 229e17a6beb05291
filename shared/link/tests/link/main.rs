//! Both ends of the transport, on real sockets.

mod common;
mod data_path;
mod joining;
mod limits;
